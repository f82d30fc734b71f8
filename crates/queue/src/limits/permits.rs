//! The permits that a process holds, and their way back.
//!
//! Slots are given back in the background, many in one statement, by a task that runs while there are any to give
//! back. One that could not be given back is found by [`clean_holds`](super::clean_holds), because this process no
//! longer knows of it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use db::Pool;
use tokio::{runtime::Handle, sync::Notify, time::timeout};
use uuid::Uuid;

use crate::Error;

/// The permits of one process; clones share them.
#[derive(Debug, Clone)]
pub struct Permits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    slots: Mutex<Slots>,
    /// Slots came back.
    returned: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    /// Held, or perhaps held: a draw is under way.
    held: HashSet<Uuid>,
    /// To be given back.
    leaving: Vec<Uuid>,
    /// A task gives them back.
    is_returning: bool,
}

/// The right to make one call. Dropping it gives its slots of concurrency limits back; permits of rates are used up.
#[must_use = "a permit's slots are given back when it is dropped"]
pub struct Permit {
    permits: Option<Permits>,
    slots: Vec<Uuid>,
}

/// How long giving back may take before it is left to the reconciler.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Slots given back in one statement.
const RETURNED_MAX: usize = 1_000;

impl Permits {
    /// No permits yet; `pool` is where slots are given back.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self(Arc::new(Inner { pool, slots: Mutex::default(), returned: Notify::new() }))
    }

    /// A permit with slots under these ids, to be [taken](Permit::keep) by a draw.
    pub(super) fn expect(&self, slots: Vec<Uuid>) -> Permit {
        self.lock().held.extend(slots.iter().copied());
        Permit { permits: Some(self.clone()), slots }
    }

    /// The ids of all slots that this process holds or is about to hold.
    #[must_use]
    pub fn held(&self) -> Vec<Uuid> {
        self.lock().held.iter().copied().collect()
    }

    /// Waits until a slot of this process has been given back; call it before looking whether there is one.
    pub fn returned(&self) -> impl Future<Output = ()> + '_ {
        self.0.returned.notified()
    }

    fn give_back(&self, ids: Vec<Uuid>) {
        let mut slots = self.lock();
        slots.leaving.extend(ids);
        if slots.is_returning {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                slots.is_returning = true;
                runtime.spawn(self.clone().return_slots());
            }
            // No runtime here any more: the process ends, or the reconciler finds them.
            Err(_) => slots.forget_leaving(),
        }
    }

    async fn return_slots(self) {
        loop {
            let ids: Vec<Uuid> = {
                let mut slots = self.lock();
                if slots.leaving.is_empty() {
                    slots.is_returning = false;
                    return;
                }
                let count = slots.leaving.len().min(RETURNED_MAX);
                slots.leaving.drain(..count).collect()
            };
            match timeout(RETURN_TIMEOUT, self.delete(&ids)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, slots = ids.len(), "slots not given back yet"),
                Err(_) => tracing::warn!(slots = ids.len(), "giving slots back takes too long"),
            }
            let mut slots = self.lock();
            for id in &ids {
                slots.held.remove(id);
            }
            drop(slots);
            self.0.returned.notify_waiters();
        }
    }

    async fn delete(&self, ids: &[Uuid]) -> Result<(), Error> {
        sqlx::query!("delete from job_limit_holds where id = any($1)", ids).execute(&self.0.pool).await?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn forget_leaving(&mut self) {
        for id in self.leaving.drain(..) {
            self.held.remove(&id);
        }
    }
}

impl Permit {
    /// A permit where nothing is limited.
    pub const fn free() -> Self {
        Self { permits: None, slots: Vec::new() }
    }

    /// Of the slots that it was expected to hold, it holds these.
    pub(super) fn keep(mut self, held: Vec<Uuid>) -> Self {
        if let Some(permits) = &self.permits {
            let mut slots = permits.lock();
            for id in self.slots.iter().filter(|id| !held.contains(id)) {
                slots.held.remove(id);
            }
        }
        self.slots = held;
        self
    }

    /// Gives its slots back now, and waits until that is written or has failed.
    pub async fn finish(mut self) {
        let ids = std::mem::take(&mut self.slots);
        let Some(permits) = self.permits.take().filter(|_| !ids.is_empty()) else { return };
        let written = timeout(RETURN_TIMEOUT, permits.delete(&ids)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(slots = ids.len(), "slots not given back yet");
        }
        for id in &ids {
            permits.lock().held.remove(id);
        }
        permits.0.returned.notify_waiters();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permits) = &self.permits
            && !self.slots.is_empty()
        {
            permits.give_back(std::mem::take(&mut self.slots));
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("slots", &self.slots).finish_non_exhaustive()
    }
}
