//! The meter's client against the sandbox, over real HTTP: what it reads, and what each fault looks like to it.

use std::time::{Duration, Instant};

use kernel::Platform;
use kernel::profile_url::ProfileUrl;
use sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use vendors::VendorError;
use vendors::meter::{Meter, MeterSettings};

use crate::support::SandboxControls;

const TOKEN: &str = "let-me-in";
/// Long enough for anything that answers at all.
const PATIENT: Duration = Duration::from_secs(20);

struct Stage {
    sandbox: Sandbox,
    controls: SandboxControls,
}

impl Stage {
    async fn set() -> Self {
        let options = SandboxOptions { token: TOKEN.to_owned(), ..SandboxOptions::default() };
        let sandbox = sandbox::start(options).await.unwrap();
        Self { controls: SandboxControls::of(&sandbox), sandbox }
    }

    async fn with_fault(fault: Value) -> Self {
        let stage = Self::set().await;
        stage.controls.faults(json!([{"vendor": "meter", "fault": fault}])).await;
        stage
    }

    fn meter(&self, timeout: Duration) -> Meter {
        self.meter_with_token(timeout, TOKEN)
    }

    fn meter_with_token(&self, timeout: Duration, token: &str) -> Meter {
        Meter::new(MeterSettings { base_url: self.sandbox.meter_url(), token: token.to_owned(), timeout })
            .unwrap()
    }

    async fn calls(&self) -> Value {
        self.controls.calls("").await
    }

    async fn calls_made(&self) -> u64 {
        self.calls().await["total"].as_u64().unwrap()
    }

    /// One enrich that is expected to fail, and how often the vendor was asked for it.
    async fn failing(&self, timeout: Duration) -> (VendorError, u64) {
        let error = self.meter(timeout).enrich(&amy(), None, "job-1").await.unwrap_err();
        (error, self.calls_made().await)
    }
}

fn url(text: &str) -> ProfileUrl {
    ProfileUrl::parse(text).unwrap()
}

fn amy() -> ProfileUrl {
    url("https://www.tiktok.com/@amy.codes")
}

// S0-018, S0-330, S0-334
#[tokio::test]
async fn every_platform_and_form_of_name_is_enriched() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    for (n, (text, platform, username)) in [
        ("https://www.tiktok.com/@Amy.Codes", Platform::Tiktok, "amy.codes"),
        ("instagram.com/amy_codes/", Platform::Instagram, "amy_codes"),
        ("https://youtube.com/@amy", Platform::Youtube, "Amy"),
        ("https://www.youtube.com/@%E6%9D%8E%E5%AD%90%E6%9F%92", Platform::Youtube, "李子柒"),
        ("facebook.com/amy.codes", Platform::Facebook, "Amy.Codes"),
    ]
    .into_iter()
    .enumerate()
    {
        let profile = meter.enrich(&url(text), None, &format!("job-{n}")).await.unwrap();
        assert_eq!((profile.platform, profile.username.as_str()), (platform, username), "{text}");
    }
    for text in
        ["https://www.youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA", "facebook.com/profile.php?id=100044"]
    {
        let profile = meter.enrich(&url(text), None, text.rsplit('/').next().unwrap()).await.unwrap();
        assert!(profile.username.starts_with("Creator"), "{text}");
    }
}

#[tokio::test]
async fn the_ways_to_name_one_creator_lead_to_one_vendor_id() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    let by_handle = meter.enrich(&url("https://www.youtube.com/@mkbhd"), None, "job-1").await.unwrap();
    let by_name = meter.enrich(&url("https://www.youtube.com/c/mkbhd"), None, "job-2").await.unwrap();
    assert_eq!(by_handle.profile_id, by_name.profile_id);
}

#[tokio::test]
async fn a_profile_is_the_same_for_every_sandbox_and_can_be_got_by_its_id() {
    let (one, other) = (Stage::set().await, Stage::set().await);
    let mut nights = 0..;
    let (mut first, again) = loop {
        let key = format!("job-{}", nights.next().unwrap());
        let first = one.meter(PATIENT).enrich(&amy(), None, &key).await.unwrap();
        let again = other.meter(PATIENT).enrich(&amy(), None, &key).await.unwrap();
        // Values drift by day, and midnight may lie between the two.
        if first.crawled_at.date_naive() == again.crawled_at.date_naive() {
            break (first, again);
        }
    };
    first.crawled_at = again.crawled_at;
    assert_eq!(first, again);

    let got = other.meter(PATIENT).get(&first.profile_id, None).await.unwrap();
    assert_eq!((got.profile_id, got.username), (first.profile_id, first.username));
    assert!(got.crawled_at <= again.crawled_at);
}

#[tokio::test]
async fn private_and_missing_profiles_are_final_answers() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    let private = meter.enrich(&url("tiktok.com/@private_amy"), None, "job-1").await.unwrap_err();
    assert!(matches!(private, VendorError::Private), "{private}");
    let missing = meter.enrich(&url("tiktok.com/@missing_amy"), None, "job-2").await.unwrap_err();
    assert!(matches!(missing, VendorError::NotFound), "{missing}");
    let unknown = meter.get("vb_prof_nobody", None).await.unwrap_err();
    assert!(matches!(unknown, VendorError::NotFound), "{unknown}");
    assert!(!private.is_retryable() && !missing.is_retryable());
    assert_eq!(stage.calls_made().await, 3);
}

#[tokio::test]
async fn a_batch_gives_every_id_its_own_outcome_in_the_order_asked() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        let address = url(&format!("https://www.instagram.com/{name}"));
        ids.push(meter.enrich(&address, None, &format!("job-{name}")).await.unwrap().profile_id);
    }
    ids.insert(1, "vb_prof_unknown".to_owned());

    let refreshed = meter.refresh_batch(&ids, None, "batch-1").await.unwrap();
    let answered: Vec<&String> = refreshed.iter().map(|entry| &entry.profile_id).collect();
    assert_eq!(answered, ids.iter().collect::<Vec<_>>());
    assert!(matches!(refreshed[1].outcome, Err(VendorError::NotFound)));
    for at in [0, 2, 3] {
        assert_eq!(refreshed[at].outcome.as_ref().unwrap().profile_id, ids[at]);
    }
}

#[tokio::test]
async fn a_hundred_ids_are_a_batch_and_what_is_none_is_not_sent() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    let ids: Vec<String> = (0..101).map(|n| format!("vb_prof_{n}")).collect();
    assert_eq!(meter.refresh_batch(&ids[..100], None, "batch-1").await.unwrap().len(), 100);
    let twice = ["vb_prof_1".to_owned(), "vb_prof_1".to_owned()];
    for batch in [&ids[..], &[], &twice, &["..".to_owned()], &["a b".to_owned()]] {
        let error = meter.refresh_batch(batch, None, "batch-2").await.unwrap_err();
        assert!(matches!(error, VendorError::Rejected { .. }), "{error}");
    }
    assert_eq!(stage.calls_made().await, 1);
}

#[tokio::test]
async fn a_rate_limit_is_handed_on_with_its_wait_and_not_tried_again_in_the_call() {
    let stage = Stage::with_fault(json!({"kind": "status", "status": 429, "retryAfter": "7"})).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert!(matches!(error, VendorError::RateLimited { .. }) && error.is_retryable(), "{error}");
    assert_eq!((error.retry_after(), calls), (Some(Duration::from_secs(7)), 1));
}

#[tokio::test]
async fn the_meters_own_window_is_a_rate_limit_until_the_next_minute() {
    let stage = Stage::set().await;
    stage.controls.put("limits", json!({"perMinute": 0})).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert!(
        error
            .retry_after()
            .is_some_and(|wait| wait >= Duration::from_secs(1) && wait <= Duration::from_secs(60))
    );
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn a_server_error_is_tried_three_times_in_all() {
    let stage = Stage::with_fault(json!({"kind": "status", "status": 500})).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert!(matches!(error, VendorError::Server { status: 500, .. }) && error.is_retryable(), "{error}");
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn a_server_error_that_names_a_wait_is_not_tried_again_in_the_call() {
    let stage = Stage::with_fault(json!({"kind": "status", "status": 503, "retryAfter": "30"})).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert_eq!((error.retry_after(), calls), (Some(Duration::from_secs(30)), 1));
}

#[tokio::test]
async fn faults_that_pass_quickly_are_not_even_noticed() {
    for fault in [
        json!({"kind": "status", "status": 502}),
        json!({"kind": "drop"}),
        json!({"kind": "malformed"}),
        json!({"kind": "truncated"}),
    ] {
        let stage = Stage::set().await;
        stage.controls.faults(json!([{"first": 2, "fault": fault}])).await;
        let profile = stage.meter(PATIENT).enrich(&amy(), None, "job-1").await.unwrap();
        assert_eq!(profile.username, "amy.codes");
        assert_eq!(stage.calls_made().await, 3, "{fault}");
    }
}

#[tokio::test]
async fn broken_bodies_are_malformed_answers() {
    for fault in [
        json!({"kind": "malformed"}),
        json!({"kind": "truncated"}),
        json!({"kind": "oversized", "bytes": 5_000_000}),
    ] {
        let stage = Stage::with_fault(fault.clone()).await;
        let (error, calls) = stage.failing(PATIENT).await;
        assert!(matches!(error, VendorError::Malformed { .. }) && error.is_retryable(), "{fault} {error}");
        assert_eq!(calls, 3, "{fault}");
    }
}

#[tokio::test]
async fn a_dropped_connection_is_a_failed_connection() {
    let stage = Stage::with_fault(json!({"kind": "drop"})).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert!(matches!(error, VendorError::Connect { .. }) && error.is_retryable(), "{error:?}");
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn a_vendor_that_is_not_there_is_a_failed_connection() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    stage.sandbox.shutdown().await;
    let error = meter.enrich(&amy(), None, "job-1").await.unwrap_err();
    assert!(matches!(error, VendorError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_vendor_that_hangs_is_left_at_the_deadline_and_not_asked_again() {
    for fault in [json!({"kind": "hang"}), json!({"kind": "slow_body", "ms": 60_000})] {
        let stage = Stage::with_fault(fault.clone()).await;
        let began = Instant::now();
        let (error, calls) = stage.failing(Duration::from_millis(300)).await;
        assert!(matches!(error, VendorError::Timeout) && error.is_retryable(), "{fault} {error:?}");
        assert!(began.elapsed() >= Duration::from_millis(300), "{fault}");
        assert!(began.elapsed() < Duration::from_secs(10), "{fault}");
        assert_eq!(calls, 1, "{fault}");
    }
}

#[tokio::test]
async fn retries_never_outlast_the_deadline() {
    let stage = Stage::set().await;
    let rules = json!([
        {"first": 1, "fault": {"kind": "status", "status": 500}},
        {"fault": {"kind": "hang"}}]);
    stage.controls.faults(rules).await;
    let began = Instant::now();
    let (error, calls) = stage.failing(Duration::from_secs(2)).await;
    assert!(matches!(error, VendorError::Timeout), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(calls, 2);

    // Where no pause fits, the fault itself is told instead of a timeout.
    let stage = Stage::with_fault(json!({"kind": "status", "status": 500})).await;
    let (error, calls) = stage.failing(Duration::from_millis(90)).await;
    assert!(matches!(error, VendorError::Server { .. } | VendorError::Timeout), "{error:?}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized_once() {
    let stage = Stage::set().await;
    let error = stage.meter_with_token(PATIENT, "wrong").enrich(&amy(), None, "job-1").await.unwrap_err();
    assert!(matches!(error, VendorError::Unauthorized), "{error}");
    assert_eq!(stage.calls_made().await, 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let stage = Stage::set().await;
    let location = stage.sandbox.inbox_url("thief");
    let rule = json!({"vendor": "meter", "fault": {"kind": "status", "status": 307, "location": location}});
    stage.controls.faults(json!([rule])).await;
    let (error, calls) = stage.failing(PATIENT).await;
    assert!(matches!(error, VendorError::Rejected { status: 307, .. }) && !error.is_retryable(), "{error}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn a_wrong_base_address_is_not_taken_for_a_missing_profile() {
    let stage = Stage::set().await;
    let settings = MeterSettings {
        base_url: format!("{}/elsewhere/", stage.sandbox.url()),
        token: TOKEN.to_owned(),
        timeout: PATIENT,
    };
    let error = Meter::new(settings).unwrap().enrich(&amy(), None, "job-1").await.unwrap_err();
    assert!(matches!(error, VendorError::Rejected { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_crawl() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    let first = meter.enrich(&amy(), None, "job-1").await.unwrap();
    assert_eq!(meter.enrich(&amy(), None, "job-1").await.unwrap(), first);
    let reused = meter.enrich(&url("tiktok.com/@bob"), None, "job-1").await.unwrap_err();
    assert!(
        matches!(&reused, VendorError::Rejected { status: 422, code, .. } if code == "idempotency_key_reused")
    );
    let unsendable = meter.enrich(&amy(), None, "no spaces").await.unwrap_err();
    assert!(matches!(unsendable, VendorError::Rejected { status: 400, .. }), "{unsendable}");
    assert_eq!(stage.calls_made().await, 3);
}

#[tokio::test]
async fn the_request_id_reaches_the_vendor_unless_no_header_can_hold_it() {
    let stage = Stage::set().await;
    let meter = stage.meter(PATIENT);
    meter.enrich(&amy(), Some("req-42"), "job-1").await.unwrap();
    let calls = stage.calls().await;
    assert_eq!(calls["calls"][0]["handle"], "amy.codes");
    assert_eq!(calls["calls"][0]["lastRequestId"], "req-42");
    assert_eq!(calls["calls"][0]["statuses"], json!({"200": 1}));
    meter.enrich(&amy(), Some("two\nlines"), "job-2").await.unwrap();
}

#[tokio::test]
async fn many_calls_at_once_all_end_and_are_counted() {
    let stage = Stage::set().await;
    let rules = json!([
        {"share": 0.3, "fault": {"kind": "status", "status": 500}},
        {"share": 0.05, "fault": {"kind": "malformed"}},
        {"fault": {"kind": "latency", "ms": 20, "jitterMs": 20}}]);
    stage.controls.put("faults", json!({"seed": 3, "rules": rules})).await;
    let meter = stage.meter(PATIENT);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let meter = meter.clone();
        tasks.spawn(async move {
            let address = url(&format!("https://www.tiktok.com/@crowd{n}"));
            meter.enrich(&address, None, &format!("job-{n}")).await
        });
    }
    let outcomes = tasks.join_all().await;
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(served >= 80, "{served}");

    let calls = stage.calls().await;
    let vendor = &calls["vendors"][0];
    assert_eq!((vendor["vendor"].as_str(), vendor["inFlight"].as_u64()), (Some("meter"), Some(0)));
    assert!(vendor["concurrentMax"].as_u64().unwrap() > 1);
    assert!(vendor["longestMs"].as_u64().unwrap() >= 20);
    assert_eq!(calls["calls"].as_array().unwrap().len(), 100);
    assert!(calls["total"].as_u64().unwrap() > 100);
}

#[test]
fn every_try_is_counted_by_its_outcome_and_timed() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let stage = Stage::set().await;
            let fault = json!({"kind": "status", "status": 500});
            stage.controls.faults(json!([{"first": 2, "fault": fault}])).await;
            stage.meter(PATIENT).enrich(&amy(), None, "job-1").await.unwrap();
        });
    });
    let text = recorder.handle().render();
    for line in [
        r#"millpond_vendor_calls_total{vendor="meter",operation="enrich",outcome="server"} 2"#,
        r#"millpond_vendor_calls_total{vendor="meter",operation="enrich",outcome="ok"} 1"#,
        r#"millpond_vendor_call_duration_seconds_count{vendor="meter",operation="enrich"} 3"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}
