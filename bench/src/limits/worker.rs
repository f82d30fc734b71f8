//! The hidden subcommand `limits-worker`, and the processes that run it. They end when their standard input does.

use std::{collections::BTreeMap, io::Read, net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use config::{Settings, Sources};
use db::ConnectOptions;
use queue::{Queue, Waker};
use telemetry::Format;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::kinds;

/// How such a process is started.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitsWorkerArgs {
    /// The database's address.
    #[arg(long)]
    pub database: String,
    /// The counter's address.
    #[arg(long)]
    pub counter: SocketAddr,
}

/// Jobs at once in each process.
const SLOTS: usize = 50;
/// As in the fault runs: a dead process is found after the sum of both at the latest.
const LEASE: Duration = Duration::from_secs(1);
const SWEEP: Duration = Duration::from_millis(500);
const CONNECTIONS_MAX: u32 = 12;

/// Works until standard input ends.
///
/// # Errors
/// When the database cannot be reached.
pub async fn run(args: LimitsWorkerArgs) -> anyhow::Result<()> {
    let settings = Settings::load(&Sources::default())?;
    telemetry::start(&telemetry::Settings::logs(Format::Json, "error"))?;
    kinds::COUNTER.set(args.counter).map_err(|_| anyhow!("the counter is known already"))?;
    let options =
        ConnectOptions { connections_max: CONNECTIONS_MAX, ..ConnectOptions::from_url(&args.database)? };
    let pool = db::connect(&options).await?;
    let stopped = CancellationToken::new();
    let stop = stopped.clone();
    std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
        let mut ignored = [0; 64];
        let mut input = std::io::stdin().lock();
        while input.read(&mut ignored).is_ok_and(|bytes| bytes > 0) {}
        stop.cancel();
    })?;
    let working = workers::run(
        workers::Settings {
            slots: BTreeMap::from([(Queue::Enrich, SLOTS)]),
            lease: LEASE,
            sweep: SWEEP,
            poll: Duration::from_millis(settings.worker.poll_ms),
            turns: workers::TurnSettings::default(),
            drain_timeout: Duration::from_secs(1),
            maintenance: workers::MaintenanceSettings::default(),
        },
        kinds::ALL,
        Arc::new(crate::worker::services(&settings, pool)?),
        Waker::new(),
        stopped,
    );
    tokio::spawn(Box::pin(working)).await??;
    Ok(())
}

/// A running process; killed when it is dropped.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    child: Child,
    pid: i32,
}

impl WorkerProcess {
    pub(super) fn start(database: &str, counter: SocketAddr) -> anyhow::Result<Self> {
        let child = Command::new(super::this_program()?)
            .args(["limits-worker", "--database", database, "--counter", &counter.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting a worker process")?;
        let pid = child.id().context("a worker process without a number")?;
        Ok(Self { child, pid: i32::try_from(pid)? })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing a worker process")
    }
}
