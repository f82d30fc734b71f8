//! `GET /api/v1/jobs`: the partner's own jobs, the newest first.

use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{Stage, accepted, profile};
use crate::support::TestPartner;

fn ids(page: &Value) -> Vec<String> {
    let jobs = page["data"].as_array().expect("jobs");
    jobs.iter().map(|job| job["jobId"].as_str().expect("an id").to_owned()).collect()
}

async fn listed(stage: &Stage, query: &str) -> Vec<String> {
    ids(&stage.get(&format!("/api/v1/jobs?{query}")).await.expect(200))
}

#[tokio::test]
async fn a_page_has_the_newest_jobs_and_the_way_to_the_next() {
    let stage = Stage::new().await;
    for handle in ["amy.codes", "bob.cooks", "cat.paints"] {
        stage.enriched(handle).await;
    }
    let page = stage.get("/api/v1/jobs?limit=2").await.expect(200);
    insta::assert_json_snapshot!("page", steady(page));
    let whole = stage.get("/api/v1/jobs").await.expect(200);
    let end = json!({ "limit": 20, "nextCursor": null, "hasMore": false });
    assert_eq!((whole["data"].as_array().unwrap().len(), &whole["pagination"]), (3, &end));
}

#[tokio::test]
async fn walking_the_pages_meets_every_job_once_though_new_ones_come() {
    let stage = Stage::new().await;
    let mut expected = Vec::new();
    for number in 0..7 {
        expected.push(stage.enriched(&format!("creator.{number}")).await);
    }
    expected.reverse();
    let (mut met, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = stage.get(&format!("/api/v1/jobs?{query}")).await.expect(200);
        met.extend(ids(&page));
        stage.enriched(&format!("newcomer.{}", met.len())).await;
        let pagination = &page["pagination"];
        let Some(cursor) = pagination["nextCursor"].as_str() else {
            assert_eq!(pagination["hasMore"], false);
            break;
        };
        assert_eq!(pagination["hasMore"], true);
        query = format!("limit=3&cursor={cursor}");
    }
    assert_eq!(met, expected);
}

#[tokio::test]
async fn jobs_are_found_by_status_live_and_ended() {
    let (stage, worker) = Stage::working().await;
    let completed = stage.enriched("amy.codes").await;
    let failed = stage.enriched("missing.person").await;
    stage.ended(&completed).await;
    stage.ended(&failed).await;
    worker.stop().await;
    let cancelled = stage.enriched("bob.cooks").await;
    stage.cancel(&cancelled).await.expect(200);
    let queued = stage.enriched("cat.paints").await;
    for (status, job) in
        [("completed", &completed), ("failed", &failed), ("cancelled", &cancelled), ("queued", &queued)]
    {
        assert_eq!(listed(&stage, &format!("status={status}")).await, [job.as_str()], "{status}");
    }
    assert_eq!(listed(&stage, "status=processing").await, [""; 0]);
    assert_eq!(listed(&stage, "").await, [queued, cancelled, failed, completed]);
}

#[tokio::test]
async fn jobs_are_found_by_kind_and_time() {
    let stage = Stage::new().await;
    let first = stage.enriched("amy.codes").await;
    let second = stage.enriched("bob.cooks").await;
    // An hour between them makes the instants on the wire, cut to milliseconds, tell them apart.
    sqlx::query!(
        "update jobs set created_at = created_at - interval '1 hour' where id = $1",
        first.parse::<kernel::ids::JobId>().unwrap().uuid(),
    )
    .execute(stage.db.pool())
    .await
    .unwrap();
    let between = stage.get(&format!("/api/v1/jobs/{second}")).await.expect(200);
    let between = between["data"]["createdAt"].as_str().unwrap();
    assert_eq!(listed(&stage, &format!("createdAfter={between}")).await, [second.as_str()]);
    assert_eq!(listed(&stage, &format!("createdBefore={between}")).await, [first.as_str()]);
    let with_offset = between.replace('Z', "%2B00:00");
    assert_eq!(listed(&stage, &format!("createdAfter={with_offset}")).await, [second.as_str()]);
    assert_eq!(listed(&stage, "kind=profiles.enrich").await, [second, first]);
}

// S0-003
#[tokio::test]
async fn a_partner_sees_its_own_jobs_and_none_that_serve_them() {
    let stage = Stage::new().await;
    let wish = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("told") });
    let job = accepted(stage.enrich(&wish)).await;
    assert_eq!(listed(&stage, "").await, [job]);
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let others = Answer::to(stage.api.request_as(&other, Method::GET, "/api/v1/jobs")).await;
    assert_eq!(others.expect(200)["data"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let stage = Stage::new().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("kind=profiles.fetch", "kind"),
        ("status=done", "status"),
        ("createdAfter=yesterday", "createdAfter"),
        ("createdBefore=2026-01-31", "createdBefore"),
    ] {
        let refused = stage.get(&format!("/api/v1/jobs?{query}")).await;
        assert_eq!(refused.faults(), [(field.to_owned(), "INVALID".to_owned())], "{query}");
    }
    let unknown = stage.get("/api/v1/jobs?offset=20").await;
    assert_eq!(unknown.faults(), [("offset".to_owned(), "UNKNOWN".to_owned())]);
    stage.get("/api/v1/jobs?limit=100").await.expect(200);
}
