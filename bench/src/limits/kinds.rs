//! One kind of job for each limit.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use jobs::{Context, Entry, Handler, entry};
use queue::{Backoff, Job, JobError, LimitUse, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};

use super::counter;

pub(super) const ALL: &[Entry] = &[entry::<Call>(), entry::<Order>(), entry::<Slot>(), entry::<Tick>()];

pub(super) const CALLS: &str = "bench.calls";
pub(super) const PER_SECOND: &str = "bench.per_second";
pub(super) const SLOTS: &str = "bench.slots";
pub(super) const BUDGET: &str = "bench.budget";
/// What one order is expected to cost, and costs.
pub(super) const COST: i64 = 5;

/// Where the counter is.
pub(super) static COUNTER: OnceLock<SocketAddr> = OnceLock::new();

const POLICY: Policy = Policy {
    queue: Queue::Enrich,
    attempts_max: 100,
    timeout: Duration::from_secs(30),
    backoff: Backoff::Exponential { base: Duration::from_millis(50), max: Duration::from_secs(1) },
    ..Policy::DEFAULT
};

/// One of so many calls in the vendor's window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Call {}

impl Job for Call {
    const KIND: &'static str = "bench.call";
    const POLICY: Policy = Policy { limits: &[LimitUse { name: CALLS, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Call {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, CALLS, 0).await
    }
}

/// One of so many calls in a second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Tick {}

impl Job for Tick {
    const KIND: &'static str = "bench.tick";
    const POLICY: Policy =
        Policy { limits: &[LimitUse { name: PER_SECOND, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Tick {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, PER_SECOND, 0).await
    }
}

/// One of so many calls at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slot {}

impl Job for Slot {
    const KIND: &'static str = "bench.slot";
    const POLICY: Policy = Policy { limits: &[LimitUse { name: SLOTS, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Slot {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, SLOTS, 0).await
    }
}

/// Something that costs money.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {}

impl Job for Order {
    const KIND: &'static str = "bench.order";
    const POLICY: Policy =
        Policy { limits: &[LimitUse { name: BUDGET, keyed: false, cost: COST }], ..POLICY };
}

impl Handler for Order {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        call(&cx, BUDGET, COST).await
    }
}

async fn call(cx: &Context, limit: &str, units: i64) -> Result<Outcome, JobError> {
    let Some(address) = COUNTER.get() else { return Err(JobError::fatal("NO_COUNTER", "no counter")) };
    let permit = match cx.permit(&[limit]).await {
        Ok(permit) => permit,
        Err(none) => return none.outcome(),
    };
    if let Err(error) = counter::call(*address, limit, units).await {
        return Err(JobError::retryable("NO_ANSWER", error.to_string()));
    }
    drop(permit);
    if units > 0 {
        cx.spent(limit, units);
    }
    Ok(Outcome::Done(None))
}
