//! Processes that serve, started and watched by the measurement: they say `ready port=N` on standard output, log to a file,
//! and end with their standard input, so that they never outlive whoever started them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::machine;

/// Longest wait for a process to say that it serves.
const START_MAX: Duration = Duration::from_secs(60);
/// Longest wait for it to end; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(40);

/// A process that serves. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    pub(super) name: &'static str,
    pub(crate) address: SocketAddr,
    pid: u32,
    child: Child,
    /// Kept, so that a line more does not break the process.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it ends instead; the error has the end of its log.
    pub(crate) async fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let errors = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        let pid = child.id().context("a process without a number")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let ready = timeout(START_MAX, async {
            while let Some(line) = lines.next_line().await? {
                if let Some(port) = line.strip_prefix("ready port=") {
                    return Ok(port.trim().parse::<u16>()?);
                }
            }
            bail!("it ended")
        });
        let port = ready.await.map_err(anyhow::Error::from).and_then(|port| port);
        let port = port.with_context(|| format!("{name} does not serve: {}", tail(&log)))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self { name, address, pid, child, _lines: lines })
    }

    /// Processor time of all its processes so far, in seconds.
    pub(super) fn cpu_s(&self) -> anyhow::Result<f64> {
        Ok(machine::family_cpu_s(self.pid)?)
    }

    /// What it has resident, in bytes: now, and at most so far. Of its first process.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        let now = machine::memory_now_bytes(self.pid).unwrap_or_default();
        (now, machine::memory_peak_bytes(self.pid).unwrap_or_default())
    }

    /// Forgets the most it has had resident so far.
    pub(crate) fn forget_memory_peak(&self) -> anyhow::Result<()> {
        machine::forget_memory_peak(self.pid)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Tells whoever started this process. Nobody is left to be told when this cannot be written.
pub(super) fn say_ready(port: u16) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready port={port}").and_then(|()| out.flush());
}

/// Cancelled when standard input ends.
pub(crate) fn stopped_with_input() -> anyhow::Result<CancellationToken> {
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
