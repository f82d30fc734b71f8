//! Taking back what dead processes left.

use futures::future::join_all;
use queue::{Heartbeat, JobStatus, Swept, TAKEN_BACK_MAX, WORKER_LOST};

use super::*;
use crate::support::{TestDb, within};

#[tokio::test]
async fn the_jobs_of_a_silent_process_are_ready_again_and_lost_no_attempt() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let dead = process(db.pool()).await;
    claimed(db.pool(), dead).await;
    silence(db.pool(), dead).await;
    let swept = queue::sweep(db.pool(), LONG).await.unwrap();
    let expected = Swept { processes_lost: 1, taken_back: 1, given_up: 0, released: vec![Queue::Enrich] };
    assert_eq!(swept, expected);

    let record = record(db.pool(), job).await;
    assert_eq!((record.attempts, record.taken_back), (0, 1));
    let [line] = record.errors.as_slice() else { panic!("one line of history: {record:?}") };
    assert_eq!((line.code.as_str(), line.attempt, line.worker), (WORKER_LOST, Some(1), Some(dead)));
    let again = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!((again.lease.job, again.attempt), (job, 1));
    assert_eq!(queue::sweep(db.pool(), LONG).await.unwrap(), Swept::default());
}

#[tokio::test]
async fn a_job_that_outlives_no_worker_is_given_up_with_the_reason() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain().unique("one")).await;
    for death in 1..=TAKEN_BACK_MAX {
        let worker = process(db.pool()).await;
        assert_eq!(claimed(db.pool(), worker).await.lease.job, job, "death {death}");
        silence(db.pool(), worker).await;
        queue::sweep(db.pool(), LONG).await.unwrap();
    }
    let record = record(db.pool(), job).await;
    assert_eq!((record.status, record.errors.len()), (JobStatus::Failed, 3));
    let failure = record.failure.unwrap();
    assert_eq!(failure.code, WORKER_LOST);
    assert!(failure.message.contains("3 workers"), "{}", failure.message);
    let mut conn = db.pool().acquire().await.unwrap();
    let again = queue::enqueue(&mut conn, plain().unique("one")).await.unwrap();
    assert!(matches!(again, queue::Enqueued::New(_)), "its key is free");
}

#[tokio::test]
async fn a_live_process_is_never_robbed() {
    let db = TestDb::new().await;
    for _ in 0..4 {
        stored(db.pool(), plain()).await;
    }
    let (alive, dead) = (process(db.pool()).await, process(db.pool()).await);
    let kept: Vec<_> = [claimed(db.pool(), alive).await, claimed(db.pool(), alive).await]
        .map(|claim| claim.lease.job)
        .into();
    for _ in 0..2 {
        claimed(db.pool(), dead).await;
    }
    silence(db.pool(), alive).await;
    silence(db.pool(), dead).await;
    assert!(matches!(queue::heartbeat(db.pool(), alive, false, &[]).await.unwrap(), Heartbeat::Alive { .. }));
    let swept = queue::sweep(db.pool(), LONG).await.unwrap();
    assert_eq!((swept.processes_lost, swept.taken_back), (1, 2));
    for job in kept {
        assert_eq!(state(db.pool(), job).await.as_deref(), Some("running"));
    }
}

#[tokio::test]
async fn a_process_that_was_declared_dead_is_told_so_and_cannot_come_back_under_its_id() {
    let db = TestDb::new().await;
    let dead = process(db.pool()).await;
    silence(db.pool(), dead).await;
    queue::sweep(db.pool(), LONG).await.unwrap();
    assert!(matches!(queue::heartbeat(db.pool(), dead, false, &[]).await.unwrap(), Heartbeat::Lost));
    stored(db.pool(), plain()).await;
    assert!(queue::claim(db.pool(), dead, Queue::Enrich, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn jobs_of_a_process_that_signed_off_with_leases_are_taken_back_at_once() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    claimed(db.pool(), worker).await;
    let mut conn = db.pool().acquire().await.unwrap();
    queue::unregister(&mut conn, worker).await.unwrap();
    assert_eq!(queue::sweep(db.pool(), LONG).await.unwrap().taken_back, 1);
    assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn more_orphans_than_one_transaction_takes_are_all_taken_back() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    queue::enqueue_many(&mut conn, (0..2_300).map(|_| plain()).collect()).await.unwrap();
    let dead = process(db.pool()).await;
    assert_eq!(queue::claim(db.pool(), dead, Queue::Enrich, 2_300).await.unwrap().len(), 2_300);
    silence(db.pool(), dead).await;
    assert_eq!(queue::sweep(db.pool(), LONG).await.unwrap().taken_back, 2_300);
}

/// Sweepers that run together see one another's work half done, while live workers claim what they took back.
#[tokio::test]
async fn many_sweepers_at_once_take_each_job_back_once_and_rob_nobody() {
    let db = TestDb::new().await;
    for _ in 0..4 {
        let mut conn = db.pool().acquire().await.unwrap();
        queue::enqueue_many(&mut conn, (0..600).map(|_| plain()).collect()).await.unwrap();
        drop(conn);
        let dead = process(db.pool()).await;
        let orphans = queue::claim(db.pool(), dead, Queue::Enrich, 600).await.unwrap();
        silence(db.pool(), dead).await;
        let alive = process(db.pool()).await;
        let sweepers = join_all((0..5).map(|_| {
            let pool = db.pool().clone();
            tokio::spawn(async move { queue::sweep(&pool, LONG).await.unwrap().taken_back })
        }));
        let claiming = async {
            let mut claims = Vec::new();
            while claims.len() < orphans.len() {
                claims.extend(queue::claim(db.pool(), alive, Queue::Enrich, 50).await.unwrap());
            }
            claims
        };
        let (taken_back, claims) =
            Box::pin(within("all orphans to be claimed", async { tokio::join!(sweepers, claiming) })).await;
        let taken_back: u64 = taken_back.into_iter().map(Result::unwrap).sum();
        assert_eq!(taken_back, 600);
        for claim in claims {
            end(db.pool(), claim.lease, queue::End::Completed(None)).await;
        }
    }
}
