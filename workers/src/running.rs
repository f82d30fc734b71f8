//! The handlers that run in this process, and the switch to stop each.

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

/// The running handlers by claim; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashMap<LeaseKey, oneshot::Sender<Stop>>>>);

impl Running {
    /// Enters a handler; the answer resolves when it is to stop. It leaves by [`leave`](Self::leave).
    pub(crate) fn enter(&self, lease: LeaseKey) -> oneshot::Receiver<Stop> {
        let (stop, stopped) = oneshot::channel();
        self.lock().insert(lease, stop);
        stopped
    }

    pub(crate) fn leave(&self, lease: LeaseKey) {
        self.lock().remove(&lease);
    }

    /// Stops those of the given handlers that run here.
    pub(crate) fn stop(&self, leases: &[LeaseKey], why: Stop) {
        let mut running = self.lock();
        for lease in leases {
            if let Some(stop) = running.remove(lease) {
                // Not received: the handler ended at this moment.
                let _ = stop.send(why);
            }
        }
    }

    pub(crate) fn stop_all(&self, why: Stop) {
        for (_, stop) in self.lock().drain() {
            let _ = stop.send(why);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseKey, oneshot::Sender<Stop>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
