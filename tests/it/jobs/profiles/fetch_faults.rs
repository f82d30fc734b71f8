//! `profiles.fetch` while the vendor misbehaves: what is tried again and when, and what is given up with which words.

use std::time::Duration;

use futures::future::join_all;
use queue::{JobRecord, JobStatus};
use serde_json::{Value, json};

use crate::jobs::stage::*;

/// Attempts of a fetch.
const ATTEMPTS_MAX: i16 = 8;

/// A wish and its fetch's first attempt.
async fn first_attempt(stage: &Stage) -> (Asked, JobRecord) {
    let asked = stage.ask(AMY, Some("told")).await;
    stage.kit.run_one::<Enrich>().await;
    (asked, stage.kit.run_one::<Fetch>().await)
}

/// Attempts until the fetch has ended.
async fn until_the_end(stage: &Stage, mut fetch: JobRecord) -> JobRecord {
    while !fetch.status.has_ended() {
        stage.make_due(fetch.id).await;
        fetch = stage.kit.run_one::<Fetch>().await;
    }
    fetch
}

/// The one callback of the wish.
async fn told(stage: &Stage) -> Value {
    stage.kit.run_one::<Deliver>().await;
    let told = stage.controls.callbacks("told").await;
    assert_eq!(told.len(), 1);
    told[0].verified(&stage.partner.webhook_secret)
}

#[tokio::test]
async fn private_and_missing_profiles_are_not_found_at_once() {
    let stage = Stage::new().await;
    for handle in ["private.amy", "missing.amy"] {
        let url = format!("https://www.tiktok.com/@{handle}");
        let asked = stage.ask(&url, Some(handle)).await;
        stage.kit.run_one::<Enrich>().await;
        let fetch = stage.kit.run_one::<Fetch>().await;
        assert_eq!((fetch.status, fetch.attempts, failure_code(&fetch)), (JobStatus::Failed, 1, "NOT_FOUND"));
        let job = stage.record(asked).await;
        assert_eq!((job.status, &job.failure), (JobStatus::Failed, &fetch.failure));
        stage.kit.run_one::<Deliver>().await;
        let told = stage.controls.callbacks(handle).await[0].verified(&stage.partner.webhook_secret);
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("NOT_FOUND")));
        assert!(!told["error"]["message"].as_str().unwrap().contains(handle));
        assert_eq!(stage.controls.enriched(handle).await, 1);
    }
    assert_eq!(pool_entries(&stage).await, 0);
}

#[tokio::test]
async fn a_known_profile_that_became_private_is_not_found_rather_than_stale() {
    let stage = Stage::new().await;
    let first = stage.crawled("https://www.tiktok.com/@amy.codes").await;
    assert_eq!(stage.record(first).await.status, JobStatus::Completed);
    // The creator takes a name that the sandbox keeps private.
    sqlx::query!(
        "update pool_crawls set lookup_key = '@private.amy', crawled_at = crawled_at - interval '25 h'"
    )
    .execute(stage.pool())
    .await
    .unwrap();
    let asked = stage.ask("https://www.tiktok.com/@private.amy", None).await;
    stage.kit.run_one::<Enrich>().await;
    stage.kit.run_one::<Fetch>().await;
    assert_eq!(failure_code(&stage.record(asked).await), "NOT_FOUND");
}

#[tokio::test]
async fn the_next_attempt_waits_as_long_as_the_vendor_asks() {
    let stage = Stage::new().await;
    for (n, (status, asked_for, waits)) in [
        (429, Some("7"), Duration::from_secs(7)),
        (503, Some("90"), Duration::from_secs(90)),
        (429, Some("99999999"), Duration::from_secs(24 * 3_600)),
        (429, None, Duration::ZERO),
    ]
    .into_iter()
    .enumerate()
    {
        let mut fault = json!({ "kind": "status", "status": status });
        if let Some(asked_for) = asked_for {
            fault["retryAfter"] = json!(asked_for);
        }
        stage.vendor_fault(fault).await;
        let handle = format!("creator.{n}");
        stage.ask(&format!("https://www.tiktok.com/@{handle}"), None).await;
        stage.kit.run_one::<Enrich>().await;
        let fetch = stage.kit.run_one::<Fetch>().await;
        assert_eq!((fetch.status, fetch.attempts), (JobStatus::Processing, 1));
        assert_eq!(delay(&fetch), waits, "{status} {asked_for:?}");
        assert_eq!(stage.controls.enriched(&handle).await, 1, "no quick retry against the vendor's wish");
        assert!(waits.is_zero() || stage.kit.claim_all(FETCH).await.is_empty(), "it is not claimed before");

        stage.no_faults().await;
        stage.kit.clock.advance(waits).await;
        assert_eq!(stage.kit.run_one::<Fetch>().await.status, JobStatus::Completed);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_is_tried_again_and_the_next_attempt_succeeds() {
    let stage = Stage::new().await;
    let faults = [
        json!({ "kind": "status", "status": 500 }),
        json!({ "kind": "malformed" }),
        json!({ "kind": "truncated" }),
        json!({ "kind": "drop" }),
        json!({ "kind": "oversized", "bytes": 2_000_000 }),
    ];
    let handle = |fault: &Value| format!("met.{}", fault["kind"].as_str().unwrap());
    // Each attempt makes up to three calls.
    let rules =
        faults.iter().map(|fault| json!({ "handle": handle(fault), "firstOfHandle": 3, "fault": fault }));
    stage.controls.faults(rules.collect()).await;
    let mut asked = Vec::new();
    for fault in &faults {
        asked.push(stage.ask(&format!("https://www.tiktok.com/@{}", handle(fault)), None).await);
    }
    stage.kit.run_all::<Enrich>().await;
    for failed in stage.kit.run_all::<Fetch>().await {
        assert_eq!((failed.status, failed.attempts), (JobStatus::Processing, 1), "{failed:?}");
        assert_eq!(failed.errors[0].code, "VENDOR_UNAVAILABLE");
        assert!(!failed.errors[0].chain.is_empty(), "an operator sees what it was");
        stage.make_due(failed.id).await;
    }
    assert_eq!(stage.kit.run_all::<Fetch>().await.len(), faults.len());
    for (asked, fault) in asked.into_iter().zip(&faults) {
        let job = stage.record(asked).await;
        assert_eq!(job.status, JobStatus::Completed, "{fault} {job:?}");
        assert_eq!(stage.controls.enriched(&handle(fault)).await, 4, "{fault}");
    }
}

// S0-085
#[tokio::test]
async fn a_vendor_that_says_nothing_is_left_at_the_time_limit() {
    let stage = Stage::with_meter_timeout(Duration::from_millis(150)).await;
    for fault in [json!({ "kind": "hang" }), json!({ "kind": "slow_body", "ms": 60_000 })] {
        stage.vendor_fault(fault.clone()).await;
        let asked = stage.ask(AMY, None).await;
        stage.kit.run_one::<Enrich>().await;
        let fetch = stage.kit.run_one::<Fetch>().await;
        assert_eq!((fetch.status, fetch.attempts), (JobStatus::Processing, 1), "{fault}");
        assert_eq!(fetch.errors[0].code, "CRAWL_TIMEOUT", "{fault}");
        stage.cancel(fetch.tenant, fetch.id).await;
        assert_eq!(stage.record(asked).await.status, JobStatus::Cancelled);
    }
    // A machine under load may not even get the request out in that time.
    assert!(stage.controls.enriched("amy.codes").await <= 2, "no quick retry");
}

#[tokio::test]
async fn a_vendor_that_is_not_there_and_a_token_that_it_refuses_are_tried_again() {
    let nobody = Stage::with(|services, _| {
        services.meter = meter("http://127.0.0.1:9/meter", Duration::from_secs(5));
    })
    .await;
    let stranger = Stage::with(|services, sandbox| {
        let (base_url, timeout) = (sandbox.meter_url(), Duration::from_secs(5));
        let settings = vendors::meter::MeterSettings { base_url, token: "wrong".to_owned(), timeout };
        services.meter = vendors::meter::Meter::new(settings).unwrap();
    })
    .await;
    for stage in [nobody, stranger] {
        let (_, fetch) = first_attempt(&stage).await;
        assert_eq!((fetch.status, fetch.attempts), (JobStatus::Processing, 1));
        assert_eq!(fetch.errors[0].code, "VENDOR_UNAVAILABLE");
        stage.kit.leaves::<Enrich>(1);
        stage.kit.leaves::<Fetch>(1);
        stage.kit.leaves::<Deliver>(1);
    }
}

#[tokio::test]
async fn a_fetch_whose_attempts_are_used_up_fails_with_the_vendors_fault_and_everybody_is_told() {
    let stage = Stage::new().await;
    stage.vendor_fault(json!({ "kind": "status", "status": 429 })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    let fetch = until_the_end(&stage, fetch).await;
    assert_eq!((fetch.status, fetch.attempts), (JobStatus::Failed, ATTEMPTS_MAX));
    assert_eq!(failure_code(&fetch), "VENDOR_UNAVAILABLE");
    assert_eq!(fetch.errors.len(), 8);
    let numbers: Vec<_> = fetch.errors.iter().map(|error| error.attempt.unwrap()).collect();
    assert_eq!(numbers, (1..=ATTEMPTS_MAX).collect::<Vec<_>>());
    assert_eq!(stage.controls.enriched("amy.codes").await, 8);
    let job = stage.record(asked).await;
    assert_eq!((job.status, &job.failure), (JobStatus::Failed, &fetch.failure));
    let told = told(&stage).await;
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("VENDOR_UNAVAILABLE")));
    assert!(told.get("profile").is_none() && told.get("result").is_none(), "{told}");

    // A failure is not reused: whoever asks next has the vendor asked again.
    stage.no_faults().await;
    stage.crawled(AMY).await;
    assert_eq!(stage.controls.enriched("amy.codes").await, 9);
}

#[tokio::test]
async fn a_vendor_that_never_answers_in_time_ends_as_a_timeout() {
    let stage = Stage::with_meter_timeout(Duration::from_millis(60)).await;
    stage.vendor_fault(json!({ "kind": "hang" })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    let fetch = until_the_end(&stage, fetch).await;
    assert_eq!((fetch.attempts, failure_code(&fetch)), (ATTEMPTS_MAX, "CRAWL_TIMEOUT"));
    assert_eq!(failure_code(&stage.record(asked).await), "CRAWL_TIMEOUT");
    assert_eq!(told(&stage).await["error"]["code"], "CRAWL_TIMEOUT");
}

#[tokio::test]
async fn delays_grow_with_every_attempt() {
    // By hand there is no chance in delays; real ones are drawn below these ceilings.
    let backoff = <jobs::profiles::Fetch as queue::Job>::POLICY.backoff;
    let ceilings: Vec<u64> =
        (1..ATTEMPTS_MAX).map(|attempt| backoff.next_retry(attempt, 1.0, None).as_secs()).collect();
    assert_eq!(ceilings, [2, 4, 8, 16, 32, 64, 128]);
}

// S0-027
#[tokio::test]
async fn the_last_attempt_answers_with_an_older_crawl_and_says_that_it_is_stale() {
    let stage = Stage::new().await;
    let known = stage.crawled(AMY).await;
    stage.age_crawls(25.0).await;
    stage.vendor_fault(json!({ "kind": "status", "status": 429 })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    let fetch = until_the_end(&stage, fetch).await;
    assert_eq!((fetch.status, fetch.attempts), (JobStatus::Completed, ATTEMPTS_MAX), "not before the last");

    let (known, job) = (stage.record(known).await, stage.record(asked).await);
    assert_eq!(job.status, JobStatus::Completed);
    assert_eq!(profile(&job), profile(&known), "with the crawledAt of the old crawl");
    assert_eq!(job.result.as_ref().unwrap()["stale"], true);
    assert!(known.result.unwrap().get("stale").is_none());
    assert_eq!(job.subject, Some(pool_id(&job)));
    let told = told(&stage).await;
    assert_eq!((&told["status"], &told["stale"]), (&json!("completed"), &json!(true)));
    assert_eq!(told["profile"], *profile(&job));

    // An old answer does not become a fresh one.
    stage.no_faults().await;
    let calls = stage.controls.enriched("amy.codes").await;
    let fresh = stage.crawled(AMY).await;
    assert_eq!(stage.controls.enriched("amy.codes").await, calls + 1);
    assert!(stage.record(fresh).await.result.unwrap().get("stale").is_none());
}

#[tokio::test]
async fn a_request_that_the_vendor_refuses_is_answered_with_an_older_crawl_at_once() {
    let stage = Stage::new().await;
    stage.crawled(AMY).await;
    stage.age_crawls(25.0).await;
    let elsewhere = stage.sandbox.inbox_url("thief");
    stage.vendor_fault(json!({ "kind": "status", "status": 307, "location": elsewhere })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    assert_eq!((fetch.status, fetch.attempts), (JobStatus::Completed, 1));
    assert_eq!(stage.record(asked).await.result.unwrap()["stale"], true);
    assert!(stage.controls.callbacks("thief").await.is_empty());
    stage.kit.leaves::<Deliver>(1);
}

#[tokio::test]
async fn a_request_that_the_vendor_refuses_fails_at_once_when_nothing_is_known() {
    let stage = Stage::new().await;
    stage.vendor_fault(json!({ "kind": "status", "status": 422 })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    assert_eq!((fetch.status, fetch.attempts), (JobStatus::Failed, 1));
    assert_eq!(failure_code(&stage.record(asked).await), "VENDOR_UNAVAILABLE");
    stage.kit.leaves::<Deliver>(1);
}

#[tokio::test]
async fn a_crawl_of_more_than_a_year_ago_is_no_answer() {
    let stage = Stage::new().await;
    stage.crawled(AMY).await;
    stage.age_crawls(366.0 * 24.0).await;
    stage.vendor_fault(json!({ "kind": "status", "status": 429 })).await;
    let (asked, fetch) = first_attempt(&stage).await;
    until_the_end(&stage, fetch).await;
    assert_eq!(failure_code(&stage.record(asked).await), "VENDOR_UNAVAILABLE");
    stage.kit.leaves::<Deliver>(1);
}

#[tokio::test]
async fn one_creators_faults_do_not_hold_up_another() {
    let stage = Stage::new().await;
    let fault = json!({ "kind": "status", "status": 503, "retryAfter": "60" });
    stage.controls.faults(json!([{ "vendor": "meter", "handle": "amy.codes", "fault": fault }])).await;
    let asks = [AMY, "https://www.tiktok.com/@bob"].map(|url| stage.ask(url, None));
    let asked = join_all(asks).await;
    stage.kit.run_all::<Enrich>().await;
    stage.kit.run_all::<Fetch>().await;
    assert_eq!(stage.record(asked[0]).await.status, JobStatus::Processing);
    assert_eq!(stage.record(asked[1]).await.status, JobStatus::Completed);
    stage.kit.leaves::<Enrich>(1);
    stage.kit.leaves::<Fetch>(1);
}
