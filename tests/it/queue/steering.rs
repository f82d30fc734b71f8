//! Steering worker processes: quiet, resumed, stopped, and bounded in what they run at once.

use std::num::NonZeroU16;
use std::time::Instant;

use kernel::ids::JobId;
use queue::ops::{Asks, WorkerRecord, ask_worker, workers};
use queue::{JobStatus, queue_bounds, set_queue_concurrency};

use super::kinds::{Act, KINDS, open_gate, seen};
use super::*;
use crate::support::{MillpondProcess, TestDb, TestWorker, WorkerOptions, eventually, found, until};

/// What is asked is seen within a second; a busy machine is given two more.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

async fn only_worker(db: &TestDb) -> WorkerRecord {
    found("a worker is registered", async || {
        let mut conn = db.pool().acquire().await.unwrap();
        workers(&mut conn).await.unwrap().into_iter().next()
    })
    .await
}

async fn ask(db: &TestDb, process: Uuid, asks: Asks) {
    let mut conn = db.pool().acquire().await.unwrap();
    ask_worker(&mut conn, process, asks, "a test").await.unwrap().expect("it is registered");
}

async fn bound(db: &TestDb, max: Option<u16>) -> Option<i32> {
    let mut conn = db.pool().acquire().await.unwrap();
    set_queue_concurrency(&mut conn, Queue::Enrich, max.and_then(NonZeroU16::new), "a test").await.unwrap()
}

async fn is_claimed_soon(db: &TestDb, job: JobId) -> bool {
    let claimed =
        eventually("the job is claimed", async || state(db.pool(), job).await.as_deref() != Some("ready"));
    tokio::time::timeout(Duration::from_millis(300), claimed).await.is_ok()
}

#[tokio::test]
async fn a_quiet_worker_claims_nothing_more_goes_on_with_what_runs_and_claims_again_when_resumed() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    let running = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    until("it runs", || seen(running).inside == 1).await;
    let process = only_worker(&db).await;
    assert_eq!((process.in_flight["enrich"], process.asked), (1, None));
    assert_eq!(process.queues["enrich"], Some(4));

    ask(&db, process.id, Asks::Quiet).await;
    let asked_at = Instant::now();
    let left = found("a job that nobody claims", async || {
        let job = stored(db.pool(), plain()).await;
        (!is_claimed_soon(&db, job).await).then_some(job)
    })
    .await;
    assert!(asked_at.elapsed() < SEEN_WITHIN, "{:?}", asked_at.elapsed());
    assert_eq!(only_worker(&db).await.asked.unwrap().what, Asks::Quiet);
    open_gate(running);
    eventually("the running one ends", async || state(db.pool(), running).await.is_none()).await;
    assert_eq!(record(db.pool(), running).await.status, JobStatus::Completed);
    assert_eq!(state(db.pool(), left).await.as_deref(), Some("ready"));

    ask(&db, process.id, Asks::Resume).await;
    let asked_at = Instant::now();
    eventually("the other ends", async || state(db.pool(), left).await.is_none()).await;
    assert!(asked_at.elapsed() < SEEN_WITHIN, "{:?}", asked_at.elapsed());
    worker.stop().await;
}

#[tokio::test]
async fn a_quiet_worker_that_comes_back_as_another_incarnation_is_still_quiet() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    let first = only_worker(&db).await.id;
    ask(&db, first, Asks::Quiet).await;
    found("a job that nobody claims", async || {
        let job = stored(db.pool(), plain()).await;
        (!is_claimed_soon(&db, job).await).then_some(job)
    })
    .await;
    sqlx::query!("delete from worker_processes").execute(db.pool()).await.unwrap();
    let second = only_worker(&db).await;
    assert_ne!(second.id, first);
    eventually("it is quiet", async || {
        only_worker(&db).await.asked.is_some_and(|asked| asked.what == Asks::Quiet)
    })
    .await;
    let job = stored(db.pool(), plain()).await;
    assert!(!is_claimed_soon(&db, job).await);
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_process_that_an_operator_stops_lets_handlers_finish_and_ends_well() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    let running = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    until("it runs", || seen(running).inside == 1).await;
    let process = only_worker(&db).await.id;
    ask(&db, process, Asks::Stop).await;
    eventually("it drains", async || only_worker(&db).await.draining).await;
    // It is too late to take that back.
    ask(&db, process, Asks::Resume).await;
    assert_eq!(only_worker(&db).await.asked.unwrap().what, Asks::Stop);
    open_gate(running);
    worker.stopped().await;
    assert_eq!(record(db.pool(), running).await.status, JobStatus::Completed);

    let mut real = MillpondProcess::start(&db, &["worker", "--queues", "maintenance"], &[]);
    let process = only_worker(&db).await;
    assert_eq!(process.pid.unsigned_abs(), real.pid());
    ask(&db, process.id, Asks::Stop).await;
    assert!(real.ended().await.success());
}

#[tokio::test]
async fn an_operators_bound_holds_for_workers_that_run_and_for_those_that_start() {
    let db = TestDb::new().await;
    assert_eq!(bound(&db, Some(1)).await, None);
    let worker = WorkerOptions::new(KINDS).start(&db);
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(stored(db.pool(), Scripted::job([Act::WaitForGate])).await);
    }
    let inside = || jobs.iter().map(|job| seen(*job).inside).sum::<usize>();
    until("one runs", || inside() == 1).await;
    assert!(!is_claimed_soon(&db, jobs[5]).await);
    assert_eq!(inside(), 1, "of four slots");

    assert_eq!(bound(&db, Some(3)).await, Some(1));
    let set_at = Instant::now();
    until("three run", || inside() == 3).await;
    assert!(set_at.elapsed() < SEEN_WITHIN, "{:?}", set_at.elapsed());
    // More than its slots it never runs.
    bound(&db, Some(1_000)).await;
    until("four run", || inside() == 4).await;
    let mut conn = db.pool().acquire().await.unwrap();
    assert_eq!(queue_bounds(&mut conn).await.unwrap()[0].concurrency_max, 1_000);

    // Those that run more let them end, and take none in their place.
    bound(&db, Some(1)).await;
    let bounded_at = Instant::now();
    eventually("the bound is seen", async || bounded_at.elapsed() > Duration::from_secs(1)).await;
    let running: Vec<JobId> = jobs.iter().copied().filter(|job| seen(*job).inside == 1).collect();
    for job in &running[..3] {
        open_gate(*job);
    }
    until("they end", || inside() == 1).await;
    let waits = jobs.iter().find(|job| seen(**job).runs == 0).copied().expect("two did not run yet");
    assert!(!is_claimed_soon(&db, waits).await);
    bound(&db, None).await;
    for job in &jobs {
        open_gate(*job);
    }
    until("all run", || jobs.iter().all(|job| seen(*job).runs == 1 && seen(*job).inside == 0)).await;
    worker.stop().await;
}
