//! The watchdog: the server's parent, and the reason why no server outlives its owner.
//!
//! It runs in a process group of its own, so that a terminal's Ctrl-C reaches the owner only, and reads its standard
//! input, a pipe whose other end only the owner has. When that pipe ends, by whatever death of the owner, it stops the
//! server, removes the socket's folder and, when asked, the data folder. It reports once, one line of JSON on standard
//! output: that the server is ready, or why not. `server.lock` is released after everything else, so a restart begins
//! only when nothing of the last run is left.
//!
//! When the watchdog itself is killed, the server goes on until the owner stops it or the next start recovers.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::account::Account;
use super::cluster::{self, Launch, Postmaster, timed_out};
use super::error::EmbeddedError;
use super::folder::{DataFolder, FolderLock, State};
use super::programs::Programs;
use super::recovery::{recover, remove_socket_dir};
use super::server::Measured;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "watchdog-postgres";

/// Longest wait for the watchdog before to end, in seconds: a fast and an immediate shutdown and some more.
const PREVIOUS_MAX_S: u64 = 30;
/// Longest time in which a start is repeated because processes of a killed server have not ended yet, in seconds.
const MEMORY_IN_USE_MAX_S: u64 = 15;
const POLL_MS: u64 = 20;

/// What the watchdog is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogArgs {
    pub(crate) data_dir: PathBuf,
    pub(crate) programs: Programs,
    pub(crate) durable: bool,
    pub(crate) remove_on_stop: bool,
    pub(crate) connections_max: u32,
    pub(crate) measured: Option<Measured>,
}

/// The one line that the owner reads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The server takes connections.
    Ready(State),
    /// It will not.
    Failed(String),
}

impl WatchdogArgs {
    /// Reads the arguments after the subcommand's name.
    ///
    /// # Errors
    /// [`EmbeddedError::Arguments`] when one is unknown, missing or malformed.
    pub fn from_args(args: impl Iterator<Item = OsString>) -> Result<Self, EmbeddedError> {
        let mut args = args;
        let (mut data_dir, mut initdb, mut postgres) = (None, None, None);
        let (mut major, mut connections_max) = (0, 0);
        let (mut durable, mut remove_on_stop) = (true, false);
        let mut measured: Option<Measured> = None;
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| fault(&name, "needs a value"));
            match name.to_str().unwrap_or_default() {
                "--data-dir" => data_dir = Some(PathBuf::from(value()?)),
                "--initdb" => initdb = Some(PathBuf::from(value()?)),
                "--postgres" => postgres = Some(PathBuf::from(value()?)),
                "--major" => major = number(&name, &value()?)?,
                "--connections-max" => connections_max = number(&name, &value()?)?,
                "--measured-port" => {
                    let port = value()?.to_str().and_then(|text| text.parse().ok());
                    let port = port.ok_or_else(|| fault(&name, "needs a port"))?;
                    measured = Some(Measured { port, ..Measured::default() });
                }
                "--set" => {
                    let value = value()?;
                    let pair = value.to_str().and_then(|text| text.split_once('='));
                    let (setting, to) = pair.ok_or_else(|| fault(&name, "needs NAME=VALUE"))?;
                    let measured =
                        measured.as_mut().ok_or_else(|| fault(&name, "is for measured servers"))?;
                    measured.settings.push((setting.to_owned(), to.to_owned()));
                }
                "--not-durable" => durable = false,
                "--remove-on-stop" => remove_on_stop = true,
                _ => return Err(fault(&name, "is not known")),
            }
        }
        let needed = |path: Option<PathBuf>, name: &str| path.ok_or_else(|| fault(&name.into(), "is needed"));
        let (initdb, postgres) = (needed(initdb, "--initdb")?, needed(postgres, "--postgres")?);
        let programs = Programs { initdb, postgres, major };
        Ok(Self {
            data_dir: needed(data_dir, "--data-dir")?,
            programs,
            durable,
            remove_on_stop,
            connections_max,
            measured,
        })
    }

    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![SUBCOMMAND.into()];
        args.extend(["--data-dir".into(), self.data_dir.clone().into()]);
        args.extend(["--initdb".into(), self.programs.initdb.clone().into()]);
        args.extend(["--postgres".into(), self.programs.postgres.clone().into()]);
        args.extend(["--major".into(), self.programs.major.to_string().into()]);
        args.extend(["--connections-max".into(), self.connections_max.to_string().into()]);
        if let Some(measured) = &self.measured {
            args.extend(["--measured-port".into(), measured.port.to_string().into()]);
            for (name, value) in &measured.settings {
                args.extend(["--set".into(), format!("{name}={value}").into()]);
            }
        }
        args.extend((!self.durable).then(|| "--not-durable".into()));
        args.extend(self.remove_on_stop.then(|| "--remove-on-stop".into()));
        args
    }
}

fn fault(name: &OsString, what: &str) -> EmbeddedError {
    EmbeddedError::Arguments(format!("{SUBCOMMAND}: {} {what}", name.display()))
}

fn number(name: &OsString, value: &OsString) -> Result<u32, EmbeddedError> {
    value.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| fault(name, "needs a number"))
}

/// Runs the watchdog until the owner ends or the server does. Builds its own runtime: call it before any other.
pub fn run(args: &WatchdogArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match runtime.block_on(watch(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.with_causes()),
    }
}

fn failed(message: &str) -> ExitCode {
    report(&Report::Failed(message.to_owned()));
    ExitCode::FAILURE
}

/// Best effort: an owner that is gone reads nothing, and the end of the pipe says the rest.
fn report(report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

async fn watch(args: &WatchdogArgs) -> Result<(), EmbeddedError> {
    let mut stop = StopRequest::listen()?;
    let folder = DataFolder::new(args.data_dir.clone());
    let lock = tokio::select! {
        lock = wait_for_previous(&folder) => lock?,
        () = stop.requested() => return Err(EmbeddedError::Cancelled),
    };
    let result = serve(args, &folder, &mut stop).await;
    let removed = if args.remove_on_stop { std::fs::remove_dir_all(&folder.root) } else { Ok(()) };
    drop(lock);
    result?;
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(EmbeddedError::io("remove", &folder.root)(error))
        }
        _ => Ok(()),
    }
}

async fn wait_for_previous(folder: &DataFolder) -> Result<FolderLock, EmbeddedError> {
    let deadline = Instant::now() + Duration::from_secs(PREVIOUS_MAX_S);
    loop {
        if let Some(lock) = folder.try_serve()? {
            return Ok(lock);
        }
        if Instant::now() > deadline {
            return Err(timed_out("the last server of this data folder to stop", PREVIOUS_MAX_S));
        }
        sleep(Duration::from_millis(POLL_MS)).await;
    }
}

/// One life of a server, from recovery to removal of its socket.
async fn serve(
    args: &WatchdogArgs,
    folder: &DataFolder,
    stop: &mut StopRequest,
) -> Result<(), EmbeddedError> {
    tokio::select! {
        result = recover(folder) => result?,
        () = stop.requested() => return Err(EmbeddedError::Cancelled),
    }
    let account = Account::choose(&folder.pgdata())?;
    let socket_dir = cluster::create_socket_dir(account.as_ref())?;
    let launch = Launch {
        folder,
        programs: &args.programs,
        account: account.as_ref(),
        socket_dir: &socket_dir,
        durable: args.durable,
        connections_max: args.connections_max,
        measured: args.measured.as_ref(),
    };
    let result = serve_at(&launch, stop).await;
    folder.remove_state();
    remove_socket_dir(&socket_dir);
    result
}

async fn serve_at(launch: &Launch<'_>, stop: &mut StopRequest) -> Result<(), EmbeddedError> {
    let mut state = State {
        socket_dir: launch.socket_dir.to_path_buf(),
        port: launch.port(),
        watchdog_pid: std::process::id(),
        postgres_pid: None,
        ready: false,
    };
    // Recorded before there is anything to find, so that whatever happens next, the folder is found and removed.
    launch.folder.write_state(&state)?;
    tokio::select! {
        result = cluster::ensure_cluster(launch) => result?,
        () = stop.requested() => return Err(EmbeddedError::Cancelled),
    }
    let log_start = launch.folder.open_log()?.metadata().map_or(0, |metadata| metadata.len());
    let mut postmaster = start(launch, log_start, stop).await?;
    state.postgres_pid = u32::try_from(postmaster.pid).ok();
    state.ready = true;
    let announced = launch.folder.write_state(&state);
    if let Err(error) = announced {
        postmaster.stop().await;
        return Err(error);
    }
    report(&Report::Ready(state));
    tokio::select! {
        what = postmaster.ended() => {
            Err(EmbeddedError::ServerEnded { what, log_tail: launch.folder.log_tail(log_start) })
        }
        () = stop.requested() => {
            launch.folder.remove_state();
            postmaster.stop().await;
            Ok(())
        }
    }
}

/// Starts the server. Sessions of a server that was killed notice within moments; until then its memory is in use and a
/// new server refuses, so that refusal is met with another try.
async fn start(
    launch: &Launch<'_>,
    log_start: u64,
    stop: &mut StopRequest,
) -> Result<Postmaster, EmbeddedError> {
    let deadline = Instant::now() + Duration::from_secs(MEMORY_IN_USE_MAX_S);
    loop {
        let mut postmaster = Postmaster::spawn(launch)?;
        let ready = tokio::select! {
            ready = postmaster.wait_ready(launch, log_start) => ready,
            () = stop.requested() => Err(EmbeddedError::Cancelled),
        };
        let Err(error) = ready else { return Ok(postmaster) };
        postmaster.stop().await;
        let memory_in_use = matches!(&error, EmbeddedError::ServerEnded { log_tail, .. }
            if log_tail.contains("pre-existing shared memory block"));
        if !memory_in_use || Instant::now() > deadline {
            return Err(error);
        }
        sleep(Duration::from_millis(10 * POLL_MS)).await;
    }
}

/// The end of the owner's pipe, or a polite signal. A hang-up of the terminal is the owner's business.
struct StopRequest {
    owner: pipe::Receiver,
    terminate: Signal,
    interrupt: Signal,
    _hang_up: Signal,
}

impl StopRequest {
    fn listen() -> Result<Self, EmbeddedError> {
        let refuse =
            |_| EmbeddedError::Arguments(format!("{SUBCOMMAND} is started by millpond itself, with a pipe"));
        let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(refuse)?;
        let owner = pipe::Receiver::from_owned_fd(input).map_err(refuse)?;
        let on = |kind| signal(kind).map_err(refuse);
        let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        Ok(Self { owner, terminate, interrupt, _hang_up: on(SignalKind::hangup())? })
    }

    async fn requested(&mut self) {
        let mut ignored = [0; 64];
        let pipe_ended = async { while self.owner.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {} };
        tokio::select! {
            () = pipe_ended => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_way_to_the_watchdog() {
        let programs = Programs { initdb: "/p/initdb".into(), postgres: "/p/postgres".into(), major: 17 };
        let args = WatchdogArgs {
            data_dir: "/data dir".into(),
            programs,
            durable: false,
            remove_on_stop: true,
            connections_max: 9,
            measured: Some(Measured { port: 5433, settings: vec![("shared_buffers".into(), "1GB".into())] }),
        };
        let words = args.to_args();
        assert_eq!(words[0], SUBCOMMAND);
        assert_eq!(WatchdogArgs::from_args(words.into_iter().skip(1)).unwrap(), args);
    }

    #[test]
    fn an_unknown_argument_is_named() {
        let message = WatchdogArgs::from_args(["--speed".into()].into_iter()).unwrap_err().to_string();
        assert!(message.contains("--speed"), "{message}");
    }
}
