//! Running what was claimed: each job in a task of its own, stoppable, with its answer turned into a report.
//!
//! The runtime is handed batches, as the pump claimed them, so that its cost is per batch; the jobs of a batch run
//! beside each other and are reported one by one. A handler that blocks or panics harms only itself.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use apalis_core::task::Task;
use futures::FutureExt;
use jobs::{Context, Entry, Services, Usage};
use queue::{Claimed, Lease, LeaseKey, Waker};
use telemetry::JobScope;
use tokio::{sync::oneshot, task::AbortHandle};
use tower::Service;

use crate::{
    report::Verdict,
    running::{Running, Stop},
};

#[derive(Debug, Clone)]
pub(crate) struct Execute {
    kinds: &'static [Entry],
    services: Arc<Services>,
    waker: Waker,
    running: Running,
}

/// Reports its job when it is dropped, however that comes about.
struct Reporter {
    running: Running,
    lease: LeaseKey,
    verdict: Option<Verdict>,
    /// How long the handler ran, if it came to its end.
    ran: Option<Duration>,
    /// The batch is done when the last of its reporters is gone.
    _of_batch: Arc<BatchDone>,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.running.report_run(self.lease, self.verdict.take(), self.ran);
    }
}

/// Says that a batch is done when it is dropped.
struct BatchDone(Option<oneshot::Sender<()>>);

impl Drop for BatchDone {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            // Not received: the runtime is gone.
            let _ = done.send(());
        }
    }
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

    /// Starts a job's handler, or reports at once why not.
    fn start(
        &self,
        claimed: Claimed,
        of_batch: &Arc<BatchDone>,
    ) -> Option<(LeaseKey, AbortHandle, Instant, Stop)> {
        let lease = claimed.lease;
        let mut reporter = Reporter {
            running: self.running.clone(),
            lease,
            verdict: None,
            ran: None,
            _of_batch: of_batch.clone(),
        };
        let Some(entry) = jobs::find(self.kinds, &claimed.kind) else {
            reporter.verdict = Some(Verdict::UnknownKind);
            return None;
        };
        if claimed.cancel_requested {
            reporter.verdict = Some(Verdict::cancelled());
            return None;
        }
        if claimed.deadline.is_some_and(|left| left.is_zero()) {
            reporter.verdict = Some(Verdict::late());
            return None;
        }
        let timeout = entry.policy.timeout;
        let (within, why) = match claimed.deadline {
            Some(left) if left < timeout => (left, Stop::Late),
            _ => (timeout, Stop::TimedOut(timeout)),
        };
        let trace = claimed.trace();
        let scope = JobScope {
            job: lease.job,
            kind: entry.kind,
            attempt: claimed.attempt,
            request_id: claimed.request_id.clone(),
            trace,
        };
        let noted = {
            let running = self.running.clone();
            move |report| running.note_progress(lease, report)
        };
        let mut context = Context::new(
            Lease::new(&claimed, self.services.pool.clone(), self.waker.clone()),
            self.services.clone(),
        )
        .with_progress(Arc::new(noted));
        if !entry.policy.limits.is_empty() {
            let usage = Arc::new(Usage::default());
            self.running.uses(lease, usage.clone());
            context = context.with_usage(usage);
        }
        let attempt = async move {
            let mut reporter = reporter;
            let began = Instant::now();
            let answer = AssertUnwindSafe(entry.run(context, claimed.args)).catch_unwind().await;
            reporter.ran = Some(began.elapsed());
            reporter.verdict = Some(match answer {
                Ok(answer) => Verdict::Answered(answer),
                Err(panic) => Verdict::Crashed(words_of(&*panic)),
            });
        };
        let task = tokio::spawn(scope.around(attempt));
        Some((lease, task.abort_handle(), Instant::now() + within, why))
    }
}

/// What a panic said.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".into())
}

impl Service<Task<Vec<Claimed>>> for Execute {
    type Response = ();
    type Error = oneshot::error::RecvError;
    type Future = oneshot::Receiver<()>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Task<Vec<Claimed>>) -> Self::Future {
        let (done, is_done) = oneshot::channel();
        let of_batch = Arc::new(BatchDone(Some(done)));
        let started = batch.args.into_iter().filter_map(|job| self.start(job, &of_batch)).collect();
        self.running.started(started);
        is_done
    }
}
