//! A vendor that fails in every way there is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::fleet::{Fleet, profile};

/// The vendor's timeout in this test.
const TIMEOUT_MS: u64 = 1_500;
/// Until a call that the client gave up is seen to have ended by the fake.
const SLACK_MS: u64 = 500;
/// How often the vendor fails with one profile at the most.
const FAILURES_MAX: u64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_as_it_should_though_half_of_all_vendor_calls_fail() {
    let fleet = Fleet::start(&[("MILLPOND_METER__TIMEOUT_MS", "1500")]).await;
    let share = |share: f64, fault: Value| {
        // Then the vendor is well with that profile: each further attempt waits twice as long as the last.
        json!({ "vendor": "meter", "share": share, "firstOfHandle": FAILURES_MAX, "fault": fault })
    };
    let faults = json!([
        share(0.3, json!({ "kind": "status", "status": 503 })),
        share(0.2, json!({ "kind": "status", "status": 429, "retryAfter": "1" })),
        share(0.05, json!({ "kind": "malformed" })),
        share(0.01, json!({ "kind": "hang" })),
    ]);
    fleet.faults(faults).await;
    let _worker = fleet.process(&["worker"]);
    let wishes = (0..60).map(profile);
    let wishes = wishes.chain((0..5).map(|number| format!("tiktok.com/@missing.{number}")));
    let wishes = wishes.chain((0..5).map(|number| format!("instagram.com/private.{number}")));
    let accepted = fleet.enrich(wishes).await;

    let told = fleet.all_told(&accepted, Duration::from_secs(60)).await;

    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for told in told.values() {
        let body = told.body();
        let end = body["error"]["code"].as_str().or(body["status"].as_str()).unwrap();
        *ends.entry(end.to_owned()).or_default() += 1;
    }
    let expected = [("NOT_FOUND".to_owned(), 10), ("completed".to_owned(), 60)];
    assert_eq!(ends, BTreeMap::from(expected));
    let vendor = fleet.vendor().await;
    assert!(vendor.count > 70, "no call was repeated: {vendor:?}");
    assert!(vendor.longest_ms <= TIMEOUT_MS + SLACK_MS, "a call outlived its timeout: {vendor:?}");
}
