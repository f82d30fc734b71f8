//! `millpond audit …`

use serde_json::json;

use super::*;
use crate::support::{account, door, eventually};

async fn pause(db: &TestDb, queue: queue::Queue) {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let scope = queue::Scope { queue, kind: None };
    ::jobs::queues::pause(&mut tx, &door(), &scope).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn what_commands_change_is_listed_with_who_ran_them() {
    let db = TestDb::new().await;
    MillpondProcess::output(&db, &["queues", "pause", "enrich"]);
    MillpondProcess::output(&db, &["queues", "resume", "enrich"]);
    let listed = json(&db, &["audit", "list", "--action", "queues.", "--target", "enrich"]);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["action"], "queues.resume", "the newest first");
    assert_eq!((&items[0]["actorKind"], &items[0]["actor"]), (&json!("cli"), &json!(account())));
    assert_eq!(items[1]["after"], json!({"kind": null, "isPaused": true}));
    assert_ne!(items[0]["requestId"], items[1]["requestId"], "each run has an id");
    let table = MillpondProcess::output(&db, &["audit", "list", "--limit", "1"]);
    assert!(table.contains("queues.resume") && table.contains("there are more: --after aud_"), "{table}");
    let none = MillpondProcess::output(&db, &["audit", "list", "--actor", "nobody"]);
    assert_eq!(none.trim(), "no such entry");
}

#[tokio::test]
async fn verifying_ends_well_for_a_whole_log_and_badly_with_a_list_for_another() {
    let db = TestDb::new().await;
    pause(&db, queue::Queue::Enrich).await;
    let verified = json(&db, &["audit", "verify"]);
    assert_eq!((&verified["isWhole"], &verified["entries"]), (&json!(true), &json!(1)));
    let head = verified["head"].as_str().unwrap().to_owned();
    pause(&db, queue::Queue::Webhooks).await;
    let text = MillpondProcess::output(&db, &["audit", "verify", "--head", &head]);
    assert!(text.contains("2 entries verified") && text.contains("the log is whole"), "{text}");

    let tamper = "alter table audit_log disable trigger user; update audit_log set actor = 'x' where target = 'enrich'";
    sqlx::raw_sql(tamper).execute(db.pool()).await.unwrap();
    let (said, shown, code) = refusal(&db, &["audit", "verify"]);
    assert_eq!((&said["error"]["code"], code), (&json!("TAMPERED"), Some(1)));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["isWhole"], &shown["findings"][0]["code"]), (&json!(false), &json!("CHANGED")));
    let (said, _, code) = refusal(&db, &["audit", "verify", "--head", "nonsense"]);
    assert_eq!((&said["error"]["code"], code), (&json!("USAGE"), Some(2)));
}

#[tokio::test]
async fn the_log_is_exported_as_lines_or_as_cells_that_are_no_formulas() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    for target in ["=1+1", "plain"] {
        door()
            .record(&mut tx, "tests.change", target, kernel::ids::TenantId::SYSTEM, ::jobs::Deed::default())
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let lines = MillpondProcess::output(&db, &["audit", "export"]);
    let targets: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["target"].clone()).collect();
    assert_eq!(targets, ["=1+1", "plain"], "the oldest first, as it is");
    let csv = MillpondProcess::output(&db, &["audit", "export", "--format", "csv"]);
    assert!(csv.starts_with("id,at,actorKind,actor,action,target,"), "{csv}");
    assert!(csv.contains(",'=1+1,") && csv.contains(",plain,"), "{csv}");
}

#[tokio::test]
async fn a_list_that_is_watched_is_shown_each_second_until_it_is_interrupted() {
    let db = TestDb::new().await;
    let mut watch = MillpondProcess::start(&db, &["audit", "list", "--watch", "--json"], &[]);
    eventually("it shows nothing", async || watch.log().contains(r#""items":[]"#)).await;
    pause(&db, queue::Queue::Enrich).await;
    eventually("it shows the pause", async || watch.log().contains("queues.pause")).await;
    watch.signal("INT");
    assert!(watch.ended().await.success());
    for line in watch.log().lines() {
        let object: Value = serde_json::from_str(line.trim()).unwrap();
        assert!(object["at"].is_string(), "{line}");
    }
}

/// The most memory that a process ever had, as long as it runs.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test]
async fn a_long_log_is_verified_in_memory_that_does_not_grow_with_it() {
    const ENTRIES: usize = 8_000;
    let db = TestDb::new().await;
    let peak = async || {
        let mut process = MillpondProcess::start(&db, &["audit", "verify"], &[]);
        let mut most = 0;
        eventually("it is through", async || {
            most = most.max(peak_kib(process.pid()).unwrap_or_default());
            process.log().contains("the log is whole")
        })
        .await;
        assert!(process.ended().await.success());
        most
    };
    let without = peak().await;
    let deed = ::jobs::Deed { before: None, after: Some(json!({"padding": "x".repeat(5_000)})) };
    for _ in 0..ENTRIES / 1_000 {
        let mut tx = db::begin(db.pool()).await.unwrap();
        for _ in 0..1_000 {
            let system = kernel::ids::TenantId::SYSTEM;
            door().record(&mut tx, "tests.change", "x", system, deed.clone()).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    let with = peak().await;
    // A peak that was never read would be no peak at all.
    assert!(without > 0 && with > 0, "{with} KiB and {without} KiB");
    // The entries are some 40 MB.
    assert!(with < without + 24 * 1_024, "{with} KiB instead of {without} KiB");
}
