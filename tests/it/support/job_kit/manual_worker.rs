//! A worker that a test drives by hand: it claims a job, runs one attempt and settles it when the test says so.
//!
//! What a real worker does by timers and chance happens here in the test's order: there is no jitter, so delays are
//! exactly those that the policies name, and a crash happens between the two steps that the test chooses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use db::Pool;
use futures::future::join_all;
use jobs::{Context, Entry, Services};
use kernel::ids::{JobId, TenantId};
use queue::{
    Acknowledgement, CANCELLED, Claimed, DEADLINE_EXCEEDED, End, JobError, JobRecord, Lease, LeaseKey,
    Outcome, Queue, Settlement, Waker,
};
use uuid::Uuid;

use crate::support::{process_info, within};

/// More jobs than any test stores.
const ALL: usize = 10_000;
/// The draw that lengthens no delay: exponential ones are nothing then, steps are exact.
const NO_CHANCE: f64 = 0.0;

/// One incarnation of a worker process, without tasks of its own.
pub struct ManualWorker {
    services: Arc<Services>,
    kinds: &'static [Entry],
    process: Uuid,
}

impl ManualWorker {
    /// A new incarnation that works all queues and knows these kinds.
    pub async fn register(services: Arc<Services>, kinds: &'static [Entry]) -> Self {
        let info = process_info(kinds);
        let process = queue::register(&services.pool, &info).await.unwrap();
        Self { services, kinds, process }
    }

    /// The incarnation's id.
    pub fn process(&self) -> Uuid {
        self.process
    }

    /// What its jobs use.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Claims all ready jobs of a kind, the oldest first; others that it was given go back unharmed.
    pub async fn claim_all(&self, kind: &str) -> Vec<Claimed> {
        let jobs = self.claim_any(self.entry(kind).policy.queue).await;
        let (mut wanted, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.kind == kind);
        self.give_back(&others).await;
        wanted.sort_by_key(|job| job.lease.job);
        wanted
    }

    /// Claims the oldest ready job of a kind.
    pub async fn claim(&self, kind: &str) -> Claimed {
        let mut claimed = self.claim_all(kind).await;
        assert!(!claimed.is_empty(), "no {kind} is ready");
        self.give_back(&claimed.split_off(1)).await;
        claimed.remove(0)
    }

    /// Claims all ready jobs of a queue.
    pub async fn claim_any(&self, queue: Queue) -> Vec<Claimed> {
        queue::claim(self.pool(), self.process, queue, ALL).await.unwrap()
    }

    /// Runs one attempt and writes nothing about it but its progress.
    pub async fn run(&self, claimed: &Claimed) -> Result<Outcome, JobError> {
        if claimed.cancel_requested {
            return Ok(Outcome::Cancel(JobError::fatal(CANCELLED, "cancelled while it ran")));
        }
        if claimed.deadline.is_some_and(|left| left.is_zero()) {
            return Err(JobError::fatal(DEADLINE_EXCEEDED, "not done by its deadline"));
        }
        let lease = Lease::new(claimed, self.pool().clone(), Waker::new());
        let said = Arc::new(Mutex::new(None));
        let noted = said.clone();
        let context = Context::new(lease, self.services.clone()).with_progress(Arc::new(move |report| {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        }));
        let entry = self.entry(&claimed.kind);
        let answer = within("an attempt", entry.run(context, claimed.args.clone())).await;
        let last = said.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(report) = last {
            queue::write_progress(self.pool(), &[(claimed.lease, report)]).await.unwrap();
        }
        answer
    }

    /// Writes what came of an attempt, by the rules of real workers; answers whether its lease still held.
    pub async fn settle(&self, claimed: &Claimed, answer: Result<Outcome, JobError>) -> bool {
        let settlement = match answer {
            Ok(Outcome::Settled(_)) => return true,
            Ok(Outcome::Done(result)) => Settlement::End(End::Completed(result), None),
            Ok(Outcome::Cancel(why)) => Settlement::End(End::Cancelled(why.failure()), None),
            Ok(Outcome::Snooze(delay)) => Settlement::Again(delay),
            Err(error) => Settlement::of_error(
                &error,
                claimed.attempt,
                claimed.attempts_max,
                &self.entry(&claimed.kind).policy.backoff,
                self.process,
                NO_CHANCE,
            ),
        };
        let acknowledgement = Acknowledgement { lease: claimed.lease, row: claimed.row, settlement };
        let settled = queue::settle(self.pool(), &[acknowledgement]).await.unwrap();
        settled.refused.is_empty()
    }

    /// Claims the oldest ready job of a kind, runs an attempt, settles it, and answers what the job is now.
    pub async fn run_one(&self, kind: &str) -> JobRecord {
        let claimed = self.claim(kind).await;
        self.attempt(&claimed).await
    }

    /// The same for all ready jobs of a kind, at once.
    pub async fn run_all(&self, kind: &str) -> Vec<JobRecord> {
        let claimed = self.claim_all(kind).await;
        join_all(claimed.iter().map(|job| self.attempt(job))).await
    }

    /// Falls silent for longer than any lease, and has its jobs taken back. It may still run and settle what it had
    /// claimed, as a process that wakes too late does.
    pub async fn die(&self) {
        sqlx::query!(
            "update worker_processes set heartbeat_at = heartbeat_at - interval '1 hour' where id = $1",
            self.process
        )
        .execute(self.pool())
        .await
        .unwrap();
        let lease = Duration::from_secs(600);
        assert_eq!(queue::sweep(self.pool(), lease).await.unwrap().processes_lost, 1);
    }

    /// Another incarnation with the same services.
    pub async fn successor(&self) -> Self {
        Self::register(self.services.clone(), self.kinds).await
    }

    /// Runs an attempt of a claimed job, settles it, and answers what the job is now.
    pub async fn attempt(&self, claimed: &Claimed) -> JobRecord {
        let answer = self.run(claimed).await;
        assert!(self.settle(claimed, answer).await, "the lease on a {} was lost", claimed.kind);
        let LeaseKey { tenant, job, .. } = claimed.lease;
        self.record(tenant, job).await
    }

    /// A job, live or finished.
    pub async fn record(&self, tenant: TenantId, job: JobId) -> JobRecord {
        let mut conn = self.pool().acquire().await.unwrap();
        queue::get(&mut conn, tenant, job).await.unwrap().expect("the job is there")
    }

    async fn give_back(&self, jobs: &[Claimed]) {
        let settlement = Settlement::Again(Duration::ZERO);
        let back = |job: &Claimed| Acknowledgement {
            lease: job.lease,
            row: job.row,
            settlement: settlement.clone(),
        };
        queue::settle(self.pool(), &jobs.iter().map(back).collect::<Vec<_>>()).await.unwrap();
    }

    fn pool(&self) -> &Pool {
        &self.services.pool
    }

    /// What it knows of a kind.
    fn entry(&self, kind: &str) -> &'static Entry {
        jobs::find(self.kinds, kind).expect("a kind that this worker knows")
    }
}
