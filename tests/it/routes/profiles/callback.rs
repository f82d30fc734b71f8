//! The callback of an enrich: posted once the job has ended, signed, with S0's body.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{Callback, ENRICH, Stage, accepted, profile};
use crate::support::TestPartner;

fn wish(stage: &Stage, handle: &str) -> Value {
    json!({ "url": profile(handle), "callbackUrl": stage.sandbox.inbox_url("told") })
}

// S0-083, S0-087, S0-298, S0-300
#[tokio::test]
async fn a_completed_job_is_told_with_s0s_body_signed_by_standard_webhooks() {
    let (stage, _worker) = Stage::working().await;
    let job = accepted(stage.enrich(&wish(&stage, "amy.codes"))).await;
    let callback = stage.callback("told").await;
    let body = callback.verified(&stage.partner.webhook_secret);
    assert_eq!(body["jobId"], job);
    assert_eq!(callback.headers["content-type"], "application/json");
    assert!(callback.headers["webhook-id"].starts_with("dlv_"), "{:?}", callback.headers);
    insta::assert_json_snapshot!("completed", steady(body));
}

#[tokio::test]
async fn a_failed_job_is_told_with_its_error() {
    let (stage, _worker) = Stage::working().await;
    accepted(stage.enrich(&wish(&stage, "missing.person"))).await;
    let body = stage.callback("told").await.verified(&stage.partner.webhook_secret);
    insta::assert_json_snapshot!("failed", steady(body));
}

#[tokio::test]
async fn callback_poll_and_held_answer_tell_the_same() {
    let (stage, _worker) = Stage::working().await;
    for handle in ["amy.codes", "missing.person"] {
        let inbox = stage.sandbox.inbox_url(handle);
        let request = stage.enrich(&json!({ "url": profile(handle), "callbackUrl": inbox }));
        let mut held = Answer::to(request.header("Prefer", "wait=15")).await.expect(200);
        let told = stage.callback(handle).await.verified(&stage.partner.webhook_secret);
        let success = held.as_object_mut().unwrap().remove("success");
        assert_eq!(success, Some(json!(told["status"] == "completed")));
        assert_eq!(held, told);
        let polled = stage.ended(told["jobId"].as_str().unwrap()).await;
        assert_eq!(polled["status"], told["status"]);
        assert_eq!(polled["result"]["profile"], told["profile"]);
        assert_eq!(polled["error"], told["error"]);
    }
}

#[tokio::test]
async fn each_partner_gets_its_own_callback_under_its_own_secret() {
    let (stage, _worker) = Stage::working().await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let mine = accepted(stage.enrich(&wish(&stage, "amy.codes"))).await;
    let theirs = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("theirs") });
    let theirs = accepted(stage.api.request_as(&other, Method::POST, ENRICH).json(&theirs)).await;
    let (to_me, to_them) = (stage.callback("told").await, stage.callback("theirs").await);
    assert_eq!(to_me.verified(&stage.partner.webhook_secret)["jobId"], mine);
    assert_eq!(to_them.verified(&other.webhook_secret)["jobId"], theirs);
    assert!(!to_me.is_signed_with(&other.webhook_secret));
    assert_ne!(to_me.headers["webhook-id"], to_them.headers["webhook-id"]);
}

#[tokio::test]
async fn a_changed_callback_does_not_verify() {
    let (stage, _worker) = Stage::working().await;
    accepted(stage.enrich(&wish(&stage, "amy.codes"))).await;
    let genuine = stage.callback("told").await;
    assert!(genuine.is_signed_with(&stage.partner.webhook_secret));
    let body = genuine.body.replace("completed", "cancelled");
    let with = |name: &str, value: &str| -> BTreeMap<String, String> {
        let mut headers = genuine.headers.clone();
        headers.insert(name.to_owned(), value.to_owned());
        headers
    };
    let changed = [
        Callback { body, ..genuine.clone() },
        Callback { headers: with("webhook-id", "dlv_00000000000000000000000000"), ..genuine.clone() },
        Callback { headers: with("webhook-timestamp", "1700000000"), ..genuine.clone() },
    ];
    for callback in changed {
        assert!(!callback.is_signed_with(&stage.partner.webhook_secret), "{callback:?}");
    }
}

#[tokio::test]
async fn a_cached_answer_is_told_like_any_other() {
    let (stage, _worker) = Stage::working().await;
    let first = stage.enriched("amy.codes").await;
    stage.ended(&first).await;
    let job = accepted(stage.enrich(&wish(&stage, "amy.codes"))).await;
    let body = stage.callback("told").await.verified(&stage.partner.webhook_secret);
    assert_eq!((&body["jobId"], &body["status"]), (&json!(job), &json!("completed")));
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}
