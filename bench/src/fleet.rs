//! Worker processes, started and stopped by the measurement.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use db::Pool;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::machine;
use crate::worker::Told;

/// Longest wait for a worker process to register itself.
const START_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a worker process to end.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What worker processes are started with.
#[derive(Debug, Clone, Copy)]
pub struct FleetSettings {
    /// How many processes.
    pub processes: usize,
    /// Jobs at once in each.
    pub slots: usize,
    /// Jobs acknowledged in one statement; none: Millpond's default.
    pub acknowledged_max: Option<usize>,
    /// Statements at once in each; none: Millpond's default.
    pub connections: Option<usize>,
    /// They tell how many bodies have run, for [`Fleet::executed`].
    pub tell: bool,
    /// What they say about themselves.
    pub telemetry: Telemetry,
    /// They store the jobs of [`pickup`](crate::figures::pickup) themselves.
    pub stores: bool,
}

/// What worker processes say about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telemetry {
    /// Nothing.
    None,
    /// As `millpond worker` does by default: the log, and metrics that nobody scrapes.
    Usual,
    /// The log, metrics that are rendered every second, and traces to a collector on this port.
    All {
        /// Of this machine.
        collector: u16,
    },
}

/// Running worker processes. Dropping it kills them.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    pid: u32,
    child: Child,
    executed: Arc<AtomicU64>,
    reader: JoinHandle<Option<Told>>,
    log: std::path::PathBuf,
}

impl FleetSettings {
    /// One process with as many slots, and Millpond's defaults.
    pub const fn slots(slots: usize) -> Self {
        Self {
            processes: 1,
            slots,
            acknowledged_max: None,
            connections: None,
            tell: true,
            telemetry: Telemetry::Usual,
            stores: false,
        }
    }
}

impl Fleet {
    /// Starts the processes and waits until all are registered. Their logs go to files in `folder`.
    ///
    /// # Errors
    /// When one ends instead; the error holds the end of its log.
    pub async fn start(
        settings: FleetSettings,
        url: &str,
        pool: &Pool,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let before = registered(pool).await?;
        let mut members = Vec::new();
        for number in 0..settings.processes {
            members.push(Member::start(settings, url, &folder.join(format!("worker-{number}.log")))?);
        }
        let mut fleet = Self { members };
        let deadline = Instant::now() + START_MAX;
        while registered(pool).await? < before + settings.processes as i64 {
            fleet.check()?;
            if Instant::now() > deadline {
                bail!("the worker processes did not register themselves within {START_MAX:?}");
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(fleet)
    }

    /// Bodies that have run in all of them; up to date within a hundredth of a second, when they were told to tell.
    pub fn executed(&self) -> u64 {
        self.members.iter().map(|member| member.executed.load(Ordering::Relaxed)).sum()
    }

    /// Processor time that they have used, in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.members.iter().filter_map(|member| machine::process_cpu_s(member.pid)).sum()
    }

    /// The most memory that one of them has had resident, in bytes.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.members
            .iter()
            .filter_map(|member| machine::memory_peak_bytes(member.pid))
            .max()
            .unwrap_or_default()
    }

    /// An error when one of them has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            if let Some(status) = member.child.try_wait()? {
                let log = std::fs::read_to_string(&member.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                bail!(
                    "a worker process ended ({status}): {}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
        Ok(())
    }

    /// Ends them in good order, and gives what they told.
    ///
    /// # Errors
    /// When one does not end, or not in good order.
    pub async fn stop(self) -> anyhow::Result<Told> {
        let mut all = Told::default();
        for mut member in self.members {
            drop(member.child.stdin.take());
            let status = tokio::time::timeout(STOP_MAX, member.child.wait())
                .await
                .with_context(|| format!("waiting {STOP_MAX:?} for a worker process to end"))??;
            let told = member.reader.await?;
            let Some(told) = told.filter(|_| status.success()) else {
                bail!("a worker process ended badly ({status})");
            };
            all.executed += told.executed;
            all.waits_us.extend(told.waits_us);
        }
        Ok(all)
    }
}

impl Member {
    fn start(settings: FleetSettings, url: &str, log: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let log_file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(["worker", "--database", url, "--slots", &settings.slots.to_string()]);
        for (name, value) in
            [("--acknowledged-max", settings.acknowledged_max), ("--connections", settings.connections)]
        {
            if let Some(value) = value {
                command.args([name, &value.to_string()]);
            }
        }
        match settings.telemetry {
            Telemetry::None => command.arg("--silent"),
            Telemetry::Usual => &mut command,
            Telemetry::All { collector } => command.args(["--collector", &collector.to_string()]),
        };
        let flags = [("--tell", settings.tell), ("--stores", settings.stores)];
        command.args(flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file).kill_on_drop(true);
        let mut child = command.spawn().context("starting a worker process")?;
        let pid = child.id().context("a worker process without a number")?;
        let output = child.stdout.take().context("a worker process without an output")?;
        let executed = Arc::new(AtomicU64::new(0));
        let reader = tokio::spawn({
            let executed = executed.clone();
            async move {
                let mut lines = BufReader::new(output).lines();
                let mut told = None;
                while let Ok(Some(line)) = lines.next_line().await {
                    match line.parse() {
                        Ok(number) => executed.store(number, Ordering::Relaxed),
                        Err(_) => told = serde_json::from_str(&line).ok(),
                    }
                }
                told
            }
        });
        Ok(Self { pid, child, executed, reader, log: log.to_path_buf() })
    }
}

async fn registered(pool: &Pool) -> anyhow::Result<i64> {
    let count =
        sqlx::query_scalar!(r#"select count(*) as "count!" from worker_processes"#).fetch_one(pool).await?;
    Ok(count)
}
