//! Many partners' wishes for few profiles cost few vendor calls.

use std::time::Duration;

use super::fleet::{Fleet, profile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_for_fifty_profiles_cost_fifty_vendor_calls_and_bring_a_thousand_callbacks() {
    let fleet = Fleet::start(&[]).await;
    let _worker = fleet.process(&["worker"]);
    let accepted = fleet.enrich((0..1_000).map(|number| profile(number % 50))).await;

    let told = fleet.all_told(&accepted, Duration::from_secs(60)).await;

    assert_eq!(told.len(), 1_000);
    assert!(told.values().all(|told| told.body()["status"] == "completed"));
    assert_eq!(fleet.vendor().await.count, 50);
}
