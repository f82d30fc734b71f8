//! What a job kind is: its arguments as a type, its name, and the policy it runs under.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::Backoff;

/// A kind of job: the type is its arguments, stored as JSON.
///
/// Arguments outlive the binary that wrote them, so fields are only ever added with a default.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind's name on the wire and in the database, `<domain>.<verb>`.
    const KIND: &'static str;
    /// How jobs of this kind run.
    const POLICY: Policy;
    /// Arguments that are not to lie about in clear.
    const MARKED: Marked = Marked::NONE;
}

/// Top-level fields of a kind's arguments that hold personal data or secrets.
#[derive(Debug, Clone, Copy)]
pub struct Marked {
    /// Stored sealed, opened for the handler alone; see [`NewJob::seal`](crate::NewJob::seal).
    pub encrypted: &'static [&'static str],
    /// Stored in clear while the job lives, shown to nobody, and blotted out when it completes.
    pub redacted: &'static [&'static str],
}

impl Marked {
    /// Nothing is marked.
    pub const NONE: Self = Self { encrypted: &[], redacted: &[] };
}

/// How jobs of one kind run. It stands beside the job it governs; build on [`Policy::DEFAULT`].
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The pool of workers that runs them.
    pub queue: Queue,
    /// Order within the queue; lower runs first.
    pub priority: i16,
    /// How many attempts may begin before the job fails for good.
    pub attempts_max: i16,
    /// How long one attempt may take before it is stopped and counted as failed.
    pub timeout: Duration,
    /// How long after being stored a job may still be worked on; then it fails, wherever it stands.
    pub deadline: Option<Duration>,
    /// When a failed attempt is tried again.
    pub backoff: Backoff,
    /// How many jobs of one [key](crate::NewJob::key) may run at once in the whole fleet.
    pub key_concurrency_max: Option<i32>,
    /// The [limits](crate::limits) that jobs of this kind draw on.
    pub limits: &'static [LimitUse],
    /// The kind of job that most jobs of this kind wait for, without a slot: how long they take is how long that takes.
    pub leads_to: Option<&'static str>,
}

impl Policy {
    /// Three attempts of a minute each, on the queue for upkeep, without limits.
    pub const DEFAULT: Self = Self {
        queue: Queue::Maintenance,
        priority: 0,
        attempts_max: 3,
        timeout: Duration::from_secs(60),
        deadline: None,
        backoff: Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(60) },
        key_concurrency_max: None,
        limits: &[],
        leads_to: None,
    };
}

/// A limit that jobs of a kind draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitUse {
    /// The limit's name.
    pub name: &'static str,
    /// Each key of the kind's jobs has a bucket of its own.
    pub keyed: bool,
    /// Of a budget: what one job is expected to cost, in the budget's minor units, reserved when it is claimed.
    pub cost: i64,
}

/// The queues there are; each has its own pool of slots in a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Profile crawls asked for by partners.
    Enrich,
    /// Deliveries to addresses that partners gave.
    Webhooks,
    /// Upkeep of our own tables.
    Maintenance,
}

impl Queue {
    /// Every queue, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Enrich, Self::Webhooks, Self::Maintenance];

    /// The name in the database, in settings and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrich => "enrich",
            Self::Webhooks => "webhooks",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A queue name that no queue has.
#[derive(Debug, thiserror::Error)]
#[error("no queue is called {0:?}; there are: enrich, webhooks, maintenance")]
pub struct UnknownQueue(String);

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(name: &str) -> Result<Self, UnknownQueue> {
        Self::ALL.into_iter().find(|queue| queue.as_str() == name).ok_or_else(|| UnknownQueue(name.into()))
    }
}
