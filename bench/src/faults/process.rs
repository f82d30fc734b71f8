//! Worker processes: started, killed, stopped and continued, and looked after. None outlives this process: the end of
//! its standard input is its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::worker::{VARIABLE, WorkerSpec};

/// How this program is started as a worker.
#[derive(Clone)]
pub struct Launcher(Arc<dyn Fn() -> Command + Send + Sync>);

impl Launcher {
    /// By commands that call [`run_if_asked`](super::worker::run_if_asked).
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self(Arc::new(command))
    }
}

impl std::fmt::Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launcher").finish_non_exhaustive()
    }
}

/// A worker process; killed when it is dropped.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    log: PathBuf,
}

impl WorkerProcess {
    /// Starts one that writes its log into a file of its own below `logs`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(launcher: &Launcher, spec: &WorkerSpec, logs: &Path) -> anyhow::Result<Self> {
        let number = std::fs::read_dir(logs).context("the folder of logs")?.count();
        let path = logs.join(format!("worker-{number}.log"));
        let log = File::create(&path).context("a worker's log")?;
        let child = (launcher.0)()
            .env(VARIABLE, serde_json::to_string(spec)?)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting a worker process")?;
        Ok(Self { child, log: path })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("sending {signal}"))
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_9(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("killing a worker")?;
        self.child.wait().context("collecting a worker")?;
        Ok(())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("looking after a worker")
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn last_words(&self) -> String {
        const LINES_MAX: usize = 15;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("\n")
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
