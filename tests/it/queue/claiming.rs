//! Taking jobs under lease.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use kernel::ids::JobId;
use queue::{NewJob, Queue};
use uuid::Uuid;

use super::kinds::Urgent;
use super::*;
use crate::support::TestDb;

#[tokio::test]
async fn the_most_urgent_job_is_claimed_first_and_then_the_oldest() {
    let db = TestDb::new().await;
    let mut expected = vec![stored(db.pool(), plain()).await, stored(db.pool(), plain()).await];
    let mut urgent = Vec::new();
    for _ in 0..2 {
        urgent.push(stored(db.pool(), NewJob::of(&Urgent {}).unwrap()).await);
    }
    urgent.append(&mut expected);
    let process = process(db.pool()).await;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(claimed(db.pool(), process).await.lease.job);
    }
    assert_eq!(found, urgent);
}

#[tokio::test]
async fn many_claimers_share_the_jobs_and_none_gets_more_than_it_asked_for() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    queue::enqueue_many(&mut conn, (0..200).map(|_| plain()).collect()).await.unwrap();
    drop(conn);
    let claimer = || async {
        let process = process(db.pool()).await;
        let mut found = Vec::new();
        loop {
            let jobs = queue::claim(db.pool(), process, Queue::Enrich, 7).await.unwrap();
            assert!(jobs.len() <= 7);
            if jobs.is_empty() {
                return found;
            }
            found.extend(jobs.into_iter().map(|job| job.lease.job));
        }
    };
    let found: Vec<JobId> = join_all((0..6).map(|_| claimer())).await.into_iter().flatten().collect();
    let different: HashSet<_> = found.iter().collect();
    assert_eq!(different.len(), found.len(), "a job was claimed twice");
    // Whoever found the rest locked by others gave up early; nothing was left over by the last.
    assert_eq!(found.len(), 200);
}

#[tokio::test]
async fn a_job_that_somebody_holds_is_passed_over_without_waiting() {
    let db = TestDb::new().await;
    let held = stored(db.pool(), plain()).await;
    let free = stored(db.pool(), plain()).await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    sqlx::query!("select from jobs where id = $1 for update", held.uuid()).execute(&mut *tx).await.unwrap();
    let process = process(db.pool()).await;
    assert_eq!(claimed(db.pool(), process).await.lease.job, free);
    tx.rollback().await.unwrap();
    assert_eq!(claimed(db.pool(), process).await.lease.job, held);
}

#[tokio::test]
async fn a_job_of_the_future_waits_for_its_time() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain().delay(Duration::from_secs(3_600))).await;
    let process = process(db.pool()).await;
    assert!(queue::claim(db.pool(), process, Queue::Enrich, 10).await.unwrap().is_empty());
    sqlx::query!("update jobs set run_at = now()").execute(db.pool()).await.unwrap();
    assert_eq!(claimed(db.pool(), process).await.lease.job, job);
}

#[tokio::test]
async fn queues_are_claimed_apart() {
    let db = TestDb::new().await;
    stored(db.pool(), plain()).await;
    let process = process(db.pool()).await;
    assert!(queue::claim(db.pool(), process, Queue::Webhooks, 10).await.unwrap().is_empty());
    assert_eq!(queue::claim(db.pool(), process, Queue::Enrich, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_process_that_is_not_registered_gets_nothing() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    assert!(queue::claim(db.pool(), Uuid::now_v7(), Queue::Enrich, 10).await.unwrap().is_empty());
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn every_claim_has_a_greater_token_than_the_one_before() {
    let db = TestDb::new().await;
    let mut claim = running(db.pool(), plain()).await;
    let process = process(db.pool()).await;
    for _ in 0..3 {
        settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
        let next = claimed(db.pool(), process).await;
        assert!(next.lease.token > claim.lease.token);
        claim = next;
    }
}
