//! The jobs that this process holds, from their claim to the moment their outcome is written, and the switch to stop
//! the handler of each.
//!
//! A job is entered before it goes to its handler: a stop that comes in between is kept for the handler, so that
//! none runs under a lease that is already gone. Every job is reported exactly once: by its handler's task, or,
//! when that does not let go of its thread, by [`Running::expire`] in its stead.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jobs::Usage;
use queue::{Claimed, LeaseKey, ProgressReport};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    attempt_span,
    report::{About, Report, Verdict},
    spending::Spendings,
};

/// Why a running handler is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody cancelled the job.
    Cancelled,
    /// The attempt took longer than its policy allows.
    TimedOut(Duration),
    /// The job's deadline passed.
    Late,
    /// The lease is or may be lost: the job belongs to whoever takes it next.
    LeaseLost,
    /// The process ends: the job is given back.
    Shutdown,
}

/// How long a handler that was stopped may hold on to its thread before its slot is given to another job.
const LET_GO_WITHIN: Duration = Duration::from_secs(1);

/// The jobs held here, by claim; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashMap<LeaseKey, Held>>>, Spendings);

/// A job between its claim and the writing of its outcome.
#[derive(Debug)]
struct Held {
    /// What its report says of it; gone when it was reported.
    about: Option<About>,
    to_pump: mpsc::UnboundedSender<Report>,
    /// The first reason to stop, and when.
    stop: Option<(Stop, Instant)>,
    /// Its handler's task, once it runs.
    handler: Option<AbortHandle>,
    /// When it is stopped, and why then.
    expires: Option<(Instant, Stop)>,
    /// What it said of its progress and nobody wrote yet.
    progress: Option<ProgressReport>,
    /// What it uses of limits, once it runs and if its kind draws on any.
    usage: Option<Arc<Usage>>,
}

impl Held {
    fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert((why, Instant::now()));
        if let Some(handler) = &self.handler {
            handler.abort();
        }
    }
}

impl Running {
    /// Nothing yet; what attempts spend is noted there.
    pub(crate) fn new(spendings: Spendings) -> Self {
        Self(Arc::default(), spendings)
    }

    /// Enters jobs that were claimed, before they go to their handlers. They leave by [`leave`](Self::leave).
    pub(crate) fn expect(&self, jobs: &[Claimed], to_pump: &mpsc::UnboundedSender<Report>) {
        let mut running = self.lock();
        for job in jobs {
            let held = Held {
                about: Some(About::of(job)),
                to_pump: to_pump.clone(),
                stop: None,
                handler: None,
                expires: None,
                progress: None,
                usage: None,
            };
            running.insert(job.lease, held);
        }
    }

    /// The handlers of these jobs were started: each with its task, and when and why it is stopped at the latest.
    pub(crate) fn started(&self, handlers: Vec<(LeaseKey, AbortHandle, Instant, Stop)>) {
        let mut running = self.lock();
        for (lease, handler, at, why) in handlers {
            // Already reported: it was quicker than us.
            let Some(held) = running.get_mut(&lease).filter(|held| held.about.is_some()) else { continue };
            if held.stop.is_some() {
                handler.abort();
            }
            held.handler = Some(handler);
            held.expires = Some((at, why));
        }
    }

    /// Reports what became of a job, unless that was done; without a verdict it is what it was stopped for, or
    /// that its handler broke.
    pub(crate) fn report(&self, lease: LeaseKey, verdict: Option<Verdict>) {
        self.report_run(lease, verdict, None);
    }

    /// The same, of a handler that ran for so long.
    pub(crate) fn report_run(&self, lease: LeaseKey, verdict: Option<Verdict>, ran: Option<Duration>) {
        let mut running = self.lock();
        let Some(held) = running.get_mut(&lease) else { return };
        let Some(mut about) = held.about.take() else { return };
        held.handler = None;
        let verdict = verdict.or(held.stop.map(|(why, _)| Verdict::of_stop(why)));
        let verdict = verdict.unwrap_or_else(|| Verdict::Crashed("the handler was dropped".into()));
        self.1.note(lease, &about.kind, &verdict, held.usage.as_deref());
        attempt_span::end(&mut about.span, &verdict);
        // The pump outlives the runtime; if it is gone, the process is, and the lease runs out.
        let _ = held.to_pump.send(Report { lease, about, verdict, ran });
    }

    /// The outcomes of these jobs are written, or never will be.
    pub(crate) fn leave<'a>(&self, leases: impl IntoIterator<Item = &'a LeaseKey>) {
        let mut running = self.lock();
        for lease in leases {
            running.remove(lease);
        }
    }

    /// Stops the handlers of those of the given jobs that are held here.
    pub(crate) fn stop(&self, leases: &[LeaseKey], why: Stop) {
        let mut running = self.lock();
        for lease in leases {
            if let Some(held) = running.get_mut(lease) {
                held.stop(why);
            }
        }
    }

    /// Stops every handler that reports to this pump.
    pub(crate) fn stop_those_of(&self, to_pump: &mpsc::UnboundedSender<Report>, why: Stop) {
        for held in self.lock().values_mut().filter(|held| held.to_pump.same_channel(to_pump)) {
            held.stop(why);
        }
    }

    pub(crate) fn stop_all(&self, why: Stop) {
        for held in self.lock().values_mut() {
            held.stop(why);
        }
    }

    /// Stops handlers whose time is over, and reports those in their stead that were stopped and hold on to their
    /// thread. Answers how many those are.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let mut stuck = Vec::new();
        for (lease, held) in &mut *self.lock() {
            match (held.stop, held.expires) {
                (None, Some((at, why))) if at <= now => held.stop(why),
                (Some((_, since)), _) if held.handler.is_some() && since + LET_GO_WITHIN <= now => {
                    stuck.push(*lease);
                }
                _ => {}
            }
        }
        for lease in &stuck {
            self.report(*lease, None);
        }
        stuck.len()
    }

    /// Keeps what a handler said of its progress; only the latest is written.
    pub(crate) fn note_progress(&self, lease: LeaseKey, report: ProgressReport) {
        if let Some(held) = self.lock().get_mut(&lease) {
            held.progress = Some(report);
        }
    }

    /// What is to be written of progress.
    pub(crate) fn take_progress(&self) -> Vec<(LeaseKey, ProgressReport)> {
        let mut running = self.lock();
        running.iter_mut().filter_map(|(lease, held)| Some((*lease, held.progress.take()?))).collect()
    }

    /// A handler is about to be started that may draw on limits.
    pub(crate) fn uses(&self, lease: LeaseKey, usage: Arc<Usage>) {
        if let Some(held) = self.lock().get_mut(&lease) {
            held.usage = Some(usage);
        }
    }

    /// Every claim held here, and those whose spending is still to be settled.
    pub(crate) fn leases(&self) -> Vec<LeaseKey> {
        let mut leases = self.1.leases();
        leases.extend(self.lock().keys());
        leases
    }

    /// Every claim held here.
    pub(crate) fn held(&self) -> Vec<LeaseKey> {
        self.lock().keys().copied().collect()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseKey, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kernel::ids::{JobId, TenantId};

    use super::*;

    fn job() -> Claimed {
        Claimed {
            lease: LeaseKey { tenant: TenantId::SYSTEM, job: JobId::new(), token: 1 },
            row: None,
            process: uuid::Uuid::nil(),
            kind: "test.kind".into(),
            attempt: 1,
            attempts_max: 3,
            args: "{}".into(),
            request_id: None,
            traceparent: None,
            cancel_requested: false,
            share: TenantId::SYSTEM,
            weight: 1,
            lane: uuid::Uuid::nil(),
            priority: 0,
            deadline: None,
            waited: Duration::ZERO,
        }
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    #[tokio::test]
    async fn a_stop_reaches_a_handler_that_has_not_begun_yet() {
        let running = Running::default();
        let (to_pump, mut reports) = mpsc::unbounded_channel();
        let (first, second) = (job(), job());
        running.expect(std::slice::from_ref(&first), &to_pump);
        running.stop_all(Stop::LeaseLost);
        running.expect(std::slice::from_ref(&second), &to_pump);
        let tasks =
            [first.lease, second.lease].map(|lease| (lease, tokio::spawn(std::future::pending::<()>())));
        let handlers =
            tasks.iter().map(|(lease, task)| (*lease, task.abort_handle(), far(), Stop::Late)).collect();
        running.started(handlers);
        let [(_, first_task), (_, second_task)] = tasks;
        assert!(first_task.await.unwrap_err().is_cancelled());
        assert!(!second_task.is_finished(), "claimed after the stop");
        running.report(first.lease, None);
        assert!(matches!(reports.recv().await.unwrap().verdict, Verdict::Abandoned));
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_is_the_one_that_counts() {
        let running = Running::default();
        let (to_pump, mut reports) = mpsc::unbounded_channel();
        let job = job();
        running.expect(std::slice::from_ref(&job), &to_pump);
        running.stop(&[job.lease], Stop::Cancelled);
        running.stop_all(Stop::Shutdown);
        running.report(job.lease, None);
        let verdict = reports.recv().await.unwrap().verdict;
        assert!(matches!(verdict, Verdict::Answered(Ok(queue::Outcome::Cancel(_)))), "{verdict:?}");
    }

    #[tokio::test]
    async fn a_handler_that_holds_on_to_its_thread_is_reported_once_in_its_stead() {
        let running = Running::default();
        let (to_pump, mut reports) = mpsc::unbounded_channel();
        let job = job();
        running.expect(std::slice::from_ref(&job), &to_pump);
        let task = tokio::spawn(std::future::pending::<()>());
        let limit = Duration::from_secs(5);
        let began = Instant::now();
        running.started(vec![(job.lease, task.abort_handle(), began + limit, Stop::TimedOut(limit))]);
        assert_eq!(running.expire(began), 0);
        assert_eq!(running.expire(began + limit), 0, "told to stop, and given time for it");
        assert_eq!(running.expire(began + limit + LET_GO_WITHIN), 1);
        assert!(matches!(reports.recv().await.unwrap().verdict, Verdict::Answered(Err(_))));
        running.report(job.lease, Some(Verdict::GivenBack));
        assert!(reports.try_recv().is_err(), "what comes later is not reported");
        running.leave([&job.lease]);
        assert!(running.is_empty());
    }
}
