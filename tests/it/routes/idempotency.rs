//! `Idempotency-Key`: a repeat of a request whose answer was lost has no second effect.

use futures::future::{join_all, select};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::answer::{Answer, steady};
use super::stage::{ENRICH, Stage, accepted, profile};
use crate::support::TestPartner;

fn wish() -> Value {
    json!({ "url": profile("amy.codes") })
}

fn keyed(request: RequestBuilder, key: &str) -> RequestBuilder {
    request.header("Idempotency-Key", key)
}

async fn jobs_stored(stage: &Stage) -> i64 {
    sqlx::query_scalar!(r#"select count(*) as "count!" from jobs where kind = 'profiles.enrich'"#)
        .fetch_one(stage.db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_job_of_the_first() {
    let stage = Stage::new().await;
    let first = Answer::to(keyed(stage.enrich(&wish()), "order-4711")).await;
    let again = Answer::to(keyed(stage.enrich(&wish()), "order-4711")).await;
    assert_eq!(first.expect(202)["jobId"], again.expect(202)["jobId"]);
    assert_eq!(first.header("location"), again.header("location"));
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    assert_eq!(jobs_stored(&stage).await, 1);
}

#[tokio::test]
async fn a_key_used_for_another_body_is_refused_and_changes_nothing() {
    let stage = Stage::new().await;
    accepted(keyed(stage.enrich(&wish()), "order-4711")).await;
    let other = json!({ "url": profile("bob.cooks") });
    let refused = Answer::to(keyed(stage.enrich(&other), "order-4711")).await;
    insta::assert_json_snapshot!("key_reused", steady(refused.refusal(422, "IDEMPOTENCY_KEY_REUSED")));
    assert_eq!(jobs_stored(&stage).await, 1);
    accepted(keyed(stage.enrich(&other), "order-4712")).await;
    assert_eq!(jobs_stored(&stage).await, 2);
}

#[tokio::test]
async fn without_a_key_every_request_is_its_own_job() {
    let stage = Stage::new().await;
    let first = accepted(stage.enrich(&wish())).await;
    assert_ne!(first, accepted(stage.enrich(&wish())).await);
}

#[tokio::test]
async fn partners_do_not_share_keys() {
    let stage = Stage::new().await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let first = accepted(keyed(stage.enrich(&wish()), "order-4711")).await;
    let request = stage.api.request_as(&other, Method::POST, ENRICH).json(&wish());
    assert_ne!(first, accepted(keyed(request, "order-4711")).await);
}

#[tokio::test]
async fn of_many_requests_at_once_with_one_key_one_makes_a_job() {
    let stage = Stage::new().await;
    let answers = join_all((0..40).map(|_| Answer::to(keyed(stage.enrich(&wish()), "order-4711")))).await;
    let mut jobs: Vec<_> = answers
        .iter()
        .filter_map(|answer| {
            if answer.status == 409 {
                answer.refusal(409, "CONFLICT");
                return None;
            }
            Some(answer.expect(202)["jobId"].as_str().unwrap().to_owned())
        })
        .collect();
    jobs.dedup();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert_eq!(jobs_stored(&stage).await, 1);
}

#[tokio::test]
async fn of_two_requests_with_one_key_the_second_is_a_conflict_while_the_first_is_carried_out() {
    let stage = Stage::new().await;
    // Whichever comes first gets as far as storing its job and stands there.
    let mut obstacle = db::begin(stage.db.pool()).await.unwrap();
    sqlx::raw_sql("lock table jobs in exclusive mode").execute(&mut *obstacle).await.unwrap();
    let ask = || Box::pin(Answer::to(keyed(stage.enrich(&wish()), "order-4711")));
    let (refused, at_work) = select(ask(), ask()).await.factor_first();
    obstacle.rollback().await.unwrap();
    at_work.await.expect(202);
    insta::assert_json_snapshot!("in_flight", steady(refused.refusal(409, "CONFLICT")));
}

#[tokio::test]
async fn a_replay_may_prefer_to_wait_and_gets_the_final_body() {
    let (stage, _worker) = Stage::working().await;
    let job = accepted(keyed(stage.enrich(&wish()), "order-4711")).await;
    let again = keyed(stage.enrich(&wish()), "order-4711").header("Prefer", "wait=15");
    let again = Answer::to(again).await;
    let body = again.expect(200);
    assert_eq!((&body["jobId"], &body["status"]), (&json!(job), &json!("completed")));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let stage = Stage::new().await;
    let refused = Answer::to(keyed(stage.enrich(&json!({ "url": "nowhere" })), "order-4711")).await;
    refused.refusal(400, "VALIDATION_ERROR");
    accepted(keyed(stage.enrich(&wish()), "order-4711")).await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let stage = Stage::new().await;
    let first = accepted(keyed(stage.enrich(&wish()), "order-4711")).await;
    sqlx::query!("update idempotency_keys set created_at = created_at - interval '24 hours'")
        .execute(stage.db.pool())
        .await
        .unwrap();
    assert_ne!(first, accepted(keyed(stage.enrich(&wish()), "order-4711")).await);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let stage = Stage::new().await;
    let long = "k".repeat(256);
    for key in ["", "two words", &long] {
        let refused = Answer::to(keyed(stage.enrich(&wish()), key)).await;
        assert_eq!(refused.faults(), [("Idempotency-Key".to_owned(), "INVALID".to_owned())], "{key:?}");
    }
    let twice = Answer::to(keyed(keyed(stage.enrich(&wish()), "a"), "b")).await;
    assert_eq!(twice.faults(), [("Idempotency-Key".to_owned(), "INVALID".to_owned())]);
    assert_eq!(jobs_stored(&stage).await, 0);
}

#[tokio::test]
async fn a_key_is_found_by_the_creator_that_its_job_turned_out_to_be_about() {
    let (stage, _worker) = Stage::working().await;
    for key in ["crawled", "from-the-cache"] {
        Answer::to(keyed(stage.enrich(&wish()), key).header("Prefer", "wait=15")).await.expect(200);
    }
    let found = sqlx::query_scalar!(
        r#"select count(*) as "found!"
           from idempotency_keys k join pool_influencers i on i.id = k.subject_id"#
    );
    assert_eq!(found.fetch_one(stage.db.pool()).await.unwrap(), 2);
}
