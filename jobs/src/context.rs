//! What a job's body is given: its lease, and the services it may use.

use std::{ops::Deref, sync::Arc, time::Duration};

use kernel::sealing::Keyring;
use outbound::OutboundClient;
use queue::{Job, JobError, Lease, Outcome};
use sqlx::PgPool;
use vendors::meter::Meter;

/// The body of a kind of job.
pub trait Handler: Job {
    /// Runs one attempt. It may be dropped at any await: at its timeout, when the job is cancelled, when the
    /// lease is lost, and when the process stops.
    fn run(self, cx: Context) -> impl Future<Output = Result<Outcome, JobError>> + Send;
}

/// What outlives single jobs.
#[derive(Debug)]
pub struct Services {
    /// For reading outside a job's transaction, and for upkeep.
    pub pool: PgPool,
    /// Seals and opens contact details and secrets.
    pub keyring: Arc<Keyring>,
    /// The profile meter.
    pub meter: Meter,
    /// The client for addresses that partners gave.
    pub outbound: OutboundClient,
    /// How long a crawl's result is reused (S0: 24 hours).
    pub crawl_reuse: Duration,
    /// How long a profile that was not found is not asked for again.
    pub miss_reuse: Duration,
    /// How long finished jobs and deliveries stay readable.
    pub retention: Duration,
}

/// One attempt's view of the world; derefs to the job's [`Lease`].
#[derive(Debug, Clone)]
pub struct Context {
    lease: Lease,
    services: Arc<Services>,
}

impl Context {
    /// The context of an attempt under `lease`.
    #[must_use]
    pub fn new(lease: Lease, services: Arc<Services>) -> Self {
        Self { lease, services }
    }

    /// The services.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }
}

impl Deref for Context {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}
