//! A worker process of a fault run: this program again, told by a variable what to be.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use db::ConnectOptions;
use jobs::Services;
use kernel::sealing::Keyring;
use outbound::{OutboundClient, OutboundSettings};
use queue::{Queue, Waker};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vendors::meter::{Meter, MeterSettings};
use workers::TurnSettings;

use super::kinds::{KINDS, NEXT_KINDS};

/// The hidden subcommand of the benchmark's binary.
pub const SUBCOMMAND: &str = "fault-worker";
/// The variable that holds a [`WorkerSpec`] as JSON.
pub const VARIABLE: &str = "MILLPOND_FAULT_WORKER";

/// How a worker process of a fault run works.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// The database's address.
    pub url: String,
    /// Jobs at a time.
    pub slots: usize,
    /// Jobs of upkeep at a time; none if 0.
    #[serde(default)]
    pub maintenance_slots: usize,
    /// How long a lease outlives the last heartbeat.
    pub lease_ms: u64,
    /// How often leases of dead processes are looked for.
    pub sweep_ms: u64,
    /// How long running handlers may go on after SIGTERM.
    pub drain_timeout_ms: u64,
    /// Whether it is of the next version, which knows one kind more.
    pub next_version: bool,
    /// Whether statements are prepared.
    pub prepared: bool,
    /// Whether it listens for signals.
    pub listen: bool,
}

impl WorkerSpec {
    /// Eight slots, a lease of a second, a sweep every half.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            slots: 8,
            maintenance_slots: 0,
            lease_ms: 1_000,
            sweep_ms: 500,
            drain_timeout_ms: 5_000,
            next_version: false,
            prepared: true,
            listen: true,
        }
    }

    /// The same, which also carries out bulk changes.
    #[must_use]
    pub fn with_maintenance(self, slots: usize) -> Self {
        Self { maintenance_slots: slots, ..self }
    }
}

/// Works until SIGTERM, if this process was started to; `None` when it was not.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let spec = std::env::var(VARIABLE).ok()?;
    // Whoever started it is gone: so is the reason for it.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let ended =
        serde_json::from_str(&spec).context("reading what this worker is to be").and_then(|spec| run(&spec));
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the worker ended: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(spec: &WorkerSpec) -> anyhow::Result<()> {
    // Handlers that block their thread take one each; the others' jobs need some as well.
    let threads = std::thread::available_parallelism().map_or(8, |cores| (2 * cores.get()).max(8));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let ended = runtime.block_on(work(spec));
    // Handlers that hold on to their thread do not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn work(spec: &WorkerSpec) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let options = ConnectOptions {
        connections_max: 8,
        acquire_timeout: Duration::from_secs(5),
        prepared: spec.prepared,
        answer_timeout: Some(db::ANSWER_TIMEOUT),
        application_name: "millpond fault worker".to_owned(),
        ..ConnectOptions::from_url(&spec.url)?
    };
    let pool = db::connect(&options).await?;
    let (waker, shutdown) = (Waker::new(), CancellationToken::new());
    if spec.listen {
        tokio::spawn(waker.clone().relay(pool.clone()));
    }
    let settings = workers::Settings {
        slots: [(Queue::Enrich, spec.slots), (Queue::Maintenance, spec.maintenance_slots)]
            .into_iter()
            .filter(|(_, slots)| *slots > 0)
            .collect(),
        lease: Duration::from_millis(spec.lease_ms),
        sweep: Duration::from_millis(spec.sweep_ms),
        poll: Duration::from_millis(200),
        turns: TurnSettings::default(),
        drain_timeout: Duration::from_millis(spec.drain_timeout_ms),
        maintenance: workers::MaintenanceSettings::default(),
    };
    let kinds = if spec.next_version { NEXT_KINDS } else { KINDS };
    let services = Arc::new(services(pool)?);
    let stop = shutdown.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stop.cancel();
    });
    workers::run(settings, kinds, services, waker, shutdown).await.context("working")
}

/// Services of which the kinds here use the pool only.
fn services(pool: db::Pool) -> anyhow::Result<Services> {
    // An error means that there is a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let day = Duration::from_secs(24 * 60 * 60);
    Ok(Services {
        limits: jobs::Limits::new(pool.clone()),
        pool,
        keyring: Arc::new(Keyring::generate()),
        meter: Meter::new(MeterSettings {
            base_url: "http://127.0.0.1:9".to_owned(),
            token: "nobody".to_owned(),
            timeout: Duration::from_secs(1),
        })?,
        smtp: None,
        outbound: OutboundClient::new(OutboundSettings::default())?,
        crawl_reuse: day,
        miss_reuse: day,
        retention: day * 35,
    })
}
