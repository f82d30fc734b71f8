//! Everything that one process runs: API, workers, scheduler, in any combination.
//!
//! Guarantees: nothing is served before the database is there, migrated, and known to fit our keys. On stop: no
//! request is accepted and those under way end; workers finish or give back what they have; the scheduler, the
//! connections, the sandbox and the private server follow, each after the one before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiParts, ApiState, Listener, ServerLimits};
use config::{Settings, WorkerSettings};
use jobs::Services;
use kernel::sealing::Keyring;
use outbound::{OutboundClient, OutboundSettings};
use queue::{Estimator, Queue, Waker, Watcher};
use tokio_util::sync::CancellationToken;
use vendors::{meter::Meter, smtp::Smtp};

use crate::error::CliError;
use crate::runtime::database::Database;
use crate::runtime::metrics;
use crate::runtime::single_sign_on::single_sign_on;
use crate::runtime::supervisor::Supervisor;
use crate::runtime::vendor::Vendor;

/// What a process does.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    /// Serves the API here.
    pub(crate) api: Option<Listener>,
    /// Works these queues.
    pub(crate) queues: Vec<Queue>,
    /// Turns cron lines into jobs.
    pub(crate) schedules: bool,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct House {
    /// Its database.
    pub(crate) database: Database,
    /// The keys of that database.
    pub(crate) keyring: Arc<Keyring>,
    /// Whom it calls.
    pub(crate) vendor: Vendor,
    supervisor: Supervisor,
    /// Cancelled when an operator asks the workers here to stop, and by their stopping.
    workers_stop: Option<CancellationToken>,
}

impl House {
    /// Starts the roles.
    pub(crate) async fn start(
        settings: &Settings,
        database: Database,
        keyring: Arc<Keyring>,
        vendor: Vendor,
        roles: Roles,
    ) -> Result<Self, CliError> {
        let supervisor = Supervisor::new();
        let mut house = Self { database, keyring, vendor, supervisor, workers_stop: None };
        let (waker, watcher) = (Waker::new(), Watcher::new());
        if let Err(error) = house.start_roles(settings, &waker, &watcher, roles).await {
            // What has been started is stopped in good order; the first error is the one to tell.
            let _ = house.stop().await;
            return Err(error);
        }
        Ok(house)
    }

    /// The order of starting is the order of stopping.
    async fn start_roles(
        &mut self,
        settings: &Settings,
        waker: &Waker,
        watcher: &Watcher,
        roles: Roles,
    ) -> Result<(), CliError> {
        let serves = roles.api.is_some();
        let estimator = jobs::estimator(self.database.pool.clone());
        if let Some(listener) = roles.api {
            self.serve(settings, waker, watcher, &estimator, listener)?;
        }
        if !roles.queues.is_empty() {
            self.work(settings, waker, &roles.queues).await?;
        }
        if roles.schedules {
            let stop = CancellationToken::new();
            let schedules = scheduler::run(
                self.database.pool.clone(),
                waker.clone(),
                scheduler_settings(settings),
                stop.clone(),
            );
            self.supervisor.spawn("the scheduler", &stop, endless(schedules));
        }
        let stop = CancellationToken::new();
        if serves {
            let watch = watcher.clone().run(self.database.pool.clone(), waker.clone());
            let watch = stop.clone().run_until_cancelled_owned(watch);
            self.supervisor.spawn("watching for results", &stop, endless(watch));
            let note = stop.clone().run_until_cancelled_owned(estimator.run());
            self.supervisor.spawn("noting estimates", &stop, endless(note));
        }
        if let Some(listen) = settings.metrics.listen {
            let listener = metrics::listen(listen).await?;
            let served = metrics::serve(listener, metrics::render(self.database.pool.clone()), stop.clone());
            self.supervisor.spawn("showing metrics", &stop, served);
        }
        if settings.database.listen {
            let relay = waker.clone().relay(self.database.pool.clone());
            let relay = stop.clone().run_until_cancelled_owned(relay);
            self.supervisor.spawn("carrying wake-up signals", &stop, endless(relay));
        }
        Ok(())
    }

    fn serve(
        &mut self,
        settings: &Settings,
        waker: &Waker,
        watcher: &Watcher,
        estimator: &Estimator,
        listener: Listener,
    ) -> Result<(), CliError> {
        let mut http = settings.http.clone();
        // Without a name for the outside, people reach it where it really listens.
        if let (None, Ok(url)) = (&http.public_url, listener.url()) {
            http.public_url = Some(url);
        }
        let stop = CancellationToken::new();
        let state = ApiState::new(ApiParts {
            pool: self.database.pool.clone(),
            watcher: watcher.clone(),
            estimator: estimator.clone(),
            waker: waker.clone(),
            lease: std::time::Duration::from_millis(settings.queue.lease_ms),
            http,
            api: settings.api.clone(),
            partners: settings.partners.clone(),
            single_sign_on: single_sign_on(settings)?,
            keyring: self.keyring.clone(),
            allow_loopback: self.vendor.allow_loopback,
            render_metrics: metrics::render(self.database.pool.clone()),
            stop: stop.clone(),
        });
        let router = api::router(state).map_err(|error| CliError::part("the API", error))?;
        let server = api::serve(listener, router, ServerLimits::from(&settings.http), stop.clone());
        self.supervisor.spawn("the API", &stop, server);
        Ok(())
    }

    async fn work(&mut self, settings: &Settings, waker: &Waker, queues: &[Queue]) -> Result<(), CliError> {
        self.define_limits(settings).await?;
        let services = self.services(settings)?;
        let stop = CancellationToken::new();
        let workers = workers::run(
            worker_settings(settings, queues),
            jobs::ALL,
            Arc::new(services),
            waker.clone(),
            stop.clone(),
        );
        self.supervisor.spawn("the workers", &stop, Box::pin(workers));
        self.workers_stop = Some(stop);
        Ok(())
    }

    /// Limits on vendors, as the settings give them, unless an operator set others.
    async fn define_limits(&self, settings: &Settings) -> Result<(), CliError> {
        let meter = &settings.meter;
        let window = Duration::from_millis(meter.window_ms);
        let (limits, without) = jobs::profiles::meter_limits(meter.calls_max, window, meter.concurrency_max);
        let defined = async {
            let mut conn = self.database.pool.acquire().await?;
            queue::limits::define(&mut conn, &limits, &without).await
        };
        defined.await.map_err(|error: queue::Error| CliError::part("the limits on vendors", error))
    }

    fn services(&self, settings: &Settings) -> Result<Services, CliError> {
        let meter = Meter::new(self.vendor.meter.clone())
            .map_err(|error| CliError::part("setting up the profile meter's client", error))?;
        let smtp = self.vendor.smtp.as_ref().map(Smtp::new).transpose();
        let smtp = smtp.map_err(|error| CliError::part("setting up the mail server's client", error))?;
        let outbound = OutboundClient::new(OutboundSettings {
            timeout: Duration::from_millis(settings.webhooks.timeout_ms),
            allow_loopback: self.vendor.allow_loopback,
            ..OutboundSettings::default()
        });
        Ok(Services {
            pool: self.database.pool.clone(),
            limits: jobs::Limits::new(self.database.pool.clone()),
            keyring: self.keyring.clone(),
            meter,
            smtp,
            outbound: outbound.map_err(|error| CliError::part("setting up deliveries", error))?,
            crawl_reuse: Duration::from_secs(u64::from(settings.meter.cache_hours) * 60 * 60),
            miss_reuse: Duration::from_secs(settings.meter.missing_cache_s.into()),
            retention: retention(settings),
        })
    }

    /// Waits until an operator asks the workers of this process to stop, and with them the process.
    pub(crate) async fn asked_to_stop(&self) {
        match &self.workers_stop {
            Some(stop) => stop.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until something fails that should go on.
    pub(crate) async fn failure(&self) -> CliError {
        tokio::select! {
            failure = self.supervisor.failure() => failure,
            ended = self.database.ended() => ended,
        }
    }

    /// Stops everything in its order. The first failure on the way is the answer, after everything has ended.
    pub(crate) async fn stop(self) -> Result<(), CliError> {
        let parts = self.supervisor.stop().await;
        if let Some(sandbox) = self.vendor.sandbox {
            sandbox.shutdown().await;
        }
        let database = self.database.close().await;
        parts.and(database)
    }
}

/// A part that has nothing to say when it ends.
async fn endless<T>(work: impl Future<Output = T>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}

fn worker_settings(settings: &Settings, queues: &[Queue]) -> workers::Settings {
    let slots: BTreeMap<Queue, usize> =
        queues.iter().map(|queue| (*queue, slots(&settings.worker, *queue))).collect();
    workers::Settings {
        slots,
        lease: Duration::from_millis(settings.queue.lease_ms),
        sweep: Duration::from_millis(settings.queue.sweep_ms),
        poll: Duration::from_millis(settings.worker.poll_ms),
        turns: workers::TurnSettings {
            acknowledged_max: settings.worker.acknowledged_max,
            connections: settings.worker.turn_connections,
        },
        drain_timeout: Duration::from_secs(settings.worker.drain_timeout_s),
        maintenance: workers::MaintenanceSettings {
            retention: retention(settings),
            oldest_transaction_warn: Duration::from_secs(settings.queue.oldest_transaction_warn_s),
        },
    }
}

fn scheduler_settings(settings: &Settings) -> scheduler::Settings {
    scheduler::Settings {
        look_every: Duration::from_millis(settings.scheduler.look_ms),
        grace: Duration::from_secs(settings.scheduler.missed_after_s),
        ..scheduler::Settings::default()
    }
}

fn retention(settings: &Settings) -> Duration {
    Duration::from_secs(u64::from(settings.queue.retention_days) * 24 * 60 * 60)
}

fn slots(worker: &WorkerSettings, queue: Queue) -> usize {
    match queue {
        Queue::Enrich => worker.concurrency_enrich,
        Queue::Webhooks => worker.concurrency_webhooks,
        Queue::Maintenance => worker.concurrency_maintenance,
    }
}
