//! The permits that a process holds, and their way back.
//!
//! A slot goes back with the next draw of this process, where another job waits for it; else in the background, many in
//! one statement, by a task that runs while there are any to give back. One that could not be given back is found by
//! [`clean_holds`](super::clean_holds), because this process no longer knows of it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use db::Pool;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{sleep, timeout},
};
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

/// Slots on their way back with a draw. Dropped before they are written off, they are given back another way.
pub(super) struct Leaving<'a> {
    permits: &'a Permits,
    ids: Vec<Uuid>,
}

/// The right to make one call. Dropping it gives its slots of concurrency limits back; permits of rates are used up.
#[must_use = "a permit's slots are given back when it is dropped"]
pub struct Permit {
    permits: Option<Permits>,
    slots: Vec<Uuid>,
    has_last_slot: bool,
}

/// How long giving back may take before it is left to the reconciler.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long slots wait for a draw of this process to take them along.
const RETURN_AFTER: Duration = Duration::from_millis(1);
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
        Permit { permits: Some(self.clone()), slots, has_last_slot: false }
    }

    /// The ids of all slots that this process holds or is about to hold.
    #[must_use]
    pub fn held(&self) -> Vec<Uuid> {
        self.lock().held.iter().copied().collect()
    }

    /// What is to be given back, for a draw to take along.
    pub(super) fn leaving(&self) -> Leaving<'_> {
        let ids = self.lock().next_leaving();
        Leaving { permits: self, ids }
    }

    /// Whether this process is done with slots that are still to be given back.
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        !self.lock().leaving.is_empty()
    }

    /// Waits until this process is done with a slot; call it before looking whether there is one.
    pub fn returned(&self) -> impl Future<Output = ()> + '_ {
        self.0.returned.notified()
    }

    fn give_back(&self, ids: Vec<Uuid>) {
        let mut slots = self.lock();
        slots.leaving.extend(ids);
        self.0.returned.notify_waiters();
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
            sleep(RETURN_AFTER).await;
            let ids = {
                let mut slots = self.lock();
                let ids = slots.next_leaving();
                if ids.is_empty() {
                    slots.is_returning = false;
                    return;
                }
                ids
            };
            match timeout(RETURN_TIMEOUT, self.delete(&ids)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, slots = ids.len(), "slots not given back yet"),
                Err(_) => tracing::warn!(slots = ids.len(), "giving slots back takes too long"),
            }
            self.lock().are_gone(&ids);
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

impl Leaving<'_> {
    pub(super) fn ids(&self) -> &[Uuid] {
        &self.ids
    }

    /// They are given back.
    pub(super) fn are_back(mut self) {
        self.permits.lock().are_gone(&std::mem::take(&mut self.ids));
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.permits.give_back(std::mem::take(&mut self.ids));
        }
    }
}

impl Slots {
    fn next_leaving(&mut self) -> Vec<Uuid> {
        let count = self.leaving.len().min(RETURNED_MAX);
        self.leaving.drain(..count).collect()
    }

    fn are_gone(&mut self, ids: &[Uuid]) {
        for id in ids {
            self.held.remove(id);
        }
    }

    fn forget_leaving(&mut self) {
        for id in self.leaving.drain(..) {
            self.held.remove(&id);
        }
    }
}

impl Permit {
    /// A permit where nothing is limited.
    pub const fn free() -> Self {
        Self { permits: None, slots: Vec::new(), has_last_slot: false }
    }

    /// Whether no slot was left when it was drawn.
    #[must_use]
    pub const fn has_last_slot(&self) -> bool {
        self.has_last_slot
    }

    /// Of the slots that it was expected to hold, it holds these, perhaps the last.
    pub(super) fn keep(mut self, held: Vec<Uuid>, has_last_slot: bool) -> Self {
        self.has_last_slot = has_last_slot;
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
        permits.lock().are_gone(&ids);
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
