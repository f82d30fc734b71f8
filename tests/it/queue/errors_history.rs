//! What is kept of failed attempts.

use std::time::Duration;

use queue::{Backoff, End, JobError, WORKER_LOST};

use super::*;
use crate::support::TestDb;

const AT_ONCE: Backoff = Backoff::Steps(&[]);

/// An error with a cause, the causes of the cause, and so on.
#[derive(Debug, thiserror::Error)]
#[error("cause {depth}")]
struct Chained {
    depth: usize,
    source: Option<Box<Chained>>,
}

fn chain(length: usize) -> Chained {
    (0..length).rev().fold(Chained { depth: length, source: None }, |inner, depth| Chained {
        depth,
        source: Some(Box::new(inner)),
    })
}

#[tokio::test]
async fn each_failed_attempt_leaves_its_number_its_worker_its_time_and_its_causes() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let mut workers = Vec::new();
    for attempt in 1..=2 {
        let worker = process(db.pool()).await;
        let claim = claimed(db.pool(), worker).await;
        let error = JobError::retryable("BUSY", format!("attempt {attempt}")).caused_by(&chain(2));
        settle(db.pool(), claim.lease, Settlement::of_error(&error, claim.attempt, 3, &AT_ONCE, worker, 0.0))
            .await;
        workers.push(Some(worker));
    }
    let record = record(db.pool(), job).await;
    let lines = &record.errors;
    assert_eq!(lines.iter().map(|line| line.attempt).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(lines.iter().map(|line| line.worker).collect::<Vec<_>>(), workers);
    assert_eq!(lines[1].message, "attempt 2");
    assert_eq!(lines[1].chain, ["cause 0", "cause 1", "cause 2"]);
    assert!(record.created_at <= lines[0].at && lines[0].at < lines[1].at, "{lines:?}");
}

#[tokio::test]
async fn history_keeps_the_last_fifty_and_each_is_bounded() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    for n in 1..=60_i16 {
        let claim = claimed(db.pool(), worker).await;
        let error = JobError::retryable("BUSY", "long ".repeat(1_000)).caused_by(&chain(30));
        settle(db.pool(), claim.lease, Settlement::of_error(&error, n, 100, &AT_ONCE, worker, 0.0)).await;
    }
    let claim = claimed(db.pool(), worker).await;
    let last = Settlement::of_error(&JobError::fatal("GONE", "no use"), 61, 100, &AT_ONCE, worker, 0.0);
    settle(db.pool(), claim.lease, last).await;
    let record = record(db.pool(), job).await;
    let kept: Vec<i16> = record.errors.iter().map(|line| line.attempt.unwrap()).collect();
    assert_eq!(kept, (12..=61).collect::<Vec<_>>());
    for line in &record.errors {
        assert!(line.message.len() <= 1_000 && line.chain.len() <= 8, "{line:?}");
    }
    let bytes = sqlx::query_scalar!(
        r#"select octet_length(errors::text) as "bytes!" from jobs_finished where id = $1"#,
        job.uuid()
    );
    assert!(bytes.fetch_one(db.pool()).await.unwrap() < 100_000);
}

#[tokio::test]
async fn a_lost_worker_is_part_of_the_history_and_a_success_keeps_it() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let dead = process(db.pool()).await;
    claimed(db.pool(), dead).await;
    silence(db.pool(), dead).await;
    queue::sweep(db.pool(), LONG).await.unwrap();
    let claim = claimed(db.pool(), process(db.pool()).await).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    let record = record(db.pool(), job).await;
    let [line] = record.errors.as_slice() else { panic!("one line: {record:?}") };
    assert_eq!((line.code.as_str(), line.worker, line.attempt), (WORKER_LOST, Some(dead), Some(1)));
}

#[tokio::test]
async fn a_wait_that_no_clock_can_count_is_no_reason_to_fail() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let error = JobError::retryable("BUSY", "come back never").after(Some(Duration::MAX));
    let settlement = Settlement::of_error(&error, 1, 3, &AT_ONCE, Uuid::nil(), 0.0);
    settle(db.pool(), claim.lease, settlement).await;
    assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("scheduled"));
}
