//! Pausing, resuming and draining, of queues and of kinds.

use std::time::{Duration, Instant};

use kinds::{Act, KINDS, Urgent, open_gate, seen};
use queue::{Scope, pause, pauses, resume};

use super::*;
use crate::support::{MillpondProcess, TestDb, WorkerOptions, account, eventually, until};

const ALL: Scope = Scope { queue: Queue::Enrich, kind: None };

fn kind(name: &str) -> Scope {
    Scope { queue: Queue::Enrich, kind: Some(name.to_owned()) }
}

async fn paused(db: &TestDb, scope: &Scope) {
    let mut conn = db.pool().acquire().await.unwrap();
    pause(&mut conn, scope, "a test").await.unwrap();
}

async fn resumed(db: &TestDb, scope: &Scope) -> bool {
    let mut conn = db.pool().acquire().await.unwrap();
    resume(&mut conn, scope).await.unwrap()
}

async fn claims(db: &TestDb, process: Uuid, queue: Queue) -> usize {
    queue::claim(db.pool(), process, queue, 10).await.unwrap().len()
}

#[tokio::test]
async fn the_next_claim_of_a_paused_queue_finds_nothing_and_the_one_after_resuming_everything() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    // In one lane, and in several.
    for kinds in [1, 2] {
        stored(db.pool(), plain()).await;
        if kinds == 2 {
            stored(db.pool(), NewJob::of(&Urgent {}).unwrap()).await;
        }
        paused(&db, &ALL).await;
        assert_eq!(claims(&db, process, Queue::Enrich).await, 0);
        assert!(resumed(&db, &ALL).await);
        assert_eq!(claims(&db, process, Queue::Enrich).await, kinds);
    }
    assert!(!resumed(&db, &ALL).await, "it is not paused");
}

#[tokio::test]
async fn other_queues_and_other_kinds_go_on() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    for tenant in [TenantId::SYSTEM, TenantId::from_uuid(Uuid::now_v7())] {
        stored(db.pool(), plain().tenant(tenant)).await;
        stored(db.pool(), NewJob::of(&Urgent {}).unwrap().tenant(tenant)).await;
    }
    paused(&db, &kind("test.scripted")).await;
    paused(&db, &Scope { queue: Queue::Webhooks, kind: None }).await;
    let claimed = queue::claim(db.pool(), process, Queue::Enrich, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|job| job.kind.as_str()).collect::<Vec<_>>(), ["test.urgent"; 2]);
    // The queue's pause and the kind's are two: one does not end with the other.
    paused(&db, &ALL).await;
    assert!(resumed(&db, &ALL).await);
    assert_eq!(claims(&db, process, Queue::Enrich).await, 0);
    assert!(resumed(&db, &kind("test.scripted")).await);
    assert_eq!(claims(&db, process, Queue::Enrich).await, 2);
}

#[tokio::test]
async fn a_running_worker_obeys_within_a_second_and_what_runs_is_finished() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    // As in production.
    options.settings.poll = Duration::from_millis(500);
    let worker = options.start(&db);
    let held = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    until("it runs", || seen(held).inside == 1).await;

    paused(&db, &ALL).await;
    let begun = Instant::now();
    let job = stored(db.pool(), plain()).await;
    open_gate(held);
    eventually("the running one ends", async || state(db.pool(), held).await.is_none()).await;
    // Its end looked for more, and so do polls: none may find the other.
    eventually("a second to pass", async || begun.elapsed() >= Duration::from_secs(1)).await;
    assert_eq!((seen(job).runs, state(db.pool(), job).await.as_deref()), (0, Some("ready")));
    let [ref pause] = pauses(db.pool()).await.unwrap()[..] else { panic!("one pause") };
    assert_eq!((pause.queue.as_str(), pause.by.as_str(), pause.running), ("enrich", "a test", 0));

    resumed(&db, &ALL).await;
    let begun = Instant::now();
    until("it runs", || seen(job).runs == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    worker.stop().await;
}

#[tokio::test]
async fn operators_drain_look_and_resume_from_the_command_line() {
    let db = TestDb::new().await;
    let worker = WorkerOptions::new(KINDS).start(&db);
    let held = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    until("it runs", || seen(held).inside == 1).await;

    let mut drain = MillpondProcess::start(&db, &["queues", "drain", "enrich"], &[]);
    eventually("it says what it waits for", async || drain.log().contains("1 of its jobs still run")).await;
    let job = stored(db.pool(), plain()).await;
    open_gate(held);
    assert!(drain.ended().await.success());
    eventually("its last word", async || drain.log().contains("is drained: paused, and none runs")).await;
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));

    let listed = MillpondProcess::output(&db, &["queues", "list"]);
    let enrich = listed.lines().find(|line| line.trim_start().starts_with("enrich")).unwrap();
    assert!(enrich.contains(&format!("all of it, by {} since", account())), "{listed}");
    let listed = MillpondProcess::output(&db, &["queues", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["queue"], &listed[0]["ready"]), (&Value::from("enrich"), &Value::from(1)));
    assert_eq!(listed[1]["pauses"], Value::Array(Vec::new()));

    let resumed = MillpondProcess::output(&db, &["queues", "resume", "enrich"]);
    assert_eq!(resumed.trim(), "the queue enrich goes on");
    eventually("it runs", async || state(db.pool(), job).await.is_none()).await;

    let paused =
        MillpondProcess::output(&db, &["queues", "pause", "enrich", "--kind", "profiles.fetch", "--json"]);
    let paused: Value = serde_json::from_str(&paused).unwrap();
    assert_eq!((&paused["kind"], &paused["isPaused"]), (&Value::from("profiles.fetch"), &Value::from(true)));
    worker.stop().await;
}
