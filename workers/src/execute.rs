//! One attempt: the kind's handler, under its timeout, stoppable, with its answer turned into a verdict.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use apalis_core::task::Task;
use jobs::{Context, Entry, Services};
use queue::{CANCELLED, Claimed, JobError, Lease, Outcome, TIMEOUT, Waker};
use tokio::task::{JoinError, JoinHandle};
use tower::Service;
use tracing::Instrument;

use crate::running::{Running, Stop};

/// What became of an attempt, before it is written.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The handler's answer.
    Answered(Result<Outcome, JobError>),
    /// The handler panicked.
    Crashed(String),
    /// The process ends; the job is to be given back.
    GivenBack,
    /// The lease is gone: nothing may be written.
    Abandoned,
    /// No handler here knows the kind.
    UnknownKind,
}

#[derive(Debug, Clone)]
pub(crate) struct Execute {
    kinds: &'static [Entry],
    services: Arc<Services>,
    waker: Waker,
    running: Running,
}

impl Execute {
    pub(crate) fn new(
        kinds: &'static [Entry],
        services: Arc<Services>,
        waker: Waker,
        running: Running,
    ) -> Self {
        Self { kinds, services, waker, running }
    }

    async fn attempt(self, claimed: Claimed) -> Verdict {
        let Some(entry) = self.kinds.iter().find(|entry| entry.kind == claimed.kind) else {
            return Verdict::UnknownKind;
        };
        if claimed.cancel_requested {
            return Verdict::Answered(Ok(Outcome::Cancel(cancelled())));
        }
        let lease = Lease::new(&claimed, self.services.pool.clone(), self.waker.clone());
        let stopped = self.running.enter(claimed.lease);
        let began = Instant::now();
        let timeout = entry.policy.timeout;
        let handler = entry.run(Context::new(lease, self.services), claimed.args);
        let verdict = tokio::select! {
            // First, so that a job which was stopped on its way here does not begin.
            biased;
            // The sender never drops without sending before the pump has our report.
            Ok(why) = stopped => match why {
                Stop::Cancelled => Verdict::Answered(Ok(Outcome::Cancel(cancelled()))),
                Stop::LeaseLost => Verdict::Abandoned,
                Stop::Shutdown => Verdict::GivenBack,
            },
            answer = handler => Verdict::Answered(answer),
            () = tokio::time::sleep(timeout) => Verdict::Answered(Err(JobError::retryable(
                TIMEOUT,
                format!("the attempt took longer than {} s", timeout.as_secs()),
            ))),
        };
        metrics::histogram!("job_attempt_seconds", "kind" => entry.kind).record(began.elapsed());
        verdict
    }
}

fn cancelled() -> JobError {
    JobError::fatal(CANCELLED, "cancelled while it ran")
}

impl Service<Task<Claimed>> for Execute {
    type Response = Verdict;
    type Error = JoinError;
    /// A task of its own, so that a handler that blocks or panics harms only itself.
    type Future = JoinHandle<Verdict>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), JoinError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Claimed>) -> Self::Future {
        let claimed = task.args;
        let span = tracing::info_span!(
            "job",
            job.id = %claimed.lease.job,
            job.kind = claimed.kind,
            job.attempt = claimed.attempt,
            request.id = claimed.request_id,
        );
        tokio::spawn(self.clone().attempt(claimed).instrument(span))
    }
}
