//! The hidden subcommand `worker`: a worker process as `millpond worker` starts it, with the kinds that are measured.
//!
//! Settings that are not named on the command line are Millpond's defaults; logs go to standard error, as there. It
//! works until its standard input ends, so that it never outlives whoever started it. On standard output it tells,
//! when asked to, how many bodies have run, one number a line, and at the end one line of JSON ([`Told`]).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use config::{Settings, Sources};
use db::{ConnectOptions, Pool};
use jobs::Services;
use kernel::sealing::Keyring;
use outbound::{OutboundClient, OutboundSettings};
use queue::{Queue, Waker};
use serde::{Deserialize, Serialize};
use telemetry::{Format, TraceSettings};
use tokio_util::sync::CancellationToken;
use vendors::meter::{Meter, MeterSettings};

use crate::figures::pickup;
use crate::kinds;

/// How a measured worker process is started.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// The database's address.
    #[arg(long)]
    pub database: String,
    /// Jobs at once.
    #[arg(long)]
    pub slots: usize,
    /// Jobs acknowledged in one statement at the most [default: Millpond's].
    #[arg(long)]
    pub acknowledged_max: Option<usize>,
    /// Such statements under way at once [default: Millpond's].
    #[arg(long)]
    pub connections: Option<usize>,
    /// Tell how many bodies have run while it works, a hundred times a second.
    #[arg(long)]
    pub tell: bool,
    /// Record no metrics, log nothing, send nothing.
    #[arg(long, conflicts_with = "collector")]
    pub silent: bool,
    /// Send one trace in a hundred to the collector on this port of this machine, and render metrics every second.
    #[arg(long)]
    pub collector: Option<u16>,
    /// Store the jobs whose wait is measured in this process.
    #[arg(long)]
    pub stores: bool,
}

/// The last thing that a worker process tells.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Told {
    /// Bodies that have run.
    pub executed: u64,
    /// How long each measured job waited, in microseconds.
    pub waits_us: Vec<u64>,
}

const RENDER_EVERY: Duration = Duration::from_secs(1);
/// How often the number of bodies is told.
const TELL_EVERY: Duration = Duration::from_millis(10);

/// Works until standard input ends.
///
/// # Errors
/// When the database cannot be reached.
pub async fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&Sources::default())?;
    start_telemetry(&args, &settings)?;
    let turns = workers::TurnSettings {
        acknowledged_max: args.acknowledged_max.unwrap_or(settings.worker.acknowledged_max),
        connections: args.connections.unwrap_or(settings.worker.turn_connections),
    };
    let options = ConnectOptions {
        connections_max: settings.database.connections_max,
        acquire_timeout: Duration::from_millis(settings.database.acquire_timeout_ms),
        prepared: settings.database.prepared,
        ..ConnectOptions::from_url(&args.database)?
    };
    let pool = db::connect(&options).await?;
    let waker = Waker::new();
    let working = workers::run(
        workers::Settings {
            slots: BTreeMap::from([(Queue::Enrich, args.slots)]),
            lease: Duration::from_millis(settings.queue.lease_ms),
            sweep: Duration::from_millis(settings.queue.sweep_ms),
            poll: Duration::from_millis(settings.worker.poll_ms),
            turns,
            drain_timeout: Duration::from_secs(settings.worker.drain_timeout_s),
            maintenance: workers::MaintenanceSettings::default(),
        },
        kinds::ALL,
        Arc::new(services(&settings, pool.clone())?),
        waker.clone(),
        stopped_with_input()?,
    );
    let relaying = tokio::spawn(waker.clone().relay(pool.clone()));
    let rendering = args.collector.map(|_| tokio::spawn(render_metrics()));
    let storing = args.stores.then(|| tokio::spawn(store(pool.clone(), waker)));
    let telling = args.tell.then(|| tokio::spawn(tell_executed()));
    tokio::spawn(Box::pin(working)).await??;
    if let Some(storing) = storing {
        storing.await??;
    }
    relaying.abort();
    if let Some(rendering) = rendering {
        rendering.abort();
    }
    if let Some(telling) = telling {
        telling.abort();
    }
    pool.close().await;
    let told = Told { executed: kinds::EXECUTED.load(Ordering::Relaxed), waits_us: kinds::take_waits() };
    tell(&serde_json::to_string(&told)?);
    Ok(())
}

fn start_telemetry(args: &WorkerArgs, settings: &Settings) -> anyhow::Result<()> {
    if args.silent {
        return Ok(());
    }
    let mut wanted = telemetry::Settings::logs(Format::Json, &settings.log.filter);
    wanted.traces = args.collector.map(|port| TraceSettings {
        endpoint: format!("http://127.0.0.1:{port}"),
        headers: String::new(),
        sample_ratio: 0.01,
        service_name: "bench".to_owned(),
    });
    telemetry::start(&wanted)?;
    Ok(())
}

/// What a scrape costs, every second.
async fn render_metrics() {
    let metrics = telemetry::metrics_handle();
    let mut every = tokio::time::interval(RENDER_EVERY);
    loop {
        every.tick().await;
        std::hint::black_box(metrics.render());
    }
}

/// Services as `millpond worker` makes them; measured jobs call nobody.
///
/// # Errors
/// When a client cannot be set up.
pub fn services(settings: &Settings, pool: Pool) -> anyhow::Result<Services> {
    let meter = MeterSettings {
        base_url: "http://127.0.0.1:9".to_owned(),
        token: "unused".to_owned(),
        timeout: Duration::from_millis(settings.meter.timeout_ms),
    };
    let outbound = OutboundSettings {
        timeout: Duration::from_millis(settings.webhooks.timeout_ms),
        ..OutboundSettings::default()
    };
    Ok(Services {
        limits: jobs::Limits::new(pool.clone()),
        pool,
        keyring: Arc::new(Keyring::generate()),
        meter: Meter::new(meter).context("setting up the meter's client")?,
        smtp: None,
        outbound: OutboundClient::new(outbound).context("setting up deliveries")?,
        crawl_reuse: Duration::from_secs(u64::from(settings.meter.cache_hours) * 60 * 60),
        miss_reuse: Duration::from_secs(settings.meter.missing_cache_s.into()),
        retention: Duration::from_secs(u64::from(settings.queue.retention_days) * 24 * 60 * 60),
    })
}

/// Cancelled when standard input ends. A thread waits for that, so that the runtime is no other than in production.
fn stopped_with_input() -> anyhow::Result<CancellationToken> {
    let stopped = CancellationToken::new();
    let stop = stopped.clone();
    let wait = move || {
        let mut ignored = [0; 64];
        let mut input = std::io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
        stop.cancel();
    };
    std::thread::Builder::new()
        .name("stop".to_owned())
        .spawn(wait)
        .context("no thread to wait for the end")?;
    Ok(stopped)
}

/// Stores the measured jobs, once the worker has settled.
async fn store(pool: Pool, waker: Waker) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    pickup::store(&mut pool.acquire().await?, &waker).await
}

async fn tell_executed() {
    let mut last = 0;
    let mut every = tokio::time::interval(TELL_EVERY);
    loop {
        every.tick().await;
        let executed = kinds::EXECUTED.load(Ordering::Relaxed);
        if executed != last {
            last = executed;
            tell(&executed.to_string());
        }
    }
}

/// Nobody is left to be told when this cannot be written.
fn tell(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
