//! Places for connections: so many at once, and no way for those who do nothing to keep others out.
//!
//! When all places are taken, a newcomer gets that of the connection that has been without a request for longest: first
//! of those that never had one answered (who opens sockets and sends heads drop by drop has nothing else), then of
//! those between two requests, which is what clients of HTTP must expect of a connection they keep. One that waits for the
//! rest of a request is as one without; one whose request is being answered keeps its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// A connection is left alone for so long after it was opened or answered.
const LEFT_ALONE: Duration = Duration::from_millis(250);
/// In [`Slot::idle_since`]: a request is under way.
const BUSY: u64 = u64::MAX;

/// The places of one listener; clones share.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<u64, Arc<Slot>>>>,
    next: Arc<AtomicU64>,
    began: Instant,
}

#[derive(Debug)]
struct Slot {
    /// Milliseconds since the listener began, or [`BUSY`]. Waiting for the rest of a body counts as idle.
    idle_since: AtomicU64,
    /// Answers so far.
    answers: AtomicU64,
    evicted: CancellationToken,
}

/// A taken place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    key: u64,
    slot: Arc<Slot>,
    _permit: OwnedSemaphorePermit,
}

/// What a connection says of itself; clones share.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    slot: Arc<Slot>,
    began: Instant,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places_max)),
            taken: Arc::default(),
            next: Arc::default(),
            began: Instant::now(),
        }
    }

    /// A place for a newcomer, at the cost of who needs theirs least; waits while everybody is at work.
    pub(super) async fn take(&self) -> Place {
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return self.taken_with(permit);
            }
            self.evict_one();
            // Who was evicted gives up its place in a moment; else somebody ends, or may be evicted by then.
            let wait = tokio::time::timeout(LEFT_ALONE / 2, Arc::clone(&self.free).acquire_owned());
            if let Ok(Ok(permit)) = wait.await {
                return self.taken_with(permit);
            }
        }
    }

    fn taken_with(&self, permit: OwnedSemaphorePermit) -> Place {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot {
            idle_since: AtomicU64::new(since(self.began)),
            answers: AtomicU64::new(0),
            evicted: CancellationToken::new(),
        });
        self.all().insert(key, Arc::clone(&slot));
        Place { places: self.clone(), key, slot, _permit: permit }
    }

    fn evict_one(&self) {
        let now = since(self.began);
        let left_alone = u64::try_from(LEFT_ALONE.as_millis()).unwrap_or(u64::MAX);
        let least_needed = self
            .all()
            .values()
            .filter(|slot| !slot.evicted.is_cancelled())
            .filter_map(|slot| {
                let idle_since = slot.idle_since.load(Ordering::Relaxed);
                let is_idle = idle_since != BUSY && now.saturating_sub(idle_since) >= left_alone;
                let had_answer = slot.answers.load(Ordering::Relaxed) > 0;
                is_idle.then(|| ((had_answer, idle_since), Arc::clone(slot)))
            })
            .min_by_key(|(key, _)| *key);
        if let Some((_, slot)) = least_needed {
            metrics::counter!("millpond_http_connections_evicted_total").increment(1);
            slot.evicted.cancel();
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// For the connection's requests to say when they come and go.
    pub(super) fn activity(&self) -> Activity {
        Activity { slot: Arc::clone(&self.slot), began: self.places.began }
    }

    /// Ends when the place is needed by somebody else.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.slot.evicted.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all().remove(&self.key);
    }
}

impl Activity {
    /// A request has come.
    pub(super) fn asked(&self) {
        self.slot.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// What it still has to say does not come.
    pub(super) fn waits_for_body(&self) {
        let now = since(self.began);
        // It has waited since the first time.
        let _ = self.slot.idle_since.compare_exchange(BUSY, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It has been answered.
    pub(super) fn answered(&self) {
        self.slot.answers.fetch_add(1, Ordering::Relaxed);
        self.slot.idle_since.store(since(self.began), Ordering::Relaxed);
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(BUSY - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newcomer_gets_the_place_of_who_never_asked_then_of_who_asks_nothing_now() {
        let places = Places::new(3);
        let (silent, resting, busy) = (places.take().await, places.take().await, places.take().await);
        resting.activity().asked();
        resting.activity().answered();
        busy.activity().asked();
        std::thread::sleep(LEFT_ALONE);

        let evicted = silent.evicted();
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await }
        });
        evicted.cancelled().await;
        assert!(!resting.evicted().is_cancelled() && !busy.evicted().is_cancelled());
        drop(silent);
        let newcomer = newcomer.await.unwrap();
        newcomer.activity().asked();

        places.evict_one();
        assert!(resting.evicted().is_cancelled());
        places.evict_one();
        assert!(!busy.evicted().is_cancelled() && !newcomer.evicted().is_cancelled());
    }

    #[tokio::test]
    async fn who_has_just_come_is_left_alone_for_a_moment() {
        let places = Places::new(1);
        let only = places.take().await;
        places.evict_one();
        assert!(!only.evicted().is_cancelled());
    }
}
