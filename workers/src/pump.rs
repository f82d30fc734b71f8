//! One task per pool that does all of its database work: reports and free slots go in, settlements and claims
//! come out.
//!
//! While a statement runs, reports pile up and are settled together by the next: batches form by themselves
//! under load, and a lone job is settled at once. A database that cannot be reached is waited out; meanwhile
//! nothing is lost, because slots stay taken until their settlement is written or refused.

use std::{collections::HashMap, time::Duration};

use jobs::Entry;
use queue::{
    Acknowledgement, Backoff, CANCELLED, Claimed, End, INTERNAL_ERROR, JobError, LeaseKey, Outcome, Queue,
    Settlement, Waker,
};
use rand::RngExt;
use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    acknowledge::Report,
    execute::Verdict,
    incarnation::Incarnation,
    running::{Running, Stop},
};

pub(crate) struct Pump {
    pub(crate) queue: Queue,
    pub(crate) slots: usize,
    pub(crate) pool: PgPool,
    pub(crate) waker: Waker,
    pub(crate) incarnation: Incarnation,
    pub(crate) running: Running,
    pub(crate) kinds: &'static [Entry],
    pub(crate) poll: Duration,
    pub(crate) drain_timeout: Duration,
    /// None once claims have ceased for good.
    pub(crate) to_runtime: Option<mpsc::Sender<Claimed>>,
    pub(crate) from_runtime: mpsc::UnboundedReceiver<Report>,
    pub(crate) shutdown: CancellationToken,
}

/// How far the end of the pool has come.
enum Drain {
    No,
    /// Running handlers may go on until then.
    Until(Instant),
    /// They were told to stop.
    Over,
}

impl Drain {
    async fn is_over(&self) {
        match self {
            Self::Until(instant) => sleep_until(*instant).await,
            Self::No | Self::Over => std::future::pending().await,
        }
    }
}

/// Jobs taken or settled in one statement at the most.
const BATCH_JOBS_MAX: usize = 500;

impl Pump {
    pub(crate) async fn run(mut self) {
        // Jobs in slots or on their way out of them, with the process id they were claimed under.
        let mut taken: HashMap<LeaseKey, Uuid> = HashMap::new();
        let mut reports: Vec<Report> = Vec::new();
        let mut look_at = Instant::now();
        let mut drain = Drain::No;
        let mut ids = self.incarnation.watch();
        loop {
            let free = self.slots - taken.len().min(self.slots);
            let may_claim = free > 0 && self.to_runtime.is_some() && self.incarnation.current().is_some();
            tokio::select! {
                received = self.from_runtime.recv_many(&mut reports, BATCH_JOBS_MAX), if !taken.is_empty() => {
                    // The runtime's side is gone: it ended or broke, and nothing more will be reported.
                    if received == 0 { break; }
                    self.settle(&mut reports, &mut taken).await;
                }
                () = self.waker.ready(self.queue), if may_claim => look_at = Instant::now(),
                () = sleep_until(look_at), if may_claim => {}
                _ = ids.changed(), if self.incarnation.current().is_none() => {}
                () = self.shutdown.cancelled(), if matches!(drain, Drain::No) => {
                    self.to_runtime = None;
                    drain = Drain::Until(Instant::now() + self.drain_timeout);
                }
                () = drain.is_over() => {
                    tracing::warn!(queue = %self.queue, jobs = taken.len(), "drain time is over: giving jobs back");
                    let leases: Vec<LeaseKey> = taken.keys().copied().collect();
                    self.running.stop(&leases, Stop::Shutdown);
                    drain = Drain::Over;
                }
            }
            if !matches!(drain, Drain::No) && taken.is_empty() {
                break;
            }
            let free = self.slots - taken.len().min(self.slots);
            if free > 0 && self.to_runtime.is_some() && Instant::now() >= look_at {
                look_at = self.claim(free.min(BATCH_JOBS_MAX), &mut taken).await;
            }
        }
        tracing::debug!(queue = %self.queue, "pool drained");
    }

    /// Takes jobs into free slots and answers when to look again: at once if there may be more.
    async fn claim(&self, free: usize, taken: &mut HashMap<LeaseKey, Uuid>) -> Instant {
        let wait = self.poll.mul_f64(rand::rng().random_range(0.8..1.2));
        let (Some(process), Some(to_runtime)) = (self.incarnation.current(), &self.to_runtime) else {
            return Instant::now() + wait;
        };
        let count_max = i64::try_from(free).unwrap_or(i64::MAX);
        match queue::claim(&self.pool, process, self.queue, count_max).await {
            Ok(jobs) => {
                let claimed = jobs.len();
                metrics::counter!("jobs_claimed_total", "queue" => self.queue.as_str())
                    .increment(claimed as u64);
                let leases: Vec<LeaseKey> = jobs.iter().map(|job| job.lease).collect();
                for job in jobs {
                    taken.insert(job.lease, process);
                    self.running.expect(job.lease);
                    // Never full: it holds as many as there are slots. Closed only when the runtime broke.
                    if to_runtime.try_send(job).is_err() {
                        tracing::error!(queue = %self.queue, "the runtime takes no jobs");
                    }
                }
                if self.incarnation.current() != Some(process) {
                    // The leases were lost while the claim was under way, when nobody could stop these yet.
                    self.running.stop(&leases, Stop::LeaseLost);
                }
                if claimed == free { Instant::now() } else { Instant::now() + wait }
            }
            Err(error) => {
                tracing::warn!(queue = %self.queue, %error, "claim failed; trying again");
                Instant::now() + wait
            }
        }
    }

    /// Writes what was reported, waiting out a database that cannot be reached, and frees the slots.
    async fn settle(&self, reports: &mut Vec<Report>, taken: &mut HashMap<LeaseKey, Uuid>) {
        let mut batch = Vec::with_capacity(reports.len());
        for report in reports.drain(..) {
            let process = taken.remove(&report.lease).unwrap_or_default();
            self.running.leave(report.lease);
            if let Some(settlement) = self.settlement(&report, process) {
                batch.push(Acknowledgement { lease: report.lease, settlement });
            }
        }
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.write(&batch).await {
            // One of the batch cannot be written as it is: write the others, and fail that one.
            tracing::error!(queue = %self.queue, %error, "a batch was refused: settling one by one");
            for one in batch {
                self.settle_alone(one).await;
            }
        }
    }

    /// Writes settlements and tells whom it concerns, waiting out a database that cannot be reached; at shutdown
    /// for no longer than the drain time, after which the leases run out and the jobs run again elsewhere. An
    /// error means that it never will be written as it is.
    async fn write(&self, batch: &[Acknowledgement]) -> Result<(), queue::Error> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            match queue::settle(&self.pool, batch).await {
                Ok(settled) => {
                    for job in &settled.refused {
                        tracing::warn!(job.id = %job, "came too late: the lease had been lost");
                    }
                    if settled.ended > 0 {
                        self.waker.job_ended();
                    }
                    self.waker.wake_all(settled.released);
                    return Ok(());
                }
                Err(error)
                    if error.is_transient()
                        && self.shutdown.is_cancelled()
                        && began.elapsed() >= self.drain_timeout =>
                {
                    tracing::error!(queue = %self.queue, %error, jobs = batch.len(), "not settled before the end");
                    return Ok(());
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(queue = %self.queue, %error, jobs = batch.len(), "not settled; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Settles one job whose settlement the database may refuse (a result it cannot store, say): then the job
    /// fails with that as its reason. If even that is refused, its lease is left to be taken back when this
    /// process ends.
    async fn settle_alone(&self, one: Acknowledgement) {
        let lease = one.lease;
        let Err(error) = self.write(&[one]).await else { return };
        let refused =
            JobError::fatal(INTERNAL_ERROR, "the job's outcome could not be stored").caused_by(&error);
        let settlement = Settlement::End(End::Failed(refused.failure()), None);
        if let Err(error) = self.write(&[Acknowledgement { lease, settlement }]).await {
            tracing::error!(job.id = %lease.job, %error, "could not be settled; it will be taken back");
        }
    }

    /// The rule from what became of an attempt to what is written; `None` when there is nothing to write.
    fn settlement(&self, report: &Report, process: Uuid) -> Option<Settlement> {
        let kind = self.kinds.iter().find(|entry| entry.kind == report.kind);
        let (outcome, settlement) = match &report.verdict {
            Verdict::Answered(Ok(Outcome::Done(result))) => {
                ("done", Some(Settlement::End(End::Completed(result.clone()), None)))
            }
            Verdict::Answered(Ok(Outcome::Settled(_))) => ("settled", None),
            Verdict::Answered(Ok(Outcome::Snooze(delay))) => ("snoozed", Some(Settlement::Again(*delay))),
            Verdict::Answered(Ok(Outcome::Cancel(why))) => {
                ("cancelled", Some(Settlement::End(End::Cancelled(why.failure()), None)))
            }
            Verdict::Answered(Err(error)) => ("failed", Some(self.failed(report, error, process))),
            Verdict::Crashed(message) => {
                tracing::error!(job.id = %report.lease.job, job.kind = report.kind, message, "a handler panicked");
                let error = JobError::retryable(INTERNAL_ERROR, "the job's handler crashed");
                ("crashed", Some(self.failed(report, &error, process)))
            }
            Verdict::GivenBack => ("given_back", Some(Settlement::Again(Duration::ZERO))),
            Verdict::UnknownKind => ("parked", Some(Settlement::Park)),
            Verdict::Abandoned => ("abandoned", None),
        };
        metrics::counter!(
            "job_attempts_total",
            "kind" => kind.map_or("unknown", |entry| entry.kind),
            "outcome" => outcome,
        )
        .increment(1);
        settlement
    }

    fn failed(&self, report: &Report, error: &JobError, process: Uuid) -> Settlement {
        debug_assert_ne!(error.code(), CANCELLED, "cancelling is an outcome, not a failure");
        let backoff = self.kinds.iter().find(|entry| entry.kind == report.kind).map_or(
            Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(60) },
            |entry| entry.policy.backoff,
        );
        tracing::info!(
            job.id = %report.lease.job,
            job.kind = report.kind,
            job.attempt = report.attempt,
            error.code = error.code(),
            error.message = error.message(),
            "attempt failed"
        );
        let chance = rand::rng().random();
        Settlement::of_error(error, report.attempt, report.attempts_max, &backoff, process, chance)
    }
}
