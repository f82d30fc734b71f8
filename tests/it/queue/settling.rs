//! What workers report becomes the jobs' next state.

use std::time::Duration;

use queue::{Acknowledgement, Backoff, End, JobError, JobStatus};
use serde_json::json;

use super::*;
use crate::support::TestDb;

const MINUTES: Backoff = Backoff::Steps(&[Duration::from_secs(60), Duration::from_secs(120)]);

#[tokio::test]
async fn one_batch_settles_every_kind_of_outcome_and_names_what_it_refused() {
    let db = TestDb::new().await;
    let mut claims = Vec::new();
    for job in [plain(), plain().awaited(), plain(), plain().awaited(), plain(), plain(), plain(), plain()] {
        claims.push(running(db.pool(), job).await);
    }
    let mut settlements = vec![
        Settlement::End(done(json!(1)), None),
        Settlement::End(done(json!(2)), None),
        Settlement::End(End::Failed(failure("BROKEN")), None),
        Settlement::End(End::Cancelled(failure("UNWANTED")), None),
        Settlement::Retry(Duration::from_secs(60), json!({"code": "X", "message": "x", "attempt": 1})),
        Settlement::Again(Duration::from_secs(60)),
        Settlement::Park,
        Settlement::End(done(json!("stale")), None),
    ];
    claims[7].lease.token += 1;
    let batch: Vec<Acknowledgement> = claims
        .iter()
        .zip(settlements.drain(..))
        .map(|(claim, settlement)| Acknowledgement { lease: claim.lease, row: claim.row, settlement })
        .collect();

    let settled = queue::settle(db.pool(), &batch).await.unwrap();
    assert_eq!((settled.ended, settled.refused), (4, vec![claims[7].lease.job]));
    let mut states = Vec::new();
    for claim in &claims {
        let live = state(db.pool(), claim.lease.job).await;
        let record = record(db.pool(), claim.lease.job).await;
        states.push(live.unwrap_or_else(|| record.status.to_string()));
    }
    assert_eq!(
        states,
        ["completed", "completed", "failed", "cancelled", "scheduled", "scheduled", "parked", "running"]
    );
    assert_eq!(record(db.pool(), claims[1].lease.job).await.result, Some(json!(2)));
    assert_eq!(record(db.pool(), claims[2].lease.job).await.failure, Some(failure("BROKEN")));
}

#[tokio::test]
async fn a_retry_is_stored_with_its_delay_and_with_what_went_wrong() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let job = stored(db.pool(), plain()).await;
    let claim = claimed(db.pool(), worker).await;
    let error = JobError::retryable("VENDOR_UNAVAILABLE", "the vendor is away")
        .caused_by(&std::io::Error::other("connection refused"));
    let settlement = Settlement::of_error(&error, claim.attempt, claim.attempts_max, &MINUTES, worker, 0.0);
    settle(db.pool(), claim.lease, settlement).await;

    let record = record(db.pool(), job).await;
    let [line] = record.errors.as_slice() else { panic!("one line of history: {record:?}") };
    assert_eq!((line.attempt, line.worker), (Some(1), Some(worker)));
    assert_eq!((line.code.as_str(), line.message.as_str()), ("VENDOR_UNAVAILABLE", "the vendor is away"));
    assert_eq!(line.chain, ["connection refused"]);
    assert_eq!((record.run_at.unwrap() - line.at).num_milliseconds(), 60_000, "by the database's clock");
    assert_eq!(record.attempts, 1);
    assert!(queue::claim(db.pool(), worker, Queue::Enrich, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_retry_comes_no_earlier_than_the_other_side_asked() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let asked = Duration::from_secs(500);
    let error = JobError::retryable("BUSY", "later").after(Some(asked));
    let settlement = Settlement::of_error(&error, 1, 3, &MINUTES, Uuid::nil(), 0.5);
    settle(db.pool(), claim.lease, settlement).await;
    let record = record(db.pool(), claim.lease.job).await;
    let delay = (record.run_at.unwrap() - record.errors[0].at).to_std().unwrap();
    assert!((asked..asked * 2).contains(&delay), "{delay:?}");
}

#[tokio::test]
async fn the_last_attempt_that_fails_ends_the_job_with_its_whole_history() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    let immediately = Backoff::Steps(&[]);
    for attempt in 1..=3 {
        assert_eq!(state(db.pool(), job).await.as_deref(), Some("ready"), "before attempt {attempt}");
        let claim = claimed(db.pool(), worker).await;
        assert_eq!((claim.attempt, claim.attempts_max), (attempt, 3));
        let error = JobError::retryable("BROKEN", format!("attempt {attempt}"));
        settle(
            db.pool(),
            claim.lease,
            Settlement::of_error(&error, claim.attempt, claim.attempts_max, &immediately, worker, 0.0),
        )
        .await;
    }
    let record = record(db.pool(), job).await;
    assert_eq!((record.status, record.attempts), (JobStatus::Failed, 3));
    assert_eq!(record.failure.unwrap().message, "attempt 3");
    let history: Vec<_> = record.errors.iter().map(|line| line.attempt.unwrap()).collect();
    assert_eq!(history, [1, 2, 3]);
}

#[tokio::test]
async fn an_error_that_no_attempt_can_mend_ends_the_job_at_once() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let error = JobError::fatal("NOT_FOUND", "there is no such profile");
    let settlement = Settlement::of_error(&error, 1, 3, &MINUTES, Uuid::nil(), 0.0);
    settle(db.pool(), claim.lease, settlement).await;
    let record = record(db.pool(), claim.lease.job).await;
    assert_eq!((record.status, record.attempts, record.errors.len()), (JobStatus::Failed, 1, 1));
}

#[tokio::test]
async fn a_snooze_uses_no_attempt_and_leaves_no_history() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain()).await;
    let worker = process(db.pool()).await;
    for _ in 0..10 {
        let claim = claimed(db.pool(), worker).await;
        assert_eq!(claim.attempt, 1);
        settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
    }
    let record = record(db.pool(), job).await;
    assert_eq!((record.attempts, record.errors.len()), (0, 0));
}

#[tokio::test]
async fn a_parked_job_waits_for_a_worker_that_knows_its_kind() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    settle(db.pool(), claim.lease, Settlement::Park).await;
    let worker = process(db.pool()).await;
    assert!(queue::claim(db.pool(), worker, Queue::Enrich, 1).await.unwrap().is_empty());
    assert_eq!(queue::unpark(db.pool(), &["test.other"]).await.unwrap(), 0);
    assert_eq!(queue::unpark(db.pool(), &["test.other", "test.scripted"]).await.unwrap(), 1);
    let again = claimed(db.pool(), worker).await;
    assert_eq!((again.lease.job, again.attempt), (claim.lease.job, 1));
}

#[tokio::test]
async fn whom_a_result_is_about_is_remembered_for_erasure() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let creator = Uuid::now_v7();
    let tx = lease(&claim, db.pool()).begin().await.unwrap();
    tx.done(Some(json!({})), Some(creator)).await.unwrap();
    assert_eq!(record(db.pool(), claim.lease.job).await.subject, Some(creator));
}
