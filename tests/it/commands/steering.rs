//! `millpond limits|workers|tenants|queues|overview …`

use serde_json::json;

use super::*;
use crate::support::{TestPartner, account, eventually};

#[tokio::test]
async fn limits_are_made_looked_at_changed_and_reset() {
    let db = TestDb::new().await;
    let _worker = MillpondProcess::start(&db, &["worker"], &METER);
    eventually("the worker's limits are there", async || {
        json(&db, &["limits", "list"]).as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    let before = json(&db, &["limits", "show", "meter.calls"]);
    let set = json(&db, &["limits", "set", "meter.calls", "--rate", "3", "--window", "1m"]);
    assert_eq!((&set["max"], &set["isEdited"]), (&json!(3), &json!(true)));
    let shown = json(&db, &["limits", "show", "meter.calls"]);
    assert_eq!((&shown["max"], &shown["buckets"][0]["used"]), (&json!(3), &json!(0)));
    let reset = json(&db, &["limits", "reset", "meter.calls"]);
    assert_eq!((&reset["limit"]["max"], &reset["limit"]["isEdited"]), (&before["max"], &json!(false)));

    let said =
        MillpondProcess::output(&db, &["limits", "set", "own.calls", "--rate", "60", "--window", "1m"]);
    assert_eq!(said.trim(), "own.calls is 60 calls in 60s");
    let table = MillpondProcess::output(&db, &["limits", "list"]);
    assert!(table.contains("own.calls") && table.contains("60 calls in 60s"), "{table}");
    let gone = MillpondProcess::output(&db, &["limits", "reset", "own.calls"]);
    assert_eq!(gone.trim(), "own.calls is gone: nothing but an operator had made it");

    for (line, code, exit) in [
        (["limits", "reset", "own.calls"].as_slice(), "NOT_FOUND", 1),
        (&["limits", "reset", "meter.calls"], "CONFLICT", 1),
        (&["limits", "show", "nothing"], "NOT_FOUND", 1),
        (&["limits", "set", "Bad name", "--concurrency", "1"], "VALIDATION_ERROR", 2),
        (&["limits", "set", "a", "--rate", "1"], "USAGE", 2),
        (&["limits", "set", "a"], "USAGE", 2),
    ] {
        let (said, _, exited) = refusal(&db, line);
        assert_eq!((&said["error"]["code"], exited), (&json!(code), Some(exit)), "{line:?}: {said}");
    }
}

#[tokio::test]
async fn workers_are_listed_quieted_resumed_and_stopped() {
    let db = TestDb::new().await;
    let mut worker = MillpondProcess::start(&db, &["worker"], &METER);
    let listed = async || json(&db, &["workers", "list"]);
    eventually("it is registered", async || listed().await.as_array().is_some_and(|all| all.len() == 1))
        .await;
    let seen = listed().await[0].clone();
    assert_eq!(seen["pid"], worker.pid());
    let id = seen["workerId"].as_str().unwrap().to_owned();

    let quiet = json(&db, &["workers", "quiet", &id[..12]]);
    assert_eq!((&quiet["workerId"], &quiet["asked"]), (&json!(id), &json!("quiet")));
    let asked = listed().await[0]["asked"].clone();
    assert_eq!((&asked["what"], &asked["by"]), (&json!("quiet"), &json!(account())));
    assert!(MillpondProcess::output(&db, &["workers", "list"]).contains("quiet, asked by"));
    let overview = json(&db, &["overview"]);
    assert_eq!((&overview["workersAlive"], &overview["workersQuiet"]), (&json!(1), &json!(1)));
    MillpondProcess::output(&db, &["workers", "resume", &id]);
    assert_eq!(listed().await[0]["asked"], Value::Null);
    MillpondProcess::output(&db, &["workers", "stop", &id]);
    assert!(worker.ended().await.success(), "it ends as when it is terminated");
    assert_eq!(MillpondProcess::output(&db, &["workers", "list"]).trim(), "no worker process is registered");
    let (said, _, exit) = refusal(&db, &["workers", "quiet", &id]);
    assert_eq!((&said["error"]["code"], exit), (&json!("NOT_FOUND"), Some(1)));
}

#[tokio::test]
async fn tenants_shares_are_looked_at_and_changed() {
    let db = TestDb::new().await;
    TestPartner::create(&db, "acme").await;
    let set = json(&db, &["tenants", "set", "acme", "--weight", "9", "--concurrency", "5"]);
    assert_eq!((&set["weight"], &set["concurrencyMax"]), (&json!(9), &json!(5)));
    let listed = json(&db, &["tenants", "list"]);
    let acme = listed["items"].as_array().unwrap().iter().find(|one| one["owner"] == "acme").unwrap();
    assert_eq!(
        (&acme["weight"], &acme["concurrencyMax"], &acme["running"]),
        (&json!(9), &json!(5), &json!(0))
    );
    assert!(MillpondProcess::output(&db, &["tenants", "list"]).contains("acme"));
    let said = MillpondProcess::output(
        &db,
        &["tenants", "set", "acme", "--weight", "tier", "--concurrency", "none"],
    );
    assert_eq!(said.trim(), "acme has weight 4 and no bound");
    for (line, code) in [
        (["tenants", "set", "nobody", "--weight", "1"].as_slice(), "NOT_FOUND"),
        (&["tenants", "set", "acme", "--weight", "0"], "VALIDATION_ERROR"),
        (&["tenants", "set", "acme"], "USAGE"),
    ] {
        assert_eq!(refusal(&db, line).0["error"]["code"], code, "{line:?}");
    }
}

#[tokio::test]
async fn queues_are_bounded_and_freed() {
    let db = TestDb::new().await;
    let said = MillpondProcess::output(&db, &["queues", "concurrency", "enrich", "7"]);
    assert_eq!(said.trim(), "each process runs at most 7 jobs of the queue enrich at once");
    assert_eq!(json(&db, &["queues", "list"])[0]["concurrencyMax"], 7);
    MillpondProcess::output(&db, &["queues", "concurrency", "enrich", "none"]);
    assert_eq!(json(&db, &["queues", "list"])[0]["concurrencyMax"], Value::Null);
    assert_eq!(refusal(&db, &["queues", "concurrency", "enrich", "0"]).2, Some(2));
    let actions: Vec<Value> = json(&db, &["audit", "list"])["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    assert_eq!(actions, ["queues.set_concurrency", "queues.set_concurrency"]);
}
