//! The kinds of jobs that are measured. They run by the registry, the layers and the timeouts of any other kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobs::{Context, Entry, Handler};
use queue::{Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};

use crate::machine;

/// What a measured worker process knows, instead of the real kinds.
pub const ALL: &[Entry] = &[jobs::entry::<Noop>(), jobs::entry::<Pickup>()];

/// Jobs whose body has run in this process.
pub static EXECUTED: AtomicU64 = AtomicU64::new(0);

/// How long each [`Pickup`] job of this process waited, in microseconds.
static WAITS_US: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Takes the waits that were noted so far.
pub fn take_waits() -> Vec<u64> {
    std::mem::take(&mut WAITS_US.lock().unwrap_or_else(PoisonError::into_inner))
}

const POLICY: Policy = Policy { queue: Queue::Enrich, attempts_max: 3, ..Policy::DEFAULT };

/// Does nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Noop {
    /// Its number, so that arguments are there to be stored and read.
    pub i: u64,
}

impl Job for Noop {
    const KIND: &'static str = "bench.noop";
    const POLICY: Policy = POLICY;
}

impl Handler for Noop {
    async fn run(self, _cx: Context) -> Result<Outcome, JobError> {
        EXECUTED.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Done(None))
    }
}

/// Notes how long it took from the moment before it was stored until its body began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pickup {
    /// When it was about to be stored, by the machine's monotonic clock, in microseconds.
    pub stored_at_us: u64,
}

impl Job for Pickup {
    const KIND: &'static str = "bench.pickup";
    const POLICY: Policy = Policy { timeout: Duration::from_secs(30), ..POLICY };
}

impl Handler for Pickup {
    async fn run(self, _cx: Context) -> Result<Outcome, JobError> {
        let waited = machine::monotonic_us().saturating_sub(self.stored_at_us);
        WAITS_US.lock().unwrap_or_else(PoisonError::into_inner).push(waited);
        EXECUTED.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Done(None))
    }
}
