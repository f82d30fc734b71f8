//! A job past its deadline fails, wherever it stands.

use std::time::Duration;

use jobs::{Context, Entry, Handler, entry};
use queue::{DEADLINE_EXCEEDED, Job, JobError, JobStatus, NewJob, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::kinds::{Act, KINDS, seen};
use super::*;
use crate::support::{TestClock, TestDb, TestWorker, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// A database whose clock stands still.
async fn frozen() -> (TestDb, TestClock) {
    let db = TestDb::new().await;
    let clock = TestClock::install(&db).await;
    (db, clock)
}

async fn assert_missed(pool: &Pool, job: JobId) {
    let record = record(pool, job).await;
    assert_eq!(record.status, JobStatus::Failed, "{record:?}");
    assert_eq!(record.failure.unwrap().code, DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_job_that_no_worker_holds_fails_at_its_deadline_in_whatever_state_it_is() {
    let (db, clock) = frozen().await;
    let limited = || plain().deadline(MINUTE);
    let other = stored(db.pool(), plain().delay(LONG).awaited()).await;
    let parked = running(db.pool(), limited()).await.lease;
    settle(db.pool(), parked, Settlement::Park).await;
    let shares = running(db.pool(), limited()).await;
    let tx = lease(&shares, db.pool()).begin().await.unwrap();
    tx.share_end_of(TenantId::SYSTEM, other).await.unwrap().expect("it waits");
    let waits = stored(db.pool(), limited().after(TenantId::SYSTEM, other)).await;
    let ready = stored(db.pool(), limited()).await;
    let scheduled = stored(db.pool(), limited().delay(LONG)).await;
    let jobs = [ready, scheduled, waits, shares.lease.job, parked.job];
    let mut states = Vec::new();
    for job in jobs {
        states.push(state(db.pool(), job).await.unwrap());
    }
    assert_eq!(states, ["ready", "scheduled", "waiting", "waiting", "parked"]);

    clock.advance(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(queue::expire(db.pool()).await.unwrap().0, 0, "not before its time");
    clock.advance(Duration::from_millis(1)).await;
    assert_eq!(queue::expire(db.pool()).await.unwrap().0, jobs.len());
    for job in jobs {
        assert_missed(db.pool(), job).await;
    }
    assert_eq!(state(db.pool(), other).await.as_deref(), Some("scheduled"), "it has no deadline");
}

#[tokio::test]
async fn what_waited_for_a_job_past_its_deadline_waits_no_longer() {
    let (db, clock) = frozen().await;
    let late = stored(db.pool(), plain().awaited().delay(LONG).deadline(MINUTE)).await;
    let after = stored(db.pool(), plain().after(TenantId::SYSTEM, late)).await;
    clock.advance(MINUTE).await;
    let (expired, released) = queue::expire(db.pool()).await.unwrap();
    assert_eq!((expired, released.as_slice()), (1, [Queue::Enrich].as_slice()));
    assert_eq!(state(db.pool(), after).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_retry_is_never_scheduled_past_the_deadline() {
    let (db, _clock) = frozen().await;
    for (deadline, delay_s) in [(Some(MINUTE), 60), (Some(LONG * 2), 600), (None, 600)] {
        let job = deadline.map_or_else(plain, |deadline| plain().deadline(deadline));
        let claim = running(db.pool(), job).await;
        settle(db.pool(), claim.lease, Settlement::Retry(LONG, json!({"code": "X", "message": "x"}))).await;
        let record = record(db.pool(), claim.lease.job).await;
        assert_eq!((record.run_at.unwrap() - record.created_at).num_seconds(), delay_s, "{deadline:?}");
        assert_eq!(state(db.pool(), claim.lease.job).await.as_deref(), Some("scheduled"));
    }
}

#[tokio::test]
async fn a_claimed_job_says_how_long_it_has_and_nobody_but_its_worker_ends_it() {
    let (db, clock) = frozen().await;
    stored(db.pool(), plain().deadline(MINUTE)).await;
    clock.advance(MINUTE / 2).await;
    let claim = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!(claim.deadline, Some(MINUTE / 2));
    clock.advance(MINUTE).await;
    assert_eq!(queue::expire(db.pool()).await.unwrap().0, 0);
    settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
    let again = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!(again.deadline, Some(Duration::ZERO), "so that it is failed instead of run");
}

#[tokio::test]
async fn a_handler_that_runs_past_the_deadline_is_stopped_and_not_tried_again() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), Scripted::job([Act::Hang]).deadline(Duration::from_secs(2))).await;
    eventually("the job ends", async || state(db.pool(), job).await.is_none()).await;
    assert_missed(db.pool(), job).await;
    assert_eq!((seen(job).runs, seen(job).inside), (1, 0));
    let record = record(db.pool(), job).await;
    let took = (record.finished_at.unwrap() - record.created_at).num_milliseconds();
    assert!((2_000..10_000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn a_job_whose_deadline_passed_before_any_worker_came_does_not_run() {
    let db = TestDb::new().await;
    let late = stored(db.pool(), plain().deadline(Duration::ZERO)).await;
    let _worker = TestWorker::start(&db, KINDS);
    eventually("the job ends", async || state(db.pool(), late).await.is_none()).await;
    assert_missed(db.pool(), late).await;
    assert_eq!(seen(late).runs, 0);
}

/// May take a minute in all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Perishable {}

impl Job for Perishable {
    const KIND: &'static str = "test.perishable";
    const POLICY: Policy = Policy { queue: Queue::Enrich, deadline: Some(MINUTE), ..Policy::DEFAULT };
}

impl Handler for Perishable {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        Ok(Outcome::Done(None))
    }
}

const _: Entry = entry::<Perishable>();

#[tokio::test]
async fn a_kinds_policy_sets_the_deadline_unless_the_job_says_otherwise() {
    let (db, clock) = frozen().await;
    let usual = stored(db.pool(), NewJob::of(&Perishable {}).unwrap()).await;
    let longer = stored(db.pool(), NewJob::of(&Perishable {}).unwrap().deadline(LONG)).await;
    clock.advance(MINUTE).await;
    queue::expire(db.pool()).await.unwrap();
    assert_missed(db.pool(), usual).await;
    assert_eq!(state(db.pool(), longer).await.as_deref(), Some("ready"));
}
