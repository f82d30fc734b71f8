//! The kind of job that is measured here: it holds its slot for a while and notes whose it was and how long it waited.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jobs::{Context, Entry, Handler};
use queue::{Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};

use crate::kinds::Noop;
use crate::machine;

/// What the workers know.
pub(super) const KINDS: &[Entry] = &[jobs::entry::<Held>(), jobs::entry::<Noop>()];
/// Tenants that are counted apart.
pub(super) const TENANTS_MAX: usize = 8;

static DONE: [AtomicU64; TENANTS_MAX] = [const { AtomicU64::new(0) }; TENANTS_MAX];
static WAITS_US: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Holds its slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Held {
    /// For how long, in microseconds.
    pub hold_us: u64,
    /// Its tenant's number among those that are measured.
    pub tenant: usize,
    /// When it was about to be stored, by the machine's monotonic clock, in microseconds; none: its wait is not noted.
    pub stored_at_us: Option<u64>,
}

impl Job for Held {
    const KIND: &'static str = "bench.held";
    const POLICY: Policy = Policy { queue: Queue::Enrich, attempts_max: 3, ..Policy::DEFAULT };
}

impl Handler for Held {
    async fn run(self, _cx: Context) -> Result<Outcome, JobError> {
        if let Some(stored_at_us) = self.stored_at_us {
            let waited = machine::monotonic_us().saturating_sub(stored_at_us);
            WAITS_US.lock().unwrap_or_else(PoisonError::into_inner).push(waited);
        }
        tokio::time::sleep(Duration::from_micros(self.hold_us)).await;
        if let Some(done) = DONE.get(self.tenant) {
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Outcome::Done(None))
    }
}

/// Jobs done so far, by tenant.
pub(super) fn done() -> [u64; TENANTS_MAX] {
    std::array::from_fn(|tenant| DONE[tenant].load(Ordering::Relaxed))
}

/// Takes the waits noted so far, in microseconds.
pub(super) fn take_waits() -> Vec<u64> {
    std::mem::take(&mut WAITS_US.lock().unwrap_or_else(PoisonError::into_inner))
}
