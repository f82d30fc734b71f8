//! What a job's body is given: its lease, and the services it may use.

use std::{ops::Deref, sync::Arc, time::Duration};

use db::Pool;
use kernel::sealing::Keyring;
use outbound::OutboundClient;
use queue::{Job, JobError, Lease, LimitUse, Outcome, Policy, ProgressReport, limits::Permit};
use tokio::time::Instant;
use vendors::{meter::Meter, smtp::Smtp};

use crate::limits::{Asker, Limits, PermitError, Usage, buckets};

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
    pub pool: Pool,
    /// Permits for calls to vendors.
    pub limits: Limits,
    /// Seals and opens contact details and secrets.
    pub keyring: Arc<Keyring>,
    /// The profile meter.
    pub meter: Meter,
    /// The mail server, if one is configured.
    pub smtp: Option<Smtp>,
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
#[derive(Clone)]
pub struct Context {
    lease: Lease,
    services: Arc<Services>,
    progress: Option<Arc<dyn Fn(ProgressReport) + Send + Sync>>,
    /// What the kind draws on.
    uses: &'static [LimitUse],
    usage: Option<Arc<Usage>>,
    ends_at: Option<Instant>,
}

impl Context {
    /// The context of an attempt under `lease`.
    #[must_use]
    pub fn new(lease: Lease, services: Arc<Services>) -> Self {
        Self { lease, services, progress: None, uses: &[], usage: None, ends_at: None }
    }

    /// Where reports of progress go; without it they go nowhere.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Fn(ProgressReport) + Send + Sync>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Where is noted what it uses of limits; without it budgets stay as they were reserved.
    #[must_use]
    pub fn with_usage(mut self, usage: Arc<Usage>) -> Self {
        self.usage = Some(usage);
        self
    }

    /// What its kind's policy says, from the beginning of the attempt.
    pub(crate) fn under(mut self, policy: &'static Policy) -> Self {
        self.uses = policy.limits;
        self.ends_at = Some(Instant::now() + policy.timeout);
        self
    }

    /// Draws one permit from each of these limits, right before a call; every try of a call draws its own. Waits a
    /// moment if need be, and no longer: [`PermitError::outcome`] is what the attempt comes to then. Keep the permit
    /// until the call is over.
    ///
    /// # Errors
    /// [`PermitError`].
    pub async fn permit(&self, limits: &[&str]) -> Result<Permit, PermitError> {
        let key = self.bucket_key(limits).await?;
        let buckets = buckets(limits, self.uses, key.as_deref());
        let asker = Asker {
            process: self.lease.process(),
            lease: self.lease.key(),
            ends_at: self.ends_at.unwrap_or_else(|| Instant::now() + Policy::DEFAULT.timeout),
        };
        let permit = self.services.limits.draw(&asker, &buckets).await?;
        if let Some(usage) = &self.usage {
            usage.note_draw();
        }
        Ok(permit)
    }

    /// The other side wants fewer calls: nobody in the fleet draws on the limit for so long, or, when it did not say
    /// how long, until its window ends.
    ///
    /// # Errors
    /// [`queue::Error`]: the others will be told by the other side themselves.
    pub async fn tighten(&self, limit: &str, retry_after: Option<Duration>) -> Result<(), queue::Error> {
        let key = self.bucket_key(&[limit]).await?;
        let buckets = buckets(&[limit], self.uses, key.as_deref());
        for (name, key) in buckets {
            self.services.limits.tighten(name, key, retry_after).await?;
        }
        Ok(())
    }

    /// Says what a call cost, in the budget's minor units; amounts add up. The kind's policy names the budget. What an
    /// attempt says nothing of counts as its policy estimates.
    pub fn spent(&self, budget: &str, minor: i64) {
        if let Some(usage) = &self.usage {
            usage.note_spending(budget, minor);
        }
    }

    /// The job's key, if one of these limits has a bucket for each.
    async fn bucket_key(&self, limits: &[&str]) -> Result<Option<String>, queue::Error> {
        if !self.uses.iter().any(|one| one.keyed && limits.contains(&one.name)) {
            return Ok(None);
        }
        let read = || queue::limits::key_of(&self.services.pool, self.lease.key());
        match &self.usage {
            Some(usage) => usage.key(read).await,
            None => read().await,
        }
    }

    /// Says how far the job is. Cheap, and may be called at every step: reports are gathered, and the latest is
    /// written about once a second. It is shown while the job lives.
    pub fn progress(&self, done: u64, total: Option<u64>, note: Option<&str>) {
        if let Some(progress) = &self.progress {
            progress(ProgressReport { done, total, note: note.map(str::to_owned) });
        }
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

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("lease", &self.lease).finish_non_exhaustive()
    }
}
