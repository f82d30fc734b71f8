//! The jobs that this process holds, and the switch to stop the handler of each.
//!
//! A job is entered when it is claimed, not when its handler begins: a stop that comes in between is kept for the
//! handler, so that none runs under a lease that is already gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use queue::LeaseKey;
use tokio::sync::oneshot;

/// Why a running handler is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody cancelled the job.
    Cancelled,
    /// The lease is or may be lost: the job belongs to whoever takes it next.
    LeaseLost,
    /// The process ends: the job is given back.
    Shutdown,
}

/// The jobs held here, by claim; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashMap<LeaseKey, Held>>>);

/// A job between its claim and its report.
#[derive(Debug, Default)]
struct Held {
    /// The first reason to stop.
    stop: Option<Stop>,
    /// Its handler, once it runs and until it is stopped.
    handler: Option<oneshot::Sender<Stop>>,
}

impl Held {
    fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
        if let Some(handler) = self.handler.take() {
            // Not received: the handler ended at this moment.
            let _ = handler.send(why);
        }
    }
}

impl Running {
    /// Enters a job that was claimed, before it goes to its handler. It leaves by [`leave`](Self::leave).
    pub(crate) fn expect(&self, lease: LeaseKey) {
        self.lock().insert(lease, Held::default());
    }

    /// The job's handler begins; the answer resolves when it is to stop, perhaps at once.
    pub(crate) fn enter(&self, lease: LeaseKey) -> oneshot::Receiver<Stop> {
        let (handler, stopped) = oneshot::channel();
        let mut running = self.lock();
        let held = running.entry(lease).or_default();
        held.handler = Some(handler);
        if let Some(why) = held.stop {
            held.stop(why);
        }
        stopped
    }

    /// The job left its slot, however its handler ended.
    pub(crate) fn leave(&self, lease: LeaseKey) {
        self.lock().remove(&lease);
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

    pub(crate) fn stop_all(&self, why: Stop) {
        for held in self.lock().values_mut() {
            held.stop(why);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseKey, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(token: i32) -> LeaseKey {
        LeaseKey { tenant: kernel::ids::TenantId::SYSTEM, job: kernel::ids::JobId::new(), token }
    }

    #[test]
    fn a_stop_reaches_a_handler_that_has_not_begun_yet() {
        let running = Running::default();
        let (first, second) = (lease(1), lease(2));
        running.expect(first);
        running.stop_all(Stop::LeaseLost);
        running.expect(second);
        assert_eq!(running.enter(first).try_recv(), Ok(Stop::LeaseLost));
        assert!(running.enter(second).try_recv().is_err(), "claimed after the stop");
    }

    #[test]
    fn the_first_reason_to_stop_is_the_one_that_counts() {
        let running = Running::default();
        let lease = lease(1);
        running.expect(lease);
        let mut stopped = running.enter(lease);
        running.stop(&[lease], Stop::Cancelled);
        running.stop_all(Stop::Shutdown);
        assert_eq!(stopped.try_recv(), Ok(Stop::Cancelled));
    }

    #[test]
    fn what_has_left_is_not_remembered() {
        let running = Running::default();
        let lease = lease(1);
        running.expect(lease);
        running.leave(lease);
        running.stop(&[lease], Stop::Cancelled);
        assert!(running.lock().is_empty());
    }
}
