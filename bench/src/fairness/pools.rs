//! Workers in this process, each on a runtime of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use config::{Settings, Sources};
use db::{ConnectOptions, Pool};
use kernel::ids::TenantId;
use queue::{NewJob, Queue, TenantShare, Waker};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::held::KINDS;
use crate::server::Database;
use crate::worker;

/// Longest wait for workers to register themselves.
const START_MAX: Duration = Duration::from_secs(30);
/// Jobs in one statement when a queue is filled.
const FILL_BATCH: usize = 1_000;

/// Running workers. Dropping it asks them to stop.
#[derive(Debug)]
pub(super) struct Pools {
    stop: CancellationToken,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Pools {
    /// Starts so many workers with so many slots each, and waits until they are registered.
    ///
    /// # Errors
    /// When one does not start.
    pub(super) async fn start(
        database: &Database,
        workers: usize,
        slots: usize,
        waker: &Waker,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let mut threads = Vec::new();
        for number in 0..workers {
            let (url, waker, stop) = (database.url.clone(), waker.clone(), stop.clone());
            let work = move || {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                runtime.block_on(work(url, slots, waker, stop))
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(work)?);
        }
        let pools = Self { stop, threads };
        let until = Instant::now() + START_MAX;
        while registered(&database.pool).await? < i64::try_from(workers)? {
            if Instant::now() > until || pools.threads.iter().any(JoinHandle::is_finished) {
                bail!("the workers did not start");
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(pools)
    }

    /// Stops them and waits for their end.
    ///
    /// # Errors
    /// When one ended badly.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        for thread in std::mem::take(&mut self.threads) {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
            ended.map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(())
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn work(url: String, slots: usize, waker: Waker, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = Settings::load(&Sources::default())?;
    let options = ConnectOptions {
        connections_max: settings.database.connections_max,
        acquire_timeout: Duration::from_millis(settings.database.acquire_timeout_ms),
        ..ConnectOptions::from_url(&url)?
    };
    let pool = db::connect(&options).await?;
    let services = Arc::new(worker::services(&settings, pool.clone())?);
    let settings = workers::Settings {
        slots: BTreeMap::from([(Queue::Enrich, slots)]),
        lease: Duration::from_millis(settings.queue.lease_ms),
        sweep: Duration::from_millis(settings.queue.sweep_ms),
        poll: Duration::from_millis(settings.worker.poll_ms),
        turns: workers::TurnSettings {
            acknowledged_max: settings.worker.acknowledged_max,
            connections: settings.worker.turn_connections,
        },
        // Whatever is left is thrown away with the database.
        drain_timeout: Duration::from_secs(1),
        maintenance: workers::MaintenanceSettings::default(),
    };
    tokio::spawn(workers::run(settings, KINDS, services, waker, stop)).await?.context("a worker")?;
    pool.close().await;
    Ok(())
}

async fn registered(pool: &Pool) -> anyhow::Result<i64> {
    let count = sqlx::query_scalar!(r#"select count(*) as "n!" from worker_processes"#);
    Ok(count.fetch_one(pool).await?)
}

/// A new tenant of some weight.
///
/// # Errors
/// When the database refuses.
pub(super) async fn tenant(pool: &Pool, weight: i16) -> anyhow::Result<TenantId> {
    let tenant = TenantId::from_uuid(Uuid::now_v7());
    let mut conn = pool.acquire().await?;
    queue::set_tenant(&mut conn, tenant, TenantShare { weight, ..TenantShare::default() }).await?;
    Ok(tenant)
}

/// Stores jobs of one sort.
///
/// # Errors
/// When the database refuses.
pub(super) async fn fill(
    pool: &Pool,
    jobs: u64,
    job: impl Fn(u64) -> Result<NewJob, queue::Error>,
) -> anyhow::Result<()> {
    let mut conn = pool.acquire().await?;
    for from in (0..jobs).step_by(FILL_BATCH) {
        let batch: Result<Vec<NewJob>, _> = (from..jobs.min(from + FILL_BATCH as u64)).map(&job).collect();
        queue::enqueue_many(&mut conn, batch?).await?;
    }
    Ok(())
}
