//! `X-Request-Id`: in, out, and along with the work.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::answer::Answer;
use super::stage::{Stage, accepted, profile};

const ID: &str = "order-4711/attempt:2";

#[tokio::test]
async fn a_given_id_comes_back_on_successes_and_refusals() {
    let stage = Stage::new().await;
    for path in ["/api/v1/jobs", "/api/v1/jobs/wrong", "/nowhere", "/health/live"] {
        let answer = Answer::to(stage.ask(Method::GET, path).header("X-Request-Id", ID)).await;
        assert_eq!(answer.header("x-request-id"), Some(ID), "{path}");
        if answer.status >= 400 {
            assert_eq!(answer.json()["requestId"], ID, "{path}");
        }
    }
}

#[tokio::test]
async fn a_missing_or_unusable_id_is_replaced_by_one_of_ours() {
    let stage = Stage::new().await;
    let long = "x".repeat(129);
    let mut ours = Vec::new();
    for given in [None, Some("two words"), Some("größe"), Some(long.as_str())] {
        let mut request = stage.ask(Method::GET, "/api/v1/jobs");
        if let Some(given) = given {
            request = request.header("X-Request-Id", given);
        }
        let id = Answer::to(request).await.header("x-request-id").expect("an id").to_owned();
        id.parse::<Uuid>().unwrap_or_else(|error| panic!("{given:?}: {id}: {error}"));
        ours.push(id);
    }
    ours.sort();
    ours.dedup();
    assert_eq!(ours.len(), 4, "no two alike");
}

#[tokio::test]
async fn the_id_goes_along_to_the_vendor_and_to_the_callback() {
    let (stage, _worker) = Stage::working().await;
    let wish = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("told") });
    accepted(stage.enrich(&wish).header("X-Request-Id", ID)).await;
    let callback = stage.callback("told").await;
    assert_eq!(callback.headers["x-request-id"], ID);
    assert_eq!(stage.vendor_calls("amy.codes").await, (1, Some(ID.to_owned())));
}
