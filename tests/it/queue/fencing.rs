//! A worker that lost its lease changes nothing, however late it wakes.

use std::time::Duration;

use db::Pool;
use queue::{Acknowledgement, End, Error, JobStatus};
use serde_json::json;

use super::*;
use crate::support::TestDb;

fn every_settlement() -> Vec<Settlement> {
    vec![
        Settlement::End(done(json!("stale")), None),
        Settlement::End(End::Failed(failure("STALE")), None),
        Settlement::End(End::Cancelled(failure("STALE")), None),
        Settlement::Retry(Duration::ZERO, json!({"code": "STALE", "message": "stale"})),
        Settlement::Again(Duration::ZERO),
        Settlement::Park,
    ]
}

/// Has a worker's job taken back as if the worker had died.
async fn taken_back(pool: &Pool, process: Uuid) {
    silence(pool, process).await;
    let swept = queue::sweep(pool, LONG).await.unwrap();
    assert_eq!((swept.processes_lost, swept.taken_back), (1, 1));
}

#[tokio::test]
async fn after_a_takeover_the_old_worker_changes_nothing() {
    let db = TestDb::new().await;
    for awaited in [false, true] {
        let job = if awaited { plain().awaited() } else { plain() };
        let job = stored(db.pool(), job).await;
        let old = process(db.pool()).await;
        let stale = claimed(db.pool(), old).await;
        taken_back(db.pool(), old).await;
        let fresh = claimed(db.pool(), process(db.pool()).await).await;
        assert_eq!(fresh.lease.job, job);

        for settlement in every_settlement() {
            let settled = settle(db.pool(), stale.lease, settlement.clone()).await;
            assert_eq!((settled.refused, settled.ended), (vec![job], 0), "{settlement:?}");
        }
        let begun = lease(&stale, db.pool()).begin().await;
        assert!(matches!(begun, Err(Error::LeaseLost)));
        assert_eq!(state(db.pool(), job).await.as_deref(), Some("running"));

        let tx = lease(&fresh, db.pool()).begin().await.unwrap();
        tx.done(Some(json!("fresh")), None).await.unwrap();
        assert_eq!(record(db.pool(), job).await.result, Some(json!("fresh")));
    }
}

#[tokio::test]
async fn a_lease_that_was_taken_back_is_lost_before_anybody_claims_the_job_again() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let old = process(db.pool()).await;
    let stale = claimed(db.pool(), old).await;
    taken_back(db.pool(), old).await;
    for settlement in every_settlement() {
        assert_eq!(settle(db.pool(), stale.lease, settlement).await.refused, [job]);
    }
    assert!(matches!(lease(&stale, db.pool()).begin().await, Err(Error::LeaseLost)));
    assert_eq!(record(db.pool(), job).await.status, JobStatus::Processing);
    assert_eq!(claimed(db.pool(), process(db.pool()).await).await.lease.job, job);
}

#[tokio::test]
async fn a_batch_that_is_repeated_is_refused_and_harms_nothing() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let batch = [Acknowledgement {
        lease: claim.lease,
        row: None,
        settlement: Settlement::End(done(json!(1)), None),
    }];
    assert_eq!(queue::settle(db.pool(), &batch).await.unwrap().ended, 1);
    assert_eq!(queue::settle(db.pool(), &batch).await.unwrap().refused, [claim.lease.job]);
    let rows = sqlx::query_scalar!(r#"select count(*) as "n!" from jobs_finished"#)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn a_job_in_its_completing_transaction_is_not_taken_back() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    let claim = claimed(db.pool(), worker).await;
    let tx = lease(&claim, db.pool()).begin().await.unwrap();
    silence(db.pool(), worker).await;
    let swept = queue::sweep(db.pool(), LONG).await.unwrap();
    assert_eq!((swept.processes_lost, swept.taken_back), (1, 0));
    tx.done(None, None).await.unwrap();
    assert_eq!(record(db.pool(), job).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing_and_the_job_runs_on() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let mut tx = lease(&claim, db.pool()).begin().await.unwrap();
    let follow_up = tx.enqueue(plain()).await.unwrap().id();
    drop(tx);
    assert_eq!(state(db.pool(), follow_up).await, None);

    let mut tx = lease(&claim, db.pool()).begin().await.unwrap();
    let follow_up = tx.enqueue(plain()).await.unwrap().id();
    tx.commit().await.unwrap();
    assert_eq!(state(db.pool(), follow_up).await.as_deref(), Some("ready"));
    assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("running"));
}
