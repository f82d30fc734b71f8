//! What handlers share. Everything in it is bounded, and nothing in it is the truth: that is in the database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use chrono_tz::Tz;
use db::Pool;
use identity::Passwords;
use kernel::sealing::Keyring;
use partners::Authenticated;
use pool::search::SearchIndex;
use queue::{Estimator, Waker, Watcher};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::extract::body::BodyLimits;
use crate::extract::credential_cache::CredentialCache;
use crate::extract::failed_attempts::FailedAttempts;
use crate::extract::prefer::WAIT_S_MAX;
use crate::extract::rate_limit::RateLeases;
use crate::routes::ops::events::Listeners;
use crate::routes::ops::overview::Glance;
use crate::single_sign_on::SingleSignOn;

/// Passwords checked at once: each takes a core, and 19 MiB, for some tens of milliseconds.
const PASSWORDS_AT_ONCE_MAX: usize = 2;

/// What the API is made of.
pub struct ApiParts {
    /// The database.
    pub pool: Pool,
    /// Awaits ends of jobs; whoever makes it also runs it.
    pub watcher: Watcher,
    /// Estimates ends of jobs; whoever makes it also runs it.
    pub estimator: Estimator,
    /// Wakes workers.
    pub waker: Waker,
    /// Seals, opens and makes digests.
    pub keyring: Arc<Keyring>,
    /// How long a worker process counts as alive after its last sign of life.
    pub lease: Duration,
    /// Limits of requests.
    pub http: config::HttpSettings,
    /// Limits of credentials.
    pub api: config::ApiSettings,
    /// Months of quota.
    pub partners: config::PartnerSettings,
    /// Single sign-on, if there is any.
    pub single_sign_on: Option<SingleSignOn>,
    /// Whether callbacks may lead to this very machine (the sandbox).
    pub allow_loopback: bool,
    /// Renders the process' metrics in Prometheus' text format.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Cancelled when the process is to stop: held answers end at once.
    pub stop: CancellationToken,
}

/// The state of every handler; clones share.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

struct Inner {
    parts: ApiParts,
    credentials: CredentialCache<Authenticated>,
    failed_attempts: FailedAttempts,
    rates: RateLeases,
    places: Arc<Semaphore>,
    bodies: BodyLimits,
    passwords: Passwords,
    listeners: Listeners,
    glance: Glance,
    search: SearchIndex,
}

impl ApiState {
    /// The state of a process that has just started.
    pub fn new(parts: ApiParts) -> Self {
        // Half of what may be connected may be at work; the rest waits for results or idles.
        let in_flight_max = (parts.http.connections_max / 2).max(1);
        let places = Arc::new(Semaphore::new(in_flight_max));
        // Half the request's time: a body that takes it all would leave none for the answer.
        let read_timeout = Duration::from_millis(parts.http.request_timeout_ms) / 2;
        Self(Arc::new(Inner {
            bodies: BodyLimits::new(parts.http.body_bytes_max, read_timeout, Arc::clone(&places)),
            credentials: CredentialCache::new(Duration::from_millis(parts.api.key_cache_ms)),
            failed_attempts: FailedAttempts::default(),
            rates: RateLeases::default(),
            places,
            passwords: Passwords::new(PASSWORDS_AT_ONCE_MAX),
            listeners: Listeners::default(),
            glance: Glance::default(),
            search: SearchIndex::default(),
            parts,
        }))
    }

    /// The database.
    pub fn pool(&self) -> &Pool {
        &self.0.parts.pool
    }

    /// Seals, opens and makes digests.
    pub fn keyring(&self) -> &Keyring {
        &self.0.parts.keyring
    }

    /// In which time zone months of quota begin.
    pub(crate) fn quota_zone(&self) -> Tz {
        self.0.parts.partners.quota_time_zone
    }

    /// The searchable pool.
    pub(crate) fn search_index(&self) -> &SearchIndex {
        &self.0.search
    }

    /// The latest overview.
    pub(crate) fn glance(&self) -> &Glance {
        &self.0.glance
    }

    /// Those who listen to live events.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// Hashes and checks passwords.
    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    /// How long a worker process counts as alive after its last sign of life.
    pub(crate) fn lease(&self) -> Duration {
        self.0.parts.lease
    }

    /// Wakes workers and those who wait.
    pub fn waker(&self) -> &Waker {
        &self.0.parts.waker
    }

    /// Awaits ends of jobs.
    pub fn watcher(&self) -> &Watcher {
        &self.0.parts.watcher
    }

    /// Whether callbacks may lead to this very machine.
    pub fn allow_loopback(&self) -> bool {
        self.0.parts.allow_loopback
    }

    /// Single sign-on, if there is any.
    pub(crate) fn single_sign_on(&self) -> Option<&SingleSignOn> {
        self.0.parts.single_sign_on.as_ref()
    }

    /// Where people reach this API, without a slash at the end.
    pub(crate) fn public_url(&self) -> String {
        let http = &self.0.parts.http;
        let named = http.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        named.unwrap_or_else(|| format!("http://{}", http.listen))
    }

    /// Cancelled when the process is to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.parts.stop
    }

    /// Estimates ends of jobs.
    pub(crate) fn estimator(&self) -> &Estimator {
        &self.0.parts.estimator
    }

    /// The metrics as text.
    pub fn render_metrics(&self) -> String {
        (self.0.parts.render_metrics)()
    }

    /// The longest an answer is held open.
    pub fn wait_max(&self) -> Duration {
        Duration::from_secs(self.0.parts.http.wait_s_max.min(WAIT_S_MAX.into()))
    }

    /// The time limit of a request that may wait for a result.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.0.parts.http.request_timeout_ms)
    }

    pub(crate) fn credentials(&self) -> &CredentialCache<Authenticated> {
        &self.0.credentials
    }

    pub(crate) fn failed_attempts(&self) -> &FailedAttempts {
        &self.0.failed_attempts
    }

    pub(crate) fn rates(&self) -> &RateLeases {
        &self.0.rates
    }

    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.places)
    }
}

impl FromRef<ApiState> for BodyLimits {
    fn from_ref(state: &ApiState) -> Self {
        state.0.bodies.clone()
    }
}

impl fmt::Debug for ApiState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiState").finish_non_exhaustive()
    }
}
