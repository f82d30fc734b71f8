//! An operator's drill, by the command line alone: a vendor fails, its jobs die, and all of them are done in the end.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::json;

use super::*;
use crate::support::{SandboxControls, TestPartner, account, client, eventually, sandbox};

/// Profiles that are asked for.
const WISHES: usize = 150;
/// Jobs in a second.
const RATE: usize = 50;

/// Has the partner ask for profiles.
async fn ask(url: &str, partner: &TestPartner) -> Vec<String> {
    let mut accepted = Vec::new();
    for number in 0..WISHES {
        let body = json!({"url": format!("https://www.tiktok.com/@creator.{number}")});
        let request = client().request(Method::POST, format!("{url}/api/v1/profiles/enrich"));
        let answer: Value = partner.sign(request).json(&body).send().await.unwrap().json().await.unwrap();
        accepted.push(answer["jobId"].as_str().expect("accepted").to_owned());
    }
    accepted
}

/// When jobs may run that stand in the queue, the first first.
fn due(db: &TestDb) -> Vec<DateTime<Utc>> {
    let jobs =
        json(db, &["jobs", "list", "--kind", "profiles.enrich", "--status", "queued", "--limit", "1000"]);
    let mut due: Vec<DateTime<Utc>> = jobs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["runAt"].as_str().expect("a time").parse().unwrap())
        .collect();
    due.sort_unstable();
    due
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_fails_and_after_pause_healing_redrive_at_a_rate_and_resume_all_is_done() {
    let db = TestDb::new().await;
    let sandbox = sandbox().await;
    let partner = TestPartner::create(&db, "techcombank").await;
    let meter = sandbox.meter_url();
    let variables = [
        ("MILLPOND_METER__URL", meter.as_str()),
        ("MILLPOND_METER__TOKEN", "sandbox-token"),
        ("MILLPOND_METER__CALLS_MAX", "0"),
        ("MILLPOND_LOG__FILTER", "warn"),
    ];
    let controls = SandboxControls::of(&sandbox);
    controls.faults(json!([{"vendor": "meter", "fault": {"kind": "status", "status": 400}}])).await;
    let mut api = MillpondProcess::start(&db, &["api"], &variables);
    let url = api.ready_url().await;
    let _worker = MillpondProcess::start(&db, &["worker"], &variables);

    // The vendor fails, and jobs die in groups.
    let accepted = ask(&url, &partner).await;
    let enrich = ["dead", "list", "--kind", "profiles.enrich"];
    eventually("all wishes are dead", async || json(&db, &enrich)["counted"] == WISHES).await;
    let groups = json(&db, &enrich)["groups"].clone();
    assert_eq!(groups.as_array().map(Vec::len), Some(1), "they failed alike: {groups}");
    let signature = groups[0]["message"].as_str().unwrap().to_owned();

    // Nothing more is begun, and the vendor is mended.
    assert_eq!(json(&db, &["queues", "pause", "enrich"])["isPaused"], true);
    controls.faults(json!([])).await;

    let preview = json(
        &db,
        &["jobs", "bulk", "retry", "--kind", "profiles.enrich", "--signature", &signature, "--preview"],
    );
    assert_eq!(preview["matched"], WISHES);
    let began = Instant::now();
    let rate = format!("{RATE}/s");
    let redriven = json(
        &db,
        &["dead", "redrive", "--kind", "profiles.enrich", "--signature", &signature, "--rate", &rate],
    );
    assert_eq!((&redriven["status"], &redriven["result"]["changed"]), (&json!("completed"), &json!(WISHES)));
    assert!(began.elapsed() > Duration::from_millis(1_500), "it takes its time: {:?}", began.elapsed());
    let due = due(&db);
    assert_eq!(due.len(), WISHES);
    for (n, first) in due.iter().enumerate() {
        // Shown to the millisecond.
        let second = *first + TimeDelta::milliseconds(999);
        let within = due[n..].iter().take_while(|at| **at < second).count();
        assert!(within <= RATE + 1, "{within} jobs within a second from {first}");
    }

    assert_eq!(json(&db, &["queues", "resume", "enrich"])["isPaused"], false);
    let done = ["jobs", "count", "--kind", "profiles.enrich", "--status", "completed"];
    eventually("all is done", async || json(&db, &done)["count"] == WISHES).await;
    assert_eq!(json(&db, &enrich)["counted"], 0);
    let shown = json(&db, &["jobs", "show", &accepted[0]]);
    assert_eq!(shown["status"], "completed");

    // Each step is on the record, and the record is whole.
    let log = json(&db, &["audit", "list", "--actor-kind", "cli", "--oldest"]);
    let steps: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(steps, ["queues.pause", "jobs.bulk_redrive", "queues.resume"]);
    let redrive = &log["items"][1];
    assert_eq!((&redrive["actor"], &redrive["after"]["ratePerS"]), (&json!(account()), &json!(50.0)));
    assert_eq!(redrive["after"]["filter"]["signature"], json!(signature));
    let asked = json(
        &db,
        &["audit", "list", "--action", "profiles.enrich", "--partner", "techcombank", "--limit", "1000"],
    );
    assert_eq!(asked["items"].as_array().map(Vec::len), Some(WISHES), "what the partner asked for too");
    assert_eq!(json(&db, &["audit", "verify"])["isWhole"], true);
}
