//! Kinds of jobs that call out, and the other side, which counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use jobs::{Context, Entry, Handler, entry};
use queue::{Backoff, JobError, Outcome};
use serde::{Deserialize, Serialize};

use super::*;

pub(super) const KINDS: &[Entry] = &[entry::<Buyer>(), entry::<Caller>(), entry::<Holder>(), entry::<Idle>()];
/// What a [`Buyer`] is expected to spend.
pub(super) const COST: i64 = 5;
/// What a [`Caller`] draws on.
pub(super) const CALLS: &str = "test.calls";
/// What a [`Holder`] draws on.
pub(super) const SLOTS: &str = "test.slots";

const POLICY: Policy = Policy {
    queue: Queue::Enrich,
    attempts_max: 2,
    backoff: Backoff::Exponential { base: Duration::from_millis(1), max: Duration::from_millis(5) },
    ..Policy::DEFAULT
};

/// Spends money.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Buyer {
    /// What it says it spent, if it says so.
    pub(super) spends: Option<i64>,
    /// It goes to sleep for an hour before it calls anybody.
    pub(super) snoozes: bool,
    /// Whom it calls.
    pub(super) vendor: Option<Uuid>,
}

impl Job for Buyer {
    const KIND: &'static str = "test.buyer";
    const POLICY: Policy =
        Policy { limits: &[LimitUse { name: "test.budget", keyed: false, cost: COST }], ..POLICY };
}

impl Handler for Buyer {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        if self.snoozes {
            return Ok(Outcome::Snooze(HOUR));
        }
        let _permit = match cx.permit(&["test.budget"]).await {
            Ok(permit) => permit,
            Err(none) => return none.outcome(),
        };
        if let Some(vendor) = self.vendor {
            Vendor::of(vendor).serve(COST).await;
        }
        if let Some(amount) = self.spends {
            cx.spent("test.budget", amount);
        }
        Ok(Outcome::Done(None))
    }
}

/// Makes one of so many calls in a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Caller {
    pub(super) vendor: Uuid,
}

impl Job for Caller {
    const KIND: &'static str = "test.caller";
    const POLICY: Policy = Policy { limits: &[LimitUse { name: CALLS, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Caller {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, CALLS, self.vendor).await
    }
}

/// Makes one of so many calls at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) vendor: Uuid,
}

impl Job for Holder {
    const KIND: &'static str = "test.holder";
    const POLICY: Policy = Policy { limits: &[LimitUse { name: SLOTS, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Holder {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, SLOTS, self.vendor).await
    }
}

/// Calls nobody.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Idle {}

impl Job for Idle {
    const KIND: &'static str = "test.idle";
    const POLICY: Policy = POLICY;
}

impl Handler for Idle {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        Ok(Outcome::Done(None))
    }
}

async fn call(cx: &Context, limit: &str, vendor: Uuid) -> Result<Outcome, JobError> {
    let _permit = match cx.permit(&[limit]).await {
        Ok(permit) => permit,
        Err(none) => return none.outcome(),
    };
    Vendor::of(vendor).serve(0).await;
    Ok(Outcome::Done(None))
}

/// The other side, in this very process: it counts calls when they arrive and while they last.
#[derive(Debug)]
pub(super) struct Vendor {
    window: Duration,
    counts: Mutex<Counts>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By number of window.
    pub(super) windows: BTreeMap<i64, i64>,
    pub(super) inside: i64,
    pub(super) inside_max: i64,
    pub(super) spent: i64,
}

/// How long a call takes.
const SERVICE_TIME: Duration = Duration::from_millis(100);

static VENDORS: LazyLock<Mutex<HashMap<Uuid, Arc<Vendor>>>> = LazyLock::new(Mutex::default);

impl Vendor {
    /// A new one, and its name.
    pub(super) fn open(window: Duration) -> (Uuid, Arc<Self>) {
        let (name, vendor) = (Uuid::now_v7(), Arc::new(Self { window, counts: Mutex::default() }));
        VENDORS.lock().unwrap().insert(name, vendor.clone());
        (name, vendor)
    }

    fn of(name: Uuid) -> Arc<Self> {
        VENDORS.lock().unwrap()[&name].clone()
    }

    /// The number of the present window.
    pub(super) fn window(&self) -> i64 {
        kernel::clock::now().timestamp_millis().div_euclid(i64::try_from(self.window.as_millis()).unwrap())
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    async fn serve(&self, amount: i64) {
        let _visit = Visit::begin(self, amount);
        tokio::time::sleep(SERVICE_TIME).await;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; it ends when its caller goes away, too.
struct Visit<'a>(&'a Vendor);

impl<'a> Visit<'a> {
    fn begin(vendor: &'a Vendor, amount: i64) -> Self {
        let window = vendor.window();
        let mut counts = vendor.lock();
        *counts.windows.entry(window).or_default() += 1;
        counts.spent += amount;
        counts.inside += 1;
        counts.inside_max = counts.inside_max.max(counts.inside);
        Self(vendor)
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
    }
}
