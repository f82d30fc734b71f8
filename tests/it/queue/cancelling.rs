//! Calling jobs off.

use std::time::Duration;

use kernel::ids::{JobId, PartnerId};
use queue::{Cancelled, Heartbeat, JobStatus, Outcome};
use serde_json::json;

use super::kinds::{Act, KINDS, seen};
use super::*;
use crate::support::{MillpondProcess, TestDb, WorkerOptions, eventually, pointless_behind_a_pooler};

#[tokio::test]
async fn a_job_that_no_worker_runs_is_cancelled_at_once_and_says_by_whom() {
    let db = TestDb::new().await;
    let parked = running(db.pool(), plain().awaited()).await;
    settle(db.pool(), parked.lease, Settlement::Park).await;
    let queued = stored(db.pool(), plain()).await;
    let future = stored(db.pool(), plain().delay(LONG)).await;
    for job in [queued, future, parked.lease.job] {
        assert!(matches!(cancel(db.pool(), TenantId::SYSTEM, job).await, Cancelled::Now { .. }));
        let record = record(db.pool(), job).await;
        assert_eq!(record.status, JobStatus::Cancelled);
        let failure = record.failure.unwrap();
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("CANCELLED", "cancelled by a test"));
    }
}

#[tokio::test]
async fn the_worker_of_a_running_job_is_told_with_its_next_heartbeat() {
    let db = TestDb::new().await;
    stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    let claim = claimed(db.pool(), worker).await;
    assert_eq!(cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await, Cancelled::Asked);
    assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("running"));
    let Heartbeat::Alive { cancelled } =
        queue::heartbeat(db.pool(), worker, false, &[claim.lease]).await.unwrap()
    else {
        panic!("the process is alive");
    };
    assert_eq!(cancelled, [claim.lease]);
    let other = process(db.pool()).await;
    let Heartbeat::Alive { cancelled } =
        queue::heartbeat(db.pool(), other, false, &[claim.lease]).await.unwrap()
    else {
        panic!("the other process is alive");
    };
    assert!(cancelled.is_empty());
}

#[tokio::test]
async fn what_has_ended_or_belongs_to_others_cannot_be_cancelled() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, done(json!(1))).await;
    let others = stored(db.pool(), plain()).await;
    let stranger = TenantId::from(PartnerId::new());
    assert_eq!(cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await, Cancelled::NotLive);
    assert_eq!(cancel(db.pool(), TenantId::SYSTEM, JobId::new()).await, Cancelled::NotLive);
    assert_eq!(cancel(db.pool(), stranger, others).await, Cancelled::NotLive);
    assert_eq!(state(db.pool(), others).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_cancel_outlives_the_worker_that_was_to_hear_it() {
    let db = TestDb::new().await;
    stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    let claim = claimed(db.pool(), worker).await;
    cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await;
    silence(db.pool(), worker).await;
    queue::sweep(db.pool(), LONG).await.unwrap();
    let again = claimed(db.pool(), process(db.pool()).await).await;
    assert!(again.cancel_requested, "so that it is ended instead of run");
}

#[tokio::test]
async fn a_cancelled_attempt_that_fails_first_does_not_make_the_cancel_wait_for_the_retry() {
    let db = TestDb::new().await;
    stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    let claim = claimed(db.pool(), worker).await;
    cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await;
    let entry = json!({"code": "X", "message": "x", "attempt": 1});
    settle(db.pool(), claim.lease, Settlement::Retry(Duration::from_secs(600), entry)).await;
    let again = claimed(db.pool(), worker).await;
    assert!(again.cancel_requested);
}

#[tokio::test]
async fn a_cancelled_job_does_not_begin_to_wait_for_another() {
    let db = TestDb::new().await;
    let other = stored(db.pool(), plain().delay(LONG).awaited()).await;
    let claim = running(db.pool(), plain()).await;
    cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await;
    let mut tx = lease(&claim, db.pool()).begin().await.unwrap();
    let beside = tx.enqueue(plain().delay(LONG)).await.unwrap().id();
    let outcome = tx.share_end_of(TenantId::SYSTEM, other).await.unwrap();
    assert!(matches!(outcome, Some(Outcome::Cancel(_))), "{outcome:?}");
    assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("running"));
    assert_eq!(state(db.pool(), beside).await, None, "what it stored for the waiting is taken back");
}

#[tokio::test]
async fn a_cancel_that_rolls_back_cancels_nothing() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    queue::cancel(&mut tx, TenantId::SYSTEM, job, "a test").await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
}

/// A worker whose next heartbeat is minutes away, with a handler that runs until it is stopped.
async fn hanging(db: &TestDb) -> (crate::support::TestWorker, queue::Waker, JobId) {
    let mut options = WorkerOptions::new(KINDS);
    options.settings.lease = LONG;
    let waker = options.waker.clone();
    let worker = options.start(db);
    let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
    eventually("the handler runs", async || seen(job).inside == 1).await;
    (worker, waker, job)
}

/// Waits until the job has ended as cancelled, and answers how long that took.
async fn stopped(db: &TestDb, job: JobId) -> Duration {
    let began = std::time::Instant::now();
    eventually("the job ends", async || state(db.pool(), job).await.is_none()).await;
    let took = began.elapsed();
    assert_eq!(record(db.pool(), job).await.status, JobStatus::Cancelled);
    assert_eq!((seen(job).runs, seen(job).inside), (1, 0));
    took
}

#[tokio::test]
async fn a_signal_stops_a_running_handler_within_a_second_though_the_heartbeat_is_far() {
    let db = TestDb::new().await;
    let (_worker, waker, job) = hanging(&db).await;
    assert_eq!(cancel(db.pool(), TenantId::SYSTEM, job).await, Cancelled::Asked);
    waker.cancel();
    let took = stopped(&db, job).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn the_signal_goes_between_processes() {
    if pointless_behind_a_pooler("cancelling::the_signal_goes_between_processes", "no signals") {
        return;
    }
    let db = TestDb::new().await;
    let (_worker, waker, job) = hanging(&db).await;
    let relay = tokio::spawn(waker.relay(db.connect_more(2)));
    listened_to(&db).await;
    cancel(db.pool(), TenantId::SYSTEM, job).await;
    // As a process that ends at once tells it.
    let elsewhere = queue::Waker::new();
    elsewhere.cancel();
    elsewhere.tell_now(db.pool()).await;
    let took = stopped(&db, job).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    relay.abort();
}

#[tokio::test]
async fn an_operator_who_cancels_from_the_command_line_is_heard_at_once() {
    if pointless_behind_a_pooler(
        "cancelling::an_operator_who_cancels_from_the_command_line_is_heard_at_once",
        "no signals",
    ) {
        return;
    }
    let db = TestDb::new().await;
    let (_worker, waker, job) = hanging(&db).await;
    let relay = tokio::spawn(waker.relay(db.connect_more(2)));
    listened_to(&db).await;
    let mut command = MillpondProcess::start(&db, &["jobs", "cancel", &job.to_string()], &[]);
    assert!(command.ended().await.success(), "{}", command.log());
    stopped(&db, job).await;
    relay.abort();
}

/// Waits until somebody listens for signals.
async fn listened_to(db: &TestDb) {
    eventually("somebody listens", async || {
        sqlx::query_scalar!(
            r#"select exists (
                   select from pg_stat_activity where datname = current_database() and query ilike 'listen%'
               ) as "listens!""#
        )
        .fetch_one(db.pool())
        .await
        .unwrap()
    })
    .await;
}
