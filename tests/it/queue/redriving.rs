//! Giving failed jobs another life.

use db::Pool;
use futures::future::join_all;
use kernel::ids::{JobId, PartnerId};
use queue::{End, JobStatus, Redriven};
use serde_json::json;

use super::*;
use crate::support::TestDb;

async fn redrive(pool: &Pool, job: JobId) -> Redriven {
    redrive_of(pool, TenantId::SYSTEM, job).await
}

async fn redrive_of(pool: &Pool, tenant: TenantId, job: JobId) -> Redriven {
    let mut tx = db::begin(pool).await.unwrap();
    let redriven = queue::redrive(&mut tx, tenant, job).await.unwrap();
    tx.commit().await.unwrap();
    redriven
}

async fn failed(pool: &Pool, job: NewJob) -> JobId {
    let claim = running(pool, job).await;
    let entry = json!({"code": "BROKEN", "message": "broken", "attempt": 1});
    let settlement = Settlement::End(End::Failed(failure("BROKEN")), Some(entry));
    settle(pool, claim.lease, settlement).await;
    claim.lease.job
}

#[tokio::test]
async fn a_failed_or_cancelled_job_runs_again_with_all_its_attempts_and_its_history() {
    let db = TestDb::new().await;
    let failed = failed(db.pool(), plain().unique("one").request_id(Some("req-1".into()))).await;
    let cancelled = stored(db.pool(), plain()).await;
    cancel(db.pool(), TenantId::SYSTEM, cancelled).await;

    assert_eq!(redrive(db.pool(), failed).await, Redriven::Ready(Some(Queue::Enrich)));
    assert_eq!(redrive(db.pool(), cancelled).await, Redriven::Ready(Some(Queue::Enrich)));
    let record = record(db.pool(), failed).await;
    assert_eq!((record.status, record.attempts, record.errors.len()), (JobStatus::Queued, 0, 1));
    assert_eq!(record.request_id.as_deref(), Some("req-1"));

    let worker = process(db.pool()).await;
    let jobs = queue::claim(db.pool(), worker, Queue::Enrich, 10).await.unwrap();
    assert_eq!(jobs.len(), 2);
    for job in jobs {
        assert_eq!(job.attempt, 1);
        end(db.pool(), job.lease, done(json!(1))).await;
    }
    let ended = sqlx::query_scalar!(r#"select count(*) as "n!" from jobs_finished"#)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(ended, 2, "one life each");
}

#[tokio::test]
async fn what_was_done_or_still_lives_or_belongs_to_others_is_not_redriven() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, done(json!(1))).await;
    assert_eq!(redrive(db.pool(), claim.lease.job).await, Redriven::NotFailed);
    let live = stored(db.pool(), plain().delay(LONG)).await;
    assert_eq!(redrive(db.pool(), live).await, Redriven::NotFailed);
    let failed = failed(db.pool(), plain()).await;
    let stranger = TenantId::from(PartnerId::new());
    assert_eq!(redrive_of(db.pool(), stranger, failed).await, Redriven::NotFailed);
}

#[tokio::test]
async fn a_redriven_job_takes_its_key_again_or_waits_until_it_is_free() {
    let db = TestDb::new().await;
    let first = failed(db.pool(), plain().unique("one")).await;
    let holder = running(db.pool(), plain().unique("one")).await;
    assert_eq!(redrive(db.pool(), first).await, Redriven::KeyTaken);
    end(db.pool(), holder.lease, done(json!(1))).await;
    assert_eq!(redrive(db.pool(), first).await, Redriven::Ready(Some(Queue::Enrich)));
    let mut conn = db.pool().acquire().await.unwrap();
    let asked = queue::enqueue(&mut conn, plain().unique("one")).await.unwrap();
    assert_eq!(asked, queue::Enqueued::Existing(first));
}

#[tokio::test]
async fn a_redriven_job_and_a_new_one_never_live_under_one_key() {
    let db = TestDb::new().await;
    for round in 0..20 {
        let key = format!("round {round}");
        let old = failed(db.pool(), plain().unique(&*key)).await;
        let enqueue = async {
            let mut conn = db.pool().acquire().await.unwrap();
            queue::enqueue(&mut conn, plain().unique(&*key)).await.unwrap()
        };
        let (redriven, _) = tokio::join!(redrive(db.pool(), old), enqueue);
        let live =
            sqlx::query_scalar!(r#"select array_agg(id) as "ids!" from jobs where unique_key = $1"#, key)
                .fetch_one(db.pool())
                .await
                .unwrap();
        assert_eq!(live.len(), 1, "{redriven:?}");
        for job in live {
            cancel(db.pool(), TenantId::SYSTEM, JobId::from_uuid(job)).await;
        }
    }
}

#[tokio::test]
async fn many_who_redrive_one_job_redrive_it_once() {
    let db = TestDb::new().await;
    let failed = failed(db.pool(), plain().unique("one")).await;
    let redriven = join_all((0..8).map(|_| redrive(db.pool(), failed))).await;
    let ready = redriven.iter().filter(|answer| matches!(answer, Redriven::Ready(_))).count();
    assert_eq!(ready, 1, "{redriven:?}");
    assert!(redriven.iter().all(|answer| *answer != Redriven::KeyTaken), "{redriven:?}");
}
