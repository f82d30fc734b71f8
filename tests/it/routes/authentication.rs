//! Who may call (S0-028 to S0-039): credentials are wrong, 401; the partner or its subscription may not, 403.

use std::time::{Duration, Instant};

use config::Sources;
use kernel::ids::ApiKeyId;
use partners::SubscriptionStatus;
use partners::rotation::{list_keys, revoke_key, rotate_key};
use queue::Waker;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::answer::{Answer, steady};
use super::stage::{ENRICH, Stage, profile};
use crate::support::{TestApi, TestDb, TestPartner, eventually};

const JOBS: &str = "/api/v1/jobs";

async fn with(api: &TestApi, id: &str, key: &str) -> Answer {
    Answer::to(api.request(Method::GET, JOBS).header("X-Partner-ID", id).header("X-API-Key", key)).await
}

async fn newest_key(db: &TestDb, partner: &TestPartner) -> ApiKeyId {
    list_keys(&mut db.pool().acquire().await.unwrap(), partner.id, 1).await.unwrap()[0].id
}

async fn rotate(db: &TestDb, partner: &TestPartner, overlap: Duration) -> String {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let new =
        rotate_key(&mut tx, partner.id, overlap, &partners::rotation::KeyTerms::default()).await.unwrap();
    tx.commit().await.unwrap();
    new.api_key.expose().to_owned()
}

async fn set_subscription(db: &TestDb, partner: &TestPartner, status: SubscriptionStatus) {
    sqlx::query!(
        "update partner_subscriptions set status = $2 where tenant_id = $1",
        partner.id.uuid(),
        status.as_str(),
    )
    .execute(db.pool())
    .await
    .unwrap();
}

// S0-001, S0-028, S0-030
#[tokio::test]
async fn the_right_key_opens_the_api_with_the_partners_code_or_its_id() {
    let stage = Stage::new().await;
    for id in [stage.partner.code.clone(), stage.partner.id.to_string()] {
        assert_eq!(with(&stage.api, &id, &stage.partner.key).await.expect(200)["success"], true);
    }
}

// S0-029, S0-031, S0-344
#[tokio::test]
async fn a_request_without_either_header_is_unauthorized() {
    let stage = Stage::new().await;
    let (id, key) = (stage.partner.code.as_str(), stage.partner.key.as_str());
    let ask = || stage.api.request(Method::GET, JOBS);
    let incomplete: [RequestBuilder; 6] = [
        ask(),
        ask().header("X-Partner-ID", id),
        ask().header("X-API-Key", key),
        ask().header("X-Partner-ID", "").header("X-API-Key", key),
        ask().header("X-Partner-ID", id).header("X-API-Key", ""),
        ask().header("X-Partner-ID", id).header("X-API-Key", key).header("X-API-Key", key),
    ];
    for request in incomplete {
        let answer = Answer::to(request).await;
        answer.refusal(401, "UNAUTHORIZED");
        assert_eq!(answer.header("ratelimit"), None, "nobody is known whose rate could be told");
    }
    insta::assert_json_snapshot!("missing_header", steady(Answer::to(ask()).await.json()));
}

// S0-032, S0-034
#[tokio::test]
async fn wrong_credentials_and_unknown_partners_get_one_and_the_same_answer() {
    let stage = Stage::new().await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let (id, key) = (stage.partner.code.as_str(), stage.partner.key.as_str());
    let unknown_key = partners::ApiKey::generate().0;
    let mut mistyped = key.to_owned();
    mistyped.pop();
    let missing = steady(Answer::to(stage.api.request(Method::GET, JOBS)).await.refusal(401, "UNAUTHORIZED"));
    for (id, key) in [
        (id, unknown_key.expose()),
        (id, mistyped.as_str()),
        (id, "wrong"),
        (id, other.key.as_str()),
        (other.code.as_str(), key),
        ("nobody", key),
        ("ptn_00000000000000000000000000", key),
    ] {
        let refused = with(&stage.api, id, key).await.refusal(401, "UNAUTHORIZED");
        assert_eq!(steady(refused), missing, "{id}");
    }
}

#[tokio::test]
async fn credentials_are_asked_for_before_a_request_is_judged() {
    let stage = Stage::new().await;
    let absent = "/api/v1/jobs/job_00000000000000000000000000";
    for (method, path) in [
        (Method::GET, "/api/v1/jobs?unknown=1"),
        (Method::GET, "/api/v1/jobs/key_wrong"),
        (Method::GET, absent),
        (Method::POST, "/api/v1/jobs/key_wrong/cancel"),
        (Method::POST, ENRICH),
    ] {
        Answer::to(stage.api.request(method, path)).await.refusal(401, "UNAUTHORIZED");
    }
}

// S0-033, S0-037
#[tokio::test]
async fn a_revoked_key_stops_working_in_every_process_within_five_seconds() {
    let stage = Stage::new().await;
    let other_process = TestApi::start(&stage.db).await;
    let apis = [&stage.api, &other_process];
    for api in apis {
        with(api, &stage.partner.code, &stage.partner.key).await.expect(200);
    }
    let key = newest_key(&stage.db, &stage.partner).await;
    revoke_key(&mut stage.db.pool().acquire().await.unwrap(), stage.partner.id, key).await.unwrap();
    let revoked = Instant::now();
    for api in apis {
        eventually("the revoked key to be refused", async || {
            with(api, &stage.partner.code, &stage.partner.key).await.status == 401
        })
        .await;
    }
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    with(&stage.api, &stage.partner.code, &stage.partner.key).await.refusal(401, "UNAUTHORIZED");
}

// S0-037, S0-105
#[tokio::test]
async fn a_new_key_works_at_once_beside_the_old_one_for_the_overlap() {
    let stage = Stage::without_key_cache().await;
    let (code, first) = (stage.partner.code.as_str(), stage.partner.key.as_str());
    let second = rotate(&stage.db, &stage.partner, Duration::from_secs(3_600)).await;
    with(&stage.api, code, first).await.expect(200);
    with(&stage.api, code, &second).await.expect(200);

    let third = rotate(&stage.db, &stage.partner, Duration::ZERO).await;
    with(&stage.api, code, first).await.refusal(401, "UNAUTHORIZED");
    with(&stage.api, code, &second).await.refusal(401, "UNAUTHORIZED");
    with(&stage.api, code, &third).await.expect(200);
}

// S0-038
#[tokio::test]
async fn a_key_stops_working_when_its_overlap_is_over() {
    let sources = Sources::default().with("api.key_cache_ms", "50");
    let stage = Stage::with(sources).await;
    let (code, old) = (stage.partner.code.as_str(), stage.partner.key.as_str());
    with(&stage.api, code, old).await.expect(200);
    let new = rotate(&stage.db, &stage.partner, Duration::from_millis(200)).await;
    eventually("the old key to expire", async || with(&stage.api, code, old).await.status == 401).await;
    with(&stage.api, code, &new).await.expect(200);
}

// S0-035, S0-103, S0-104, S0-189, S0-197
#[tokio::test]
async fn a_deactivated_partner_is_forbidden_everywhere_until_it_is_activated() {
    let stage = Stage::without_key_cache().await;
    let job = stage.enriched("amy.codes").await;
    let mut conn = stage.db.pool().acquire().await.unwrap();
    partners::directory::deactivate(&mut conn, stage.partner.id).await.unwrap();
    for request in [
        stage.enrich(&json!({ "url": profile("amy.codes") })),
        stage.ask(Method::GET, JOBS),
        stage.ask(Method::GET, &format!("{JOBS}/{job}")),
        stage.ask(Method::POST, &format!("{JOBS}/{job}/cancel")),
    ] {
        Answer::to(request).await.refusal(403, "FORBIDDEN");
    }
    insta::assert_json_snapshot!("deactivated", steady(stage.get(JOBS).await.json()));
    partners::directory::activate(&mut conn, stage.partner.id).await.unwrap();
    stage.get(JOBS).await.expect(200);
}

// S0-035, S0-345
#[tokio::test]
async fn a_suspended_subscription_forbids_everything() {
    let stage = Stage::without_key_cache().await;
    let job = stage.enriched("amy.codes").await;
    set_subscription(&stage.db, &stage.partner, SubscriptionStatus::Suspended).await;
    for request in [
        stage.enrich(&json!({ "url": profile("amy.codes") })),
        stage.ask(Method::GET, JOBS),
        stage.ask(Method::GET, &format!("{JOBS}/{job}")),
        stage.ask(Method::POST, &format!("{JOBS}/{job}/cancel")),
    ] {
        Answer::to(request).await.refusal(403, "FORBIDDEN");
    }
    insta::assert_json_snapshot!("suspended", steady(stage.get(JOBS).await.json()));
}

#[tokio::test]
async fn an_expired_subscription_forbids_new_work_while_own_jobs_stay_readable() {
    let stage = Stage::without_key_cache().await;
    let job = stage.enriched("amy.codes").await;
    set_subscription(&stage.db, &stage.partner, SubscriptionStatus::Expired).await;
    let refused = Answer::to(stage.enrich(&json!({ "url": profile("amy.codes") }))).await;
    insta::assert_json_snapshot!("expired", steady(refused.refusal(403, "FORBIDDEN")));
    assert_eq!(stage.get(&format!("{JOBS}/{job}")).await.expect(200)["data"]["jobId"], job);
    assert_eq!(stage.get(JOBS).await.expect(200)["data"][0]["jobId"], job);
    stage.cancel(&job).await.expect(200);
}

#[tokio::test]
async fn the_grace_period_allows_everything() {
    let stage = Stage::without_key_cache().await;
    set_subscription(&stage.db, &stage.partner, SubscriptionStatus::GracePeriod).await;
    stage.enriched("amy.codes").await;
    stage.get(JOBS).await.expect(200);
}

// S0-036, S0-039, S0-188, S0-191, S0-206
#[tokio::test]
async fn the_database_holds_no_key_in_clear_and_knows_when_a_partner_last_called() {
    let stage = Stage::new().await;
    let mut conn = stage.db.pool().acquire().await.unwrap();
    let code = stage.partner.code.as_str();
    let before = partners::directory::find_by_code_or_id(&mut conn, code).await.unwrap().unwrap();
    assert_eq!(before.last_api_call_at, None);
    stage.get(JOBS).await.expect(200);
    let after = partners::directory::find_by_code_or_id(&mut conn, code).await.unwrap().unwrap();
    assert!(after.last_api_call_at.is_some());

    let rows = sqlx::query_scalar!(r#"select k::text as "row!" from partner_api_keys k"#)
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains(&stage.partner.key), "{}", rows[0]);
}

#[tokio::test]
async fn guessing_is_slowed_down_by_address_without_locking_out_partners_at_work() {
    let stage = Stage::with(Sources::default().with("api.key_cache_ms", "0")).await;
    stage.get(JOBS).await.expect(200);
    let mut refused = None;
    for _ in 0..=api::extract::failed_attempts::FAILED_ATTEMPTS_MAX {
        let answer = with(&stage.api, "techcombank", "a-guess").await;
        if answer.status != 401 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("guesses are limited");
    insta::assert_json_snapshot!("guessing", steady(refused.refusal(429, "RATE_LIMITED")));
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    stage.get(JOBS).await.expect(200);

    let elsewhere = TestApi::start_with(&stage.db, Waker::new(), Sources::default()).await;
    with(&elsewhere, "techcombank", "a-guess").await.refusal(401, "UNAUTHORIZED");
}
