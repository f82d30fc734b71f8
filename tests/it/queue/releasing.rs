//! Jobs that wait to run after another, however that one ends.

use db::Pool;
use kernel::ids::{JobId, PartnerId};
use queue::{Cancelled, End, TAKEN_BACK_MAX};
use serde_json::json;

use super::*;
use crate::support::TestDb;

/// Stores a job and another that runs after it, of another tenant, and answers both.
async fn pair(pool: &Pool) -> (JobId, JobId) {
    let first = JobId::new();
    let second = plain().tenant(TenantId::from(PartnerId::new())).after(TenantId::SYSTEM, first);
    let mut conn = pool.acquire().await.unwrap();
    let batch = vec![plain().id(first).awaited(), second];
    let stored = queue::enqueue_many(&mut conn, batch).await.unwrap();
    (first, stored[1].id())
}

#[tokio::test]
async fn a_job_that_waits_is_not_claimed_before_the_other_has_ended() {
    let db = TestDb::new().await;
    let (first, second) = pair(db.pool()).await;
    let worker = process(db.pool()).await;
    let jobs = queue::claim(db.pool(), worker, Queue::Enrich, 10).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.lease.job).collect::<Vec<_>>(), [first]);
    assert_eq!(state(db.pool(), second).await.as_deref(), Some("waiting"));
}

#[tokio::test]
async fn a_job_is_released_when_the_other_is_done_failed_or_called_off() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    for ending in [done(json!(1)), End::Failed(failure("X")), End::Cancelled(failure("Y"))] {
        let (first, second) = pair(db.pool()).await;
        let claim = claimed(db.pool(), worker).await;
        assert_eq!(claim.lease.job, first);
        let settled = settle(db.pool(), claim.lease, Settlement::End(ending, None)).await;
        assert_eq!(settled.released, [Queue::Enrich], "its queue is to be woken");
        let released = claimed(db.pool(), worker).await;
        assert_eq!(released.lease.job, second);
        end(db.pool(), released.lease, End::Completed(None)).await;
    }
}

#[tokio::test]
async fn a_job_is_released_by_the_transaction_that_completes_the_other() {
    let db = TestDb::new().await;
    let (_, second) = pair(db.pool()).await;
    let worker = process(db.pool()).await;
    let claim = claimed(db.pool(), worker).await;
    let tx = lease(&claim, db.pool()).begin().await.unwrap();
    tx.done(None, None).await.unwrap();
    assert_eq!(claimed(db.pool(), worker).await.lease.job, second);
}

#[tokio::test]
async fn a_job_is_released_when_the_other_is_cancelled_before_it_ran() {
    let db = TestDb::new().await;
    let (first, second) = pair(db.pool()).await;
    let cancelled = cancel(db.pool(), TenantId::SYSTEM, first).await;
    assert_eq!(cancelled, Cancelled::Now { released: vec![Queue::Enrich] });
    assert_eq!(state(db.pool(), second).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_job_is_released_when_the_other_is_given_up() {
    let db = TestDb::new().await;
    let (first, second) = pair(db.pool()).await;
    for death in 1..=TAKEN_BACK_MAX {
        let worker = process(db.pool()).await;
        assert_eq!(claimed(db.pool(), worker).await.lease.job, first, "death {death}");
        silence(db.pool(), worker).await;
        let swept = queue::sweep(db.pool(), LONG).await.unwrap();
        assert_eq!(swept.released, [Queue::Enrich]);
    }
    assert_eq!(state(db.pool(), first).await, None);
    assert_eq!(state(db.pool(), second).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_job_that_is_snoozed_or_retried_releases_nobody() {
    let db = TestDb::new().await;
    let (_, second) = pair(db.pool()).await;
    let worker = process(db.pool()).await;
    let entry = json!({"code": "X", "message": "x"});
    for settlement in
        [Settlement::Again(Duration::ZERO), Settlement::Retry(Duration::ZERO, entry), Settlement::Park]
    {
        let claim = claimed(db.pool(), worker).await;
        assert!(settle(db.pool(), claim.lease, settlement).await.released.is_empty());
        assert_eq!(state(db.pool(), second).await.as_deref(), Some("waiting"));
    }
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled_and_the_other_does_not_mind() {
    let db = TestDb::new().await;
    let (first, second) = pair(db.pool()).await;
    let tenant = sqlx::query_scalar!("select tenant_id from jobs where id = $1", second.uuid())
        .fetch_one(db.pool())
        .await
        .unwrap();
    let cancelled = cancel(db.pool(), TenantId::from_uuid(tenant), second).await;
    assert!(matches!(cancelled, Cancelled::Now { .. }));
    let claim = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!(claim.lease.job, first);
    end(db.pool(), claim.lease, End::Completed(None)).await;
}
