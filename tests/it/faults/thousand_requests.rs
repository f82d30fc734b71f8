//! Many partners' wishes for few profiles cost few vendor calls.

use std::time::Duration;

use super::fleet::{Fleet, profile};

/// Of the fifty profiles, these last ones do not exist.
const MISSING: usize = 5;

// S0-173
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_for_fifty_profiles_cost_fifty_vendor_calls_and_bring_a_thousand_callbacks() {
    let fleet = Fleet::start(&[]).await;
    let _worker = fleet.process(&["worker"]);
    let wish = |number: usize| match number % 50 {
        missing if missing >= 50 - MISSING => format!("tiktok.com/@missing.{missing}"),
        number => profile(number),
    };
    let accepted = fleet.enrich((0..1_000).map(wish)).await;

    let told = fleet.all_told(&accepted, Duration::from_secs(60)).await;

    let completed = told.values().filter(|told| told.body()["status"] == "completed").count();
    let not_found = told.values().filter(|told| told.body()["error"]["code"] == "NOT_FOUND").count();
    assert_eq!((told.len(), completed, not_found), (1_000, 20 * (50 - MISSING), 20 * MISSING));
    assert_eq!(fleet.vendor().await.count, 50);
}
