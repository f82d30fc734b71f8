//! How workers end: asked to, crashed, or cut off from their lease.

use queue::JobStatus;
use serde_json::json;

use super::kinds::{Act, KINDS, open_gate, seen};
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, eventually};

async fn processes(db: &TestDb) -> Vec<Uuid> {
    sqlx::query_scalar!("select id from worker_processes").fetch_all(db.pool()).await.unwrap()
}

async fn ends(db: &TestDb, job: JobId) {
    eventually("the job ends", async || state(db.pool(), job).await.is_none()).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_lets_running_handlers_finish_and_claims_no_more() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    let running = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    eventually("the handler runs", async || seen(running).inside == 1).await;
    worker.ask_to_stop();
    eventually("it says that it drains", async || {
        sqlx::query_scalar!(r#"select draining as "draining!" from worker_processes"#)
            .fetch_one(db.pool())
            .await
            .unwrap()
    })
    .await;
    let later = stored(db.pool(), plain()).await;
    open_gate(running);
    worker.stopped().await;
    let record = record(db.pool(), running).await;
    assert_eq!((record.status, seen(running).runs), (JobStatus::Completed, 1));
    assert_eq!(state(db.pool(), later).await.as_deref(), Some("ready"));
    assert!(processes(&db).await.is_empty(), "it signed off");
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_given_back_without_using_an_attempt() {
    let db = TestDb::new().await;
    for drain_timeout in [Duration::from_millis(100), Duration::ZERO] {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.drain_timeout = drain_timeout;
        let worker = options.start(&db);
        let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
        eventually("the handler runs", async || seen(job).inside == 1).await;
        worker.stop().await;
        let given_back = record(db.pool(), job).await;
        assert_eq!((given_back.attempts, given_back.taken_back, given_back.errors.len()), (0, 0, 0));
        assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
        assert_eq!(seen(job).inside, 0, "the handler was stopped");
        cancel(db.pool(), TenantId::SYSTEM, job).await;
    }
}

#[tokio::test]
async fn a_worker_that_stops_while_it_claims_leaves_no_job_behind() {
    let db = TestDb::new().await;
    for _ in 0..8 {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.drain_timeout = Duration::ZERO;
        let worker = options.start(&db);
        let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
        // No waiting for the handler: the stop may come at any moment of the claim.
        eventually("somebody claimed it", async || state(db.pool(), job).await.as_deref() == Some("running"))
            .await;
        worker.stop().await;
        assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
        cancel(db.pool(), TenantId::SYSTEM, job).await;
    }
}

#[tokio::test]
async fn the_jobs_of_a_crashed_worker_run_elsewhere_within_lease_and_sweep() {
    let db = TestDb::new().await;
    let first = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), Scripted::job([Act::Hang, Act::Done(json!("second"))])).await;
    eventually("the handler runs", async || seen(job).inside == 1).await;
    first.crash();
    let began = std::time::Instant::now();
    let _second = TestWorker::start(&db, KINDS);
    ends(&db, job).await;
    let record = record(db.pool(), job).await;
    assert_eq!((record.result, record.attempts, record.taken_back), (Some(json!("second")), 1, 1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_job_that_kills_every_worker_is_given_up() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
    for death in 1..=3 {
        let worker = TestWorker::start(&db, KINDS);
        eventually("the handler runs", async || seen(job).runs == death).await;
        worker.crash();
    }
    let _last = TestWorker::start(&db, KINDS);
    ends(&db, job).await;
    let record = record(db.pool(), job).await;
    assert_eq!((record.status, seen(job).runs), (JobStatus::Failed, 3));
    assert_eq!(record.failure.unwrap().code, queue::WORKER_LOST);
}

#[tokio::test]
async fn a_worker_that_was_declared_dead_stops_its_handlers_and_comes_back_as_another() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), Scripted::job([Act::Hang, Act::WaitForGate])).await;
    eventually("the handler runs", async || seen(job).inside == 1).await;
    let before = processes(&db).await;
    sqlx::query!("delete from worker_processes").execute(db.pool()).await.unwrap();

    eventually("the job runs again", async || seen(job).runs == 2).await;
    let after = processes(&db).await;
    assert!(after.len() == 1 && after != before, "a new incarnation: {before:?} {after:?}");
    eventually("the first handler is stopped", async || seen(job).inside == 1).await;
    open_gate(job);
    ends(&db, job).await;
    let record = record(db.pool(), job).await;
    assert_eq!((record.status, record.attempts, record.taken_back), (JobStatus::Completed, 1, 1));
}

#[tokio::test]
async fn a_worker_whose_heartbeat_cannot_be_written_stops_before_others_may_take_its_jobs() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.lease = Duration::from_millis(1_000);
    let _worker = options.start(&db);
    let job = stored(db.pool(), Scripted::job([Act::Hang, Act::Done(json!("again"))])).await;
    eventually("the handler runs", async || seen(job).inside == 1).await;

    // Whoever holds the row keeps the heartbeat waiting, and sweepers pass the row over.
    let mut tx = db::begin(db.pool()).await.unwrap();
    sqlx::query!("select from worker_processes for update").execute(&mut *tx).await.unwrap();
    eventually("the handler is stopped", async || seen(job).inside == 0).await;
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("running"), "nobody had taken it yet");
    assert_eq!(seen(job).runs, 1);
    tx.rollback().await.unwrap();
    ends(&db, job).await;
    assert_eq!(seen(job).inside_max, 1, "never two at once");
    assert_eq!(record(db.pool(), job).await.result, Some(json!("again")));
}

#[tokio::test]
async fn many_workers_run_every_job_exactly_once() {
    let db = TestDb::new().await;
    let _workers =
        [TestWorker::start(&db, KINDS), TestWorker::start(&db, KINDS), TestWorker::start(&db, KINDS)];
    let mut conn = db.pool().acquire().await.unwrap();
    let jobs = queue::enqueue_many(&mut conn, (0..300).map(|_| plain()).collect()).await.unwrap();
    drop(conn);
    eventually("all jobs end", async || {
        let left =
            sqlx::query_scalar!(r#"select count(*) as "n!" from jobs"#).fetch_one(db.pool()).await.unwrap();
        left == 0
    })
    .await;
    assert!(jobs.iter().all(|job| seen(job.id()).runs == 1));
}
