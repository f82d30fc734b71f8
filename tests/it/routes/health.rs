//! Probes and metrics, which need no credentials.

use reqwest::Method;

use super::answer::{Answer, steady};
use super::stage::Stage;

async fn open(stage: &Stage, path: &str) -> Answer {
    Answer::to(stage.api.request(Method::GET, path)).await
}

// S0-006, S0-331
#[tokio::test]
async fn a_process_with_its_database_is_live_and_ready() {
    let stage = Stage::new().await;
    insta::assert_json_snapshot!("live", open(&stage, "/health/live").await.expect(200));
    insta::assert_json_snapshot!("ready", open(&stage, "/health/ready").await.expect(200));
}

// S0-340
#[tokio::test]
async fn a_database_without_all_migrations_is_not_ready_for_this_build() {
    let stage = Stage::new().await;
    sqlx::query!("delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)")
        .execute(stage.db.pool())
        .await
        .unwrap();
    let not_ready = open(&stage, "/health/ready").await;
    insta::assert_json_snapshot!("not_migrated", steady(not_ready.refusal(503, "OVERLOADED")));
    open(&stage, "/health/live").await.expect(200);
}

#[tokio::test]
async fn a_database_migrated_by_a_newer_build_serves_this_one_too() {
    let stage = Stage::new().await;
    sqlx::query!(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (99991231000000, 'from the future', true, '', 0)"
    )
    .execute(stage.db.pool())
    .await
    .unwrap();
    open(&stage, "/health/ready").await.expect(200);
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_never_by_what_clients_sent() {
    let stage = Stage::new().await;
    stage.get("/api/v1/jobs/job_00000000000000000000000000").await.refusal(404, "NOT_FOUND");
    stage.get("/scanner/probe-7.php").await.refusal(404, "NOT_FOUND");
    let metrics = open(&stage, "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = metrics.text();
    let counted = |route: &str| {
        text.lines().any(|line| {
            line.starts_with("millpond_http_requests_total{")
                && line.contains(&format!("route=\"{route}\""))
                && line.contains("status=\"404\"")
        })
    };
    assert!(counted("/api/v1/jobs/{id}"), "{text}");
    assert!(counted("unmatched"), "{text}");
    assert!(text.contains("millpond_http_request_duration_seconds"), "{text}");
    assert!(!text.contains("job_0000") && !text.contains("probe-7"), "{text}");
    assert!(!text.contains(&stage.partner.key));
}
