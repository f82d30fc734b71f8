//! `Prefer: wait=N`: the answer held open for the final body.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{Stage, profile};

async fn preferring(stage: &Stage, handle: &str, prefer: &str) -> Answer {
    Answer::to(stage.enrich(&json!({ "url": profile(handle) })).header("Prefer", prefer)).await
}

#[tokio::test]
async fn a_job_that_completes_in_time_is_answered_with_its_final_body() {
    let (stage, _worker) = Stage::working().await;
    let answer = preferring(&stage, "amy.codes", "wait=15").await;
    let body = answer.expect(200);
    assert_eq!(answer.header("preference-applied"), Some("wait=15"));
    let location = format!("/api/v1/jobs/{}", body["jobId"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    insta::assert_json_snapshot!("completed", steady(body));
}

#[tokio::test]
async fn a_job_that_fails_in_time_is_answered_with_its_final_body_too() {
    let (stage, _worker) = Stage::working().await;
    let answer = preferring(&stage, "missing.person", "wait=15").await;
    assert_eq!(answer.header("preference-applied"), Some("wait=15"));
    insta::assert_json_snapshot!("failed", steady(answer.expect(200)));
}

#[tokio::test]
async fn a_job_that_does_not_end_in_time_is_answered_as_accepted() {
    let stage = Stage::new().await;
    let asked = Instant::now();
    let answer = preferring(&stage, "amy.codes", "wait=1").await;
    assert!(asked.elapsed() >= Duration::from_secs(1));
    let body = answer.expect(202);
    assert_eq!((&body["success"], &body["status"]), (&json!(true), &json!("processing")));
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_longer_wait_is_shortened_and_the_answer_says_so() {
    let (stage, _worker) = Stage::working().await;
    let answer = preferring(&stage, "amy.codes", "respond-async, wait=600").await;
    answer.expect(200);
    assert_eq!(answer.header("preference-applied"), Some("wait=25"));
}

#[tokio::test]
async fn what_is_not_understood_is_ignored() {
    let stage = Stage::new().await;
    for prefer in ["wait=soon", "wait=-1", "return=minimal", "wait"] {
        let answer = preferring(&stage, "amy.codes", prefer).await;
        answer.expect(202);
        assert_eq!(answer.header("preference-applied"), None, "{prefer}");
    }
}
