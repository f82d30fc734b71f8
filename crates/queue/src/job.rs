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
}

/// How jobs of one kind run. It stands beside the job it governs.
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
    /// When a failed attempt is tried again.
    pub backoff: Backoff,
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
