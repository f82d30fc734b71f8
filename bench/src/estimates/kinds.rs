//! A mixed load: short and long jobs, some that fail at first, some that wait for another one under a vendor's limit.

use std::time::Duration;

use jobs::{Context, Entry, Handler, entry};
use kernel::ids::TenantId;
use queue::{Backoff, Enqueued, Job, JobError, LimitUse, NewJob, Outcome, Policy, Queue};
use rand::RngExt;
use serde::{Deserialize, Serialize};

pub(super) const ALL: &[Entry] =
    &[entry::<Asked>(), entry::<Fetched>(), entry::<Flaky>(), entry::<Quick>(), entry::<Slow>()];

/// What a [`Fetched`] draws on.
pub(super) const VENDOR: &str = "bench.vendor";

const POLICY: Policy = Policy {
    queue: Queue::Enrich,
    attempts_max: 8,
    timeout: Duration::from_secs(60),
    backoff: Backoff::Exponential { base: Duration::from_millis(200), max: Duration::from_secs(2) },
    ..Policy::DEFAULT
};

/// A lognormal duration: most are near the median, some several times as long.
async fn work(median: Duration) {
    let spread = {
        let mut rng = rand::rng();
        // Of twelve even draws the sum is nearly normal (Irwin-Hall).
        let normal: f64 = (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0;
        (0.5 * normal).exp()
    };
    tokio::time::sleep(median.mul_f64(spread)).await;
}

/// Some 30 ms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Quick {}

impl Job for Quick {
    const KIND: &'static str = "bench.quick";
    const POLICY: Policy = POLICY;
}

impl Handler for Quick {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        work(Duration::from_millis(30)).await;
        Ok(Outcome::Done(None))
    }
}

/// Some 300 ms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slow {}

impl Job for Slow {
    const KIND: &'static str = "bench.slow";
    const POLICY: Policy = POLICY;
}

impl Handler for Slow {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        work(Duration::from_millis(300)).await;
        Ok(Outcome::Done(None))
    }
}

/// Some 50 ms, and one attempt in five fails.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Flaky {}

impl Job for Flaky {
    const KIND: &'static str = "bench.flaky";
    const POLICY: Policy = POLICY;
}

impl Handler for Flaky {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        work(Duration::from_millis(50)).await;
        if rand::rng().random_bool(0.2) {
            return Err(JobError::retryable("OUT_OF_LUCK", "one in five"));
        }
        Ok(Outcome::Done(None))
    }
}

/// Shares the end of a [`Fetched`], which others may ask for at the same time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) profile: u32,
}

impl Job for Asked {
    const KIND: &'static str = "bench.asked";
    const POLICY: Policy = Policy { leads_to: Some(Fetched::KIND), ..POLICY };
}

impl Handler for Asked {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let mut tx = cx.begin().await?;
        let fetch = NewJob::of(&Fetched {})?.share_of(cx.tenant()).unique(self.profile.to_string()).awaited();
        let fetch = match tx.enqueue(fetch).await? {
            Enqueued::New(id) => id,
            Enqueued::Existing(id) => id,
        };
        match tx.share_end_of(TenantId::SYSTEM, fetch).await? {
            Some(outcome) => Ok(outcome),
            None => Ok(Outcome::Snooze(Duration::from_millis(10))),
        }
    }
}

/// Some 200 ms, of which so many begin in a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fetched {}

impl Job for Fetched {
    const KIND: &'static str = "bench.fetched";
    const POLICY: Policy = Policy { limits: &[LimitUse { name: VENDOR, keyed: false, cost: 0 }], ..POLICY };
}

impl Handler for Fetched {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let _permit = match cx.permit(&[VENDOR]).await {
            Ok(permit) => permit,
            Err(none) => return none.outcome(),
        };
        work(Duration::from_millis(200)).await;
        Ok(Outcome::Done(None))
    }
}
