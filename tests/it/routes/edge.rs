//! What every answer has in common, and what the router itself answers.

use std::io::Read;

use config::Sources;
use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::json;

use super::answer::{Answer, steady};
use super::stage::{ENRICH, Stage, profile};
use crate::support::so_many_wait;

// S0-275, S0-335, S0-348
#[tokio::test]
async fn an_unknown_path_is_not_found_in_the_envelope() {
    let stage = Stage::new().await;
    for path in ["/", "/api/v1", "/api/v1/nothing", "/api/v1/jobs/", "/api/v2/jobs"] {
        stage.get(path).await.refusal(404, "NOT_FOUND");
    }
    insta::assert_json_snapshot!("unknown_path", steady(stage.get("/api/v1/nothing").await.json()));
}

#[tokio::test]
async fn an_unknown_method_is_refused_and_the_known_ones_are_named() {
    let stage = Stage::new().await;
    let refused = Answer::to(stage.ask(Method::DELETE, ENRICH)).await;
    insta::assert_json_snapshot!("unknown_method", steady(refused.refusal(405, "METHOD_NOT_ALLOWED")));
    assert_eq!(refused.header("allow"), Some("POST"));
    let refused = Answer::to(stage.ask(Method::POST, "/api/v1/jobs")).await;
    refused.refusal(405, "METHOD_NOT_ALLOWED");
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    for path in ["/api/v1/jobs".to_owned(), format!("/api/v1/jobs/{job}"), "/health/live".to_owned()] {
        let head = Answer::to(stage.ask(Method::HEAD, &path)).await;
        let get = stage.get(&path).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(head.header("content-length"), get.header("content-length"));
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful_with_it() {
    let stage = Stage::new().await;
    let answers = [
        stage.get("/api/v1/jobs").await,
        stage.get("/api/v1/nothing").await,
        Answer::to(stage.api.request(Method::GET, "/api/v1/jobs")).await,
        Answer::to(stage.enrich(&json!({ "url": profile("amy.codes") }))).await,
    ];
    for answer in answers {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        let policy = answer.header("content-security-policy").unwrap();
        assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
        assert_eq!(answer.header("server"), None);
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let stage = Stage::new().await;
    for number in 0..10 {
        stage.enriched(&format!("creator.{number}")).await;
    }
    let path = "/api/v1/jobs";
    let plain = stage.get(path).await;
    assert_eq!(plain.header("content-encoding"), None);
    let packed = Answer::to(stage.ask(Method::GET, path).header("accept-encoding", "gzip")).await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert!(packed.bytes.len() < plain.bytes.len() / 2);
    assert!(packed.header("vary").unwrap().to_ascii_lowercase().contains("accept-encoding"));
    let mut text = String::new();
    GzDecoder::new(packed.bytes.as_slice()).read_to_string(&mut text).unwrap();
    let unpacked: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(steady(unpacked), steady(plain.json()));

    let short = Answer::to(stage.ask(Method::GET, "/health/live").header("accept-encoding", "gzip")).await;
    assert_eq!(short.header("content-encoding"), None);
}

// S0-275, S0-350
#[tokio::test]
async fn a_fault_of_ours_is_told_without_its_inner_words() {
    let stage = Stage::new().await;
    sqlx::raw_sql("alter table jobs rename to jobs_gone").execute(stage.db.pool()).await.unwrap();
    let failed = Answer::to(stage.enrich(&json!({ "url": profile("amy.codes") }))).await;
    insta::assert_json_snapshot!("internal_error", steady(failed.refusal(500, "INTERNAL_ERROR")));
}

#[tokio::test]
async fn too_much_to_do_is_refused_at_once_and_what_is_refused_has_no_effect() {
    // Two connections, one of them may be at work.
    let stage = Stage::with(Sources::default().with("http.connections_max", "2")).await;
    stage.get("/api/v1/jobs").await.expect(200);
    let mut obstacle = db::begin(stage.db.pool()).await.unwrap();
    sqlx::raw_sql("lock table jobs in exclusive mode").execute(&mut *obstacle).await.unwrap();
    let wish = json!({ "url": profile("amy.codes") });
    let at_work = Answer::to(stage.enrich(&wish));
    let second = async {
        so_many_wait(stage.db.pool(), 1).await;
        let refused = stage.get("/api/v1/jobs").await;
        obstacle.rollback().await.unwrap();
        refused
    };
    let (at_work, refused) = tokio::join!(at_work, second);
    at_work.expect(202);
    insta::assert_json_snapshot!("overloaded", steady(refused.refusal(503, "OVERLOADED")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    stage.get("/api/v1/jobs").await.expect(200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up_and_has_no_effect() {
    let sources = Sources::default().with("http.request_timeout_ms", "2000").with("http.wait_s_max", "0");
    let stage = Stage::with(sources).await;
    stage.get("/api/v1/jobs").await.expect(200);
    let mut obstacle = db::begin(stage.db.pool()).await.unwrap();
    sqlx::raw_sql("lock table jobs in exclusive mode").execute(&mut *obstacle).await.unwrap();
    let refused = Answer::to(stage.enrich(&json!({ "url": profile("amy.codes") }))).await;
    refused.refusal(503, "OVERLOADED");
    assert_eq!(refused.header("retry-after"), Some("1"));
    obstacle.rollback().await.unwrap();
    assert_eq!(stage.get("/api/v1/jobs").await.expect(200)["data"], json!([]));
}
