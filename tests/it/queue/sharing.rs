//! Jobs that park until another ends, and end with its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use db::Pool;
use futures::future::join_all;
use kernel::ids::{JobId, PartnerId};
use queue::{Cancelled, End, JobStatus, Outcome, TAKEN_BACK_MAX, WORKER_LOST};
use serde_json::json;

use super::*;
use crate::support::TestDb;

/// Stores a job of some partner, claims it and lets it ask for the end of another.
async fn asker(pool: &Pool, worker: Uuid, other: JobId) -> (TenantId, JobId) {
    let tenant = TenantId::from(PartnerId::new());
    let job = stored(pool, plain().tenant(tenant)).await;
    let claim = claimed(pool, worker).await;
    assert_eq!(claim.lease.job, job);
    let tx = lease(&claim, pool).begin().await.unwrap();
    let outcome = tx.share_end_of(TenantId::SYSTEM, other).await.unwrap();
    assert!(matches!(outcome, Some(Outcome::Settled(_))));
    (tenant, job)
}

#[tokio::test]
async fn askers_end_with_the_result_the_error_or_the_cancellation_of_the_other() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let endings = [
        (done(json!({"profile": "x"})), JobStatus::Completed, Some(json!({"profile": "x"})), None),
        (End::Failed(failure("NOT_FOUND")), JobStatus::Failed, None, Some(failure("NOT_FOUND"))),
        (End::Cancelled(failure("CANCELLED")), JobStatus::Cancelled, None, Some(failure("CANCELLED"))),
    ];
    for (ending, status, result, failure) in endings {
        let other = running(db.pool(), plain()).await;
        let askers = [
            asker(db.pool(), worker, other.lease.job).await,
            asker(db.pool(), worker, other.lease.job).await,
        ];
        for (tenant, job) in askers {
            let waiting = record_of(db.pool(), tenant, job).await;
            assert_eq!((waiting.status, waiting.attempts), (JobStatus::Processing, 0), "without a slot");
        }
        end(db.pool(), other.lease, ending).await;
        for (tenant, job) in askers {
            let ended = record_of(db.pool(), tenant, job).await;
            assert_eq!(
                (ended.status, ended.result, ended.failure),
                (status, result.clone(), failure.clone())
            );
        }
    }
}

#[tokio::test]
async fn askers_learn_why_the_others_attempts_failed() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let other = running(db.pool(), plain()).await;
    let (tenant, job) = asker(db.pool(), worker, other.lease.job).await;
    let entry = json!({"code": "BROKEN", "message": "broken", "attempt": 1});
    settle(db.pool(), other.lease, Settlement::End(End::Failed(failure("BROKEN")), Some(entry))).await;
    let ended = record_of(db.pool(), tenant, job).await;
    assert_eq!(ended.errors[0].code, "BROKEN");
    assert_eq!((ended.attempts, ended.attempts_max), (1, 3));
}

#[tokio::test]
async fn askers_end_when_the_other_is_given_up() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let other = running(db.pool(), plain().awaited()).await;
    let (tenant, job) = asker(db.pool(), worker, other.lease.job).await;
    sqlx::query!(
        "update jobs set taken_back = $2, leased_by = gen_random_uuid() where id = $1",
        other.lease.job.uuid(),
        TAKEN_BACK_MAX - 1,
    )
    .execute(db.pool())
    .await
    .unwrap();
    assert_eq!(queue::sweep(db.pool(), LONG).await.unwrap().given_up, 1);
    let ended = record_of(db.pool(), tenant, job).await;
    assert_eq!((ended.status, ended.failure.unwrap().code.as_str()), (JobStatus::Failed, WORKER_LOST));
}

#[tokio::test]
async fn who_asks_too_late_is_told_and_keeps_its_lease() {
    let db = TestDb::new().await;
    let other = running(db.pool(), plain()).await;
    end(db.pool(), other.lease, done(json!(1))).await;
    let claim = running(db.pool(), plain()).await;
    let tx = lease(&claim, db.pool()).begin().await.unwrap();
    assert!(tx.share_end_of(TenantId::SYSTEM, other.lease.job).await.unwrap().is_none());
    lease(&claim, db.pool()).begin().await.unwrap().done(None, None).await.unwrap();
}

#[tokio::test]
async fn cancelling_one_asker_leaves_the_other_job_and_its_other_askers_alone() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let other = running(db.pool(), plain()).await;
    let one = asker(db.pool(), worker, other.lease.job).await;
    let two = asker(db.pool(), worker, other.lease.job).await;
    assert!(matches!(cancel(db.pool(), one.0, one.1).await, Cancelled::Now { .. }));
    assert_eq!(state(db.pool(), other.lease.job).await.as_deref(), Some("running"));
    end(db.pool(), other.lease, done(json!(1))).await;
    assert_eq!(record_of(db.pool(), one.0, one.1).await.status, JobStatus::Cancelled);
    assert_eq!(record_of(db.pool(), two.0, two.1).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_callback_that_waits_for_an_asker_is_released_when_the_asked_one_ends() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let other = running(db.pool(), plain().delay(Duration::ZERO)).await;
    let (asker, callback) = (JobId::new(), JobId::new());
    let mut conn = db.pool().acquire().await.unwrap();
    let batch = vec![plain().id(asker).awaited(), plain().id(callback).after(TenantId::SYSTEM, asker)];
    queue::enqueue_many(&mut conn, batch).await.unwrap();
    let claim = claimed(db.pool(), worker).await;
    let tx = lease(&claim, db.pool()).begin().await.unwrap();
    tx.share_end_of(TenantId::SYSTEM, other.lease.job).await.unwrap().expect("it waits");
    let settled = settle(db.pool(), other.lease, Settlement::End(done(json!(1)), None)).await;
    assert_eq!(settled.released, [Queue::Enrich]);
    assert_eq!(claimed(db.pool(), worker).await.lease.job, callback);
}

#[tokio::test]
async fn an_asker_that_joins_exactly_while_the_other_ends_is_never_left_waiting() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let late = AtomicUsize::new(0);
    for round in 0..60 {
        // By turns the others' end takes the quick way, the thorough way, and that of a transaction.
        let job = if round % 2 == 0 { plain() } else { plain().awaited() };
        let other = running(db.pool(), job).await;
        let mut askers = Vec::new();
        for _ in 0..3 {
            stored(db.pool(), plain()).await;
            askers.push(claimed(db.pool(), worker).await);
        }
        let asking = join_all(askers.iter().map(|claim| async {
            let tx = lease(claim, db.pool()).begin().await.unwrap();
            if tx.share_end_of(TenantId::SYSTEM, other.lease.job).await.unwrap().is_none() {
                late.fetch_add(1, Ordering::Relaxed);
                end(db.pool(), claim.lease, done(json!("late"))).await;
            }
        }));
        let ending = async {
            for _ in 0..round % 4 {
                tokio::task::yield_now().await;
            }
            if round % 3 == 0 {
                let tx = lease(&other, db.pool()).begin().await.unwrap();
                tx.done(Some(json!("shared")), None).await.unwrap();
            } else {
                end(db.pool(), other.lease, done(json!("shared"))).await;
            }
        };
        tokio::join!(asking, ending);
        for claim in askers {
            assert_eq!(state(db.pool(), claim.lease.job).await, None, "round {round}: left waiting");
            let result = record(db.pool(), claim.lease.job).await.result.unwrap();
            assert!(result == json!("late") || result == json!("shared"), "{result}");
        }
    }
    assert!(late.into_inner() < 180, "somebody should have come in time");
}
