//! What is known about the request being answered, reachable from everywhere in its task.
//!
//! Task-local rather than an extension, because an error turned into a response sees no request and must still
//! name the request's id, and because headers about the rate limit belong on errors too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kernel::ids::PartnerId;
use kernel::trace::TraceParent;
use tokio::sync::OwnedSemaphorePermit;

tokio::task_local! {
    static CONTEXT: RequestContext;
}

/// One request's facts. Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct RequestContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    trace: TraceParent,
    parent: Option<TraceParent>,
    partner: OnceLock<PartnerId>,
    rate: OnceLock<RateStanding>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
    waited_us: AtomicU64,
}

/// Where a partner stands in its rate window, as the headers tell it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateStanding {
    /// Requests the window allows.
    pub limit: u32,
    /// Requests left in it.
    pub remaining: u32,
    /// Until the next window.
    pub resets_in: Duration,
}

impl RateStanding {
    /// Whole seconds until the next window, never 0: a client told to wait 0 s would come too early.
    pub fn resets_in_s(&self) -> u64 {
        let whole = self.resets_in.as_secs() + u64::from(self.resets_in.subsec_nanos() > 0);
        whole.max(1)
    }
}

impl RequestContext {
    /// The context of a request with this id, which is this span of a trace, under the caller's if it has one.
    pub fn new(id: String, trace: TraceParent, parent: Option<TraceParent>) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                trace,
                parent,
                partner: OnceLock::new(),
                rate: OnceLock::new(),
                place: Mutex::new(None),
                waited_us: AtomicU64::new(0),
            }),
        }
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The request's own span, for what it has done elsewhere.
    pub fn trace(&self) -> TraceParent {
        self.inner.trace
    }

    /// The caller's span, as the caller says.
    pub fn parent(&self) -> Option<TraceParent> {
        self.inner.parent
    }

    /// Notes who asks, for records of the request.
    pub fn set_partner(&self, partner: PartnerId) {
        let _ = self.inner.partner.set(partner);
    }

    /// Who asks, once that is known.
    pub fn partner(&self) -> Option<PartnerId> {
        self.inner.partner.get().copied()
    }

    /// Runs `answer` as the answer to this request.
    pub async fn scope<F: Future>(self, answer: F) -> F::Output {
        CONTEXT.scope(self, answer).await
    }

    /// The request this task answers, if it answers one.
    pub fn current() -> Option<Self> {
        CONTEXT.try_with(Clone::clone).ok()
    }

    /// The current request's id, empty outside a request.
    pub fn current_id() -> String {
        CONTEXT.try_with(|context| context.id().to_owned()).unwrap_or_default()
    }

    /// Notes the partner's standing, for the headers of whatever is answered.
    pub fn set_rate(&self, standing: RateStanding) {
        let _ = self.inner.rate.set(standing);
    }

    /// The noted standing.
    pub fn rate(&self) -> Option<RateStanding> {
        self.inner.rate.get().copied()
    }

    /// Notes that the client let us wait so long for a result.
    pub fn note_wait(&self, waited: Duration) {
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.inner.waited_us.fetch_add(waited_us, Ordering::Relaxed);
    }

    /// How long it waited for a result, because the client asked for that.
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.inner.waited_us.load(Ordering::Relaxed))
    }

    /// Keeps the place this request takes among those in flight.
    pub fn hold_place(&self, permit: OwnedSemaphorePermit) {
        if let Ok(mut place) = self.inner.place.lock() {
            *place = Some(permit);
        }
    }

    /// Gives the place back early: a request that only waits takes none.
    pub fn release_place(&self) {
        if let Ok(mut place) = self.inner.place.lock() {
            place.take();
        }
    }
}
