//! Calling jobs off.

use std::time::Duration;

use kernel::ids::{JobId, PartnerId};
use queue::{Cancelled, Heartbeat, JobStatus, Outcome};
use serde_json::json;

use super::*;
use crate::support::TestDb;

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
    let Heartbeat::Alive { cancelled } = queue::heartbeat(db.pool(), worker, false).await.unwrap() else {
        panic!("the process is alive");
    };
    assert_eq!(cancelled, [claim.lease]);
    let other = process(db.pool()).await;
    let Heartbeat::Alive { cancelled } = queue::heartbeat(db.pool(), other, false).await.unwrap() else {
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
    let mut tx = db.pool().begin().await.unwrap();
    queue::cancel(&mut tx, TenantId::SYSTEM, job, "a test").await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
}
