//! `millpond jobs list|count|bulk …`

use ::jobs::profiles::{Fetch, NewEnrich, request_enrich};
use kernel::ids::JobId;
use kernel::profile_url::ProfileUrl;
use serde_json::json;

use super::*;
use crate::support::{TestPartner, door};

/// Asks for this many profiles.
async fn asked(db: &TestDb, partner: &TestPartner, count: usize) -> Vec<JobId> {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let mut jobs = Vec::new();
    for number in 0..count {
        let profile = ProfileUrl::parse(&format!("https://www.tiktok.com/@creator.{number}")).unwrap();
        let new = NewEnrich { partner: partner.id, profile, callback_url: None, trace: None };
        let door = ::jobs::Door { request_id: Some(format!("req-{number}")), ..door() };
        jobs.push(request_enrich(&mut tx, &door, new).await.unwrap());
    }
    tx.commit().await.unwrap();
    jobs
}

fn ids(found: &Value) -> Vec<String> {
    found["items"].as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn jobs_are_found_counted_and_paged() {
    let db = TestDb::new().await;
    let (acme, other) = (TestPartner::create(&db, "acme").await, TestPartner::create(&db, "other").await);
    let mut jobs: Vec<String> = asked(&db, &acme, 3).await.iter().map(ToString::to_string).collect();
    asked(&db, &other, 2).await;
    jobs.reverse();
    let found = json(&db, &["jobs", "list", "--partner", "acme", "--state", "ready"]);
    assert_eq!((ids(&found), &found["partial"], &found["next"]), (jobs.clone(), &json!(false), &Value::Null));
    assert_eq!(
        json(&db, &["jobs", "count", "--kind", "profiles.enrich"]),
        json!({"count": 5, "isEstimated": false})
    );
    assert_eq!(MillpondProcess::output(&db, &["jobs", "count", "--status", "failed"]).trim(), "0");
    let of_request = json(&db, &["jobs", "list", "--request", "req-2"]);
    assert_eq!(ids(&of_request), [jobs[0].clone()]);

    let first = json(&db, &["jobs", "list", "--partner", "acme", "--limit", "2"]);
    let next = first["next"].as_str().expect("another page");
    let second = json(&db, &["jobs", "list", "--partner", "acme", "--limit", "2", "--after", next]);
    assert_eq!([ids(&first), ids(&second)].concat(), jobs);
    let table = MillpondProcess::output(&db, &["jobs", "list", "--partner", "acme", "--limit", "2"]);
    assert!(table.contains("there are more: --after") && table.contains("profiles.enrich"), "{table}");

    let (said, _, exit) = refusal(&db, &["jobs", "list", "--arg", "profile=x"]);
    assert_eq!(
        (&said["error"]["code"], exit),
        (&json!("VALIDATION_ERROR"), Some(2)),
        "only with kind and time"
    );
    assert_eq!(refusal(&db, &["jobs", "list", "--after", "nonsense"]).2, Some(2));
    assert_eq!(refusal(&db, &["jobs", "list", "--state", "odd"]).2, Some(2));
}

#[tokio::test]
async fn the_systems_jobs_are_asked_for_and_shown_by_one_name() {
    let db = TestDb::new().await;
    let profile = ProfileUrl::parse("https://www.tiktok.com/@creator").unwrap();
    let job = queue::NewJob::of(&Fetch { profile, asked_by: None }).unwrap();
    let mut conn = db.pool().acquire().await.unwrap();
    let id = queue::enqueue(&mut conn, job).await.unwrap().id();
    let found = json(&db, &["jobs", "list", "--partner", "system"]);
    assert_eq!((ids(&found), &found["items"][0]["owner"]), (vec![id.to_string()], &json!("system")));
    assert_eq!(json(&db, &["dead", "list", "--partner", "system"])["groups"], json!([]));
    assert_eq!(refusal(&db, &["dead", "list", "--partner", "nobody"]).0["error"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn many_jobs_are_called_off_and_tried_again_after_a_preview() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    asked(&db, &partner, 12).await;
    MillpondProcess::output(&db, &["queues", "pause", "enrich"]);
    let _worker = MillpondProcess::start(&db, &["worker"], &METER);

    let preview = json(&db, &["jobs", "bulk", "cancel", "--partner", "acme", "--preview"]);
    assert_eq!((&preview["matched"], &preview["isEstimated"]), (&json!(12), &json!(false)));
    assert_eq!((&preview["kinds"]["profiles.enrich"], &preview["owners"]["acme"]), (&json!(12), &json!(12)));
    assert_eq!(preview["samples"].as_array().unwrap().len(), 10);
    let cancelled = json(&db, &["jobs", "bulk", "cancel", "--partner", "acme", "--at-once"]);
    assert_eq!((&cancelled["status"], &cancelled["result"]["changed"]), (&json!("completed"), &json!(12)));
    assert_eq!(json(&db, &["jobs", "count", "--status", "cancelled"])["count"], 12);
    let said = MillpondProcess::output(
        &db,
        &["jobs", "bulk", "retry", "--partner", "acme", "--status", "cancelled", "--at-once"],
    );
    assert_eq!(said.trim(), "12 jobs were changed");
    assert_eq!(json(&db, &["jobs", "count", "--status", "queued", "--kind", "profiles.enrich"])["count"], 12);

    let entries = json(&db, &["audit", "list", "--action", "jobs.bulk"]);
    assert_eq!(entries["items"][0]["action"], "jobs.bulk_redrive");
    assert_eq!(entries["items"][1]["after"]["matched"], 12);
    let (said, _, exit) = refusal(&db, &["jobs", "bulk", "retry"]);
    assert_eq!(
        (&said["error"]["code"], exit),
        (&json!("VALIDATION_ERROR"), Some(2)),
        "all of them is said aloud"
    );
}
