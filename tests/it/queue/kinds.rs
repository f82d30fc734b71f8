//! Kinds of jobs whose handlers do what their arguments say, and tell what they did.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobs::{Context, Entry, Handler, entry};
use kernel::ids::JobId;
use queue::{Backoff, Job, JobError, NewJob, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a worker in these tests knows.
pub(super) const KINDS: &[Entry] = &[entry::<Scripted>(), entry::<Urgent>(), entry::<Impatient>()];
/// A worker of an older release.
pub(super) const OLD_KINDS: &[Entry] = &[entry::<Urgent>()];

const QUICK: Backoff = Backoff::Exponential { base: Duration::from_millis(1), max: Duration::from_millis(5) };
const POLICY: Policy = Policy {
    queue: Queue::Enrich,
    priority: 0,
    attempts_max: 3,
    timeout: Duration::from_secs(60),
    backoff: QUICK,
    ..Policy::DEFAULT
};

/// A handler that does one act of its script at each run, and the last one for ever.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Scripted {
    pub(super) acts: Vec<Act>,
}

/// What a handler may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Act {
    Done(Value),
    Fail,
    FailForGood,
    Panic,
    Snooze,
    CallOff,
    /// Runs until it is stopped.
    Hang,
    /// Runs until the test opens its gate.
    WaitForGate,
    /// Ends in its own transaction, with a follow-up job.
    DoneInTransaction,
    /// Drops its transaction with a follow-up job in it, and is done.
    RollBack,
}

impl Scripted {
    /// A job with a script.
    pub(super) fn job(acts: impl Into<Vec<Act>>) -> NewJob {
        NewJob::of(&Self { acts: acts.into() }).unwrap()
    }
}

impl Job for Scripted {
    const KIND: &'static str = "test.scripted";
    const POLICY: Policy = POLICY;
}

impl Handler for Scripted {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let _here = Here::enter(cx.job());
        let run = seen(cx.job()).runs;
        let act = self.acts.get(run - 1).or(self.acts.last());
        match act {
            None => Ok(Outcome::Done(None)),
            Some(Act::Done(result)) => Ok(Outcome::Done(Some(result.clone()))),
            Some(Act::Fail) => Err(JobError::retryable("FAILED", format!("failed in run {run}"))),
            Some(Act::FailForGood) => Err(JobError::fatal("FAILED_FOR_GOOD", "no use")),
            Some(Act::Panic) => panic!("a panic on purpose"),
            Some(Act::Snooze) => Ok(Outcome::Snooze(Duration::from_millis(1))),
            Some(Act::CallOff) => Ok(Outcome::Cancel(JobError::fatal("NOT_WANTED", "nobody wants it"))),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::WaitForGate) => {
                crate::support::until("a test opens the gate", || seen(cx.job()).gate_open).await;
                Ok(Outcome::Done(None))
            }
            Some(Act::DoneInTransaction) => {
                let mut tx = cx.begin().await?;
                tx.enqueue(follow_up(cx.job())).await?;
                Ok(tx.done(Some(Value::from("in its transaction")), None).await?)
            }
            Some(Act::RollBack) => {
                let mut tx = cx.begin().await?;
                tx.enqueue(follow_up(cx.job())).await?;
                drop(tx);
                Ok(Outcome::Done(None))
            }
        }
    }
}

/// The job that some acts store; its id follows from theirs.
pub(super) fn follow_up(job: JobId) -> NewJob {
    Scripted::job([]).id(JobId::from_uuid(job.derive("follow-up")))
}

/// Before others of its queue.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Urgent {}

impl Job for Urgent {
    const KIND: &'static str = "test.urgent";
    const POLICY: Policy = Policy { priority: -10, ..POLICY };
}

impl Handler for Urgent {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let _here = Here::enter(cx.job());
        Ok(Outcome::Done(None))
    }
}

/// Hangs, and may for a few milliseconds only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Impatient {}

impl Job for Impatient {
    const KIND: &'static str = "test.impatient";
    const POLICY: Policy = Policy { attempts_max: 2, timeout: Duration::from_millis(20), ..POLICY };
}

impl Handler for Impatient {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let _here = Here::enter(cx.job());
        std::future::pending().await
    }
}

/// What handlers of a job did in this test process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// How often a handler was entered.
    pub(super) runs: usize,
    /// How many are in it now.
    pub(super) inside: usize,
    /// The most that were in it at once.
    pub(super) inside_max: usize,
    pub(super) gate_open: bool,
}

static SEEN: LazyLock<Mutex<HashMap<JobId, Seen>>> = LazyLock::new(Mutex::default);

fn book() -> MutexGuard<'static, HashMap<JobId, Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What handlers of a job did so far.
pub(super) fn seen(job: JobId) -> Seen {
    book().get(&job).copied().unwrap_or_default()
}

/// Lets a handler that waits for its gate go on.
pub(super) fn open_gate(job: JobId) {
    book().entry(job).or_default().gate_open = true;
}

/// A handler's presence; also a handler that is dropped leaves.
struct Here(JobId);

impl Here {
    fn enter(job: JobId) -> Self {
        let mut book = book();
        let seen = book.entry(job).or_default();
        seen.runs += 1;
        seen.inside += 1;
        seen.inside_max = seen.inside_max.max(seen.inside);
        Self(job)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        book().entry(self.0).or_default().inside -= 1;
    }
}
