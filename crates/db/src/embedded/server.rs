//! Starting the server of a data folder, or attaching to the one that serves it.
//!
//! Whoever gets `owner.lock` is the owner: it starts a watchdog and holds the pipe that keeps the server alive. Whoever
//! does not, waits until the owner's server is ready and connects to it; an attached server ends with its owner, not
//! with us. An owner that dies in between frees the lock, and the next to try becomes the owner: no state on disk
//! decides, so nothing stale can.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::account::{Account, prepare_data_dir};
use super::cluster::{NAME, connection, timed_out};
use super::error::EmbeddedError;
use super::folder::{DataFolder, FolderLock, State};
use super::obtain::{DEFAULT_RELEASE_ADDRESS, obtain};
use super::programs::{Programs, Search, newest_first};
use super::recovery::recover;
use super::watchdog::{Report, WatchdogArgs};

/// Longest wait for another process's server to be ready, in seconds.
const ATTACH_MAX_S: u64 = 120;
/// Longest wait for our watchdog's report, in seconds: above the sum of its own bounds, which end it earlier.
const START_MAX_S: u64 = 300;
/// Longest wait for our watchdog to end, in seconds: above the bounds of its shutdown.
const STOP_MAX_S: u64 = 30;
const ATTACH_CONNECT_MAX_S: u64 = 2;
const POLL_MS: u64 = 50;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The data folder; made if it is missing.
    pub data_dir: PathBuf,
    /// Our own binary, which has the hidden subcommand.
    pub watchdog_program: PathBuf,
    /// Whether commits survive a crash of the machine. Only tests turn this off.
    pub durable: bool,
    /// Remove the whole data folder when the server stops.
    pub remove_on_stop: bool,
    /// Where PostgreSQL's programs are obtained from when this machine has none; empty turns that off.
    pub release_address: String,
    /// Upper bound of connections that the server takes.
    pub connections_max: u32,
    /// Where programs are looked for.
    pub search: Search,
    /// Set for a server that is there to be measured.
    pub measured: Option<Measured>,
}

/// A server that is there to be measured, beside queues of others: it also listens on loopback and trusts whoever on
/// this machine reaches it, and it has PostgreSQL's own defaults where `settings` says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The port on loopback.
    pub port: u16,
    /// Settings by name.
    pub settings: Vec<(String, String)>,
}

impl ServerOptions {
    /// Durable, kept, 200 connections, programs from wherever this machine has them.
    pub fn new(data_dir: impl Into<PathBuf>, watchdog_program: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            watchdog_program: watchdog_program.into(),
            durable: true,
            remove_on_stop: false,
            release_address: DEFAULT_RELEASE_ADDRESS.to_owned(),
            connections_max: 200,
            search: Search::default(),
            measured: None,
        }
    }
}

/// A server that takes connections. Dropping the owner's handle stops the server soon after; [`Server::stop`] waits
/// until it is gone.
#[derive(Debug)]
pub struct Server {
    state: State,
    owned: Option<Owned>,
}

/// What only the owner has.
#[derive(Debug)]
struct Owned {
    folder: DataFolder,
    pipe: ChildStdin,
    /// `None` while the watchdog lives, then what it said last.
    end: watch::Receiver<Option<WatchdogEnd>>,
    // Last, so that it is released after the pipe is closed.
    _lock: FolderLock,
}

#[derive(Clone, Debug)]
struct WatchdogEnd {
    clean: bool,
    last_words: Option<String>,
}

impl Server {
    /// Starts the server of this data folder, or attaches to the live one.
    ///
    /// # Errors
    /// [`EmbeddedError`]; each says what to do.
    pub async fn start_or_attach(options: ServerOptions) -> Result<Self, EmbeddedError> {
        let data_dir = options.data_dir.clone();
        let root = blocking(move || prepare_data_dir(&data_dir)).await?;
        let folder = DataFolder::new(root);
        let deadline = Instant::now() + Duration::from_secs(ATTACH_MAX_S);
        loop {
            if let Some(lock) = folder.try_own()? {
                return Self::own(folder, lock, options).await;
            }
            if let Some(attached) = Self::try_attach(&folder).await {
                return Ok(attached);
            }
            if Instant::now() > deadline {
                let what = format!("the process that owns {} to start its server", folder.root.display());
                return Err(timed_out(&what, ATTACH_MAX_S));
            }
            sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    /// How to connect.
    pub fn connect_options(&self) -> PgConnectOptions {
        connection(&self.state.socket_dir, self.state.port)
    }

    /// The same as an address, for people and other programs.
    pub fn url(&self) -> String {
        let State { socket_dir, port, .. } = &self.state;
        format!(
            "postgres://{NAME}@localhost/{NAME}?host={}&port={port}&sslmode=disable",
            socket_dir.display()
        )
    }

    /// Whether the server lives as long as this process; otherwise as long as another one.
    pub fn is_owner(&self) -> bool {
        self.owned.is_some()
    }

    /// The server's process, for people and tests.
    pub fn postgres_pid(&self) -> Option<u32> {
        self.state.postgres_pid
    }

    /// The watchdog's process, for people and tests.
    pub fn watchdog_pid(&self) -> u32 {
        self.state.watchdog_pid
    }

    /// The folder of the server's socket.
    pub fn socket_dir(&self) -> &Path {
        &self.state.socket_dir
    }

    /// Waits until the server that we own ends although nobody asked it to, and says what is known about that. Never
    /// ends for an attached server.
    pub async fn ended(&self) -> String {
        let Some(owned) = &self.owned else { return std::future::pending().await };
        let end = owned.watchdog_end().await;
        end.last_words.unwrap_or_else(|| "the watchdog of the embedded PostgreSQL server ended".to_owned())
    }

    /// Stops the server if it is ours, and waits until it, its socket and its watchdog are gone.
    ///
    /// # Errors
    /// [`EmbeddedError::TimedOut`] when the watchdog does not end in time; it goes on stopping the server.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        let Some(owned) = self.owned.take() else { return Ok(()) };
        let Owned { folder, pipe, mut end, _lock } = owned;
        drop(pipe);
        let ended = timeout(Duration::from_secs(STOP_MAX_S), end.wait_for(Option::is_some)).await;
        let clean = match ended {
            Ok(end) => end.is_ok_and(|end| end.as_ref().is_some_and(|end| end.clean)),
            Err(_) => return Err(timed_out("the embedded PostgreSQL server to stop", STOP_MAX_S)),
        };
        if !clean
            && folder.root.exists()
            && let Some(_lock) = folder.try_serve()?
        {
            // The watchdog was killed, so the server may still be there.
            recover(&folder).await?;
        }
        Ok(())
    }

    async fn try_attach(folder: &DataFolder) -> Option<Self> {
        let state = folder.read_state().filter(|state| state.ready)?;
        let options = connection(&state.socket_dir, state.port);
        let connects = Box::pin(async { options.connect().await?.close().await });
        let proof = timeout(Duration::from_secs(ATTACH_CONNECT_MAX_S), connects);
        proof.await.ok()?.ok()?;
        Some(Self { state, owned: None })
    }

    async fn own(
        folder: DataFolder,
        lock: FolderLock,
        options: ServerOptions,
    ) -> Result<Self, EmbeddedError> {
        if let Some(stale) = folder.read_state() {
            // Whoever wants to attach waits for our server instead of finding the last one on its way out.
            folder.write_state(&State { ready: false, ..stale })?;
        }
        let programs = programs_for(&folder, &options).await?;
        let args = WatchdogArgs {
            data_dir: folder.root.clone(),
            programs,
            durable: options.durable,
            remove_on_stop: options.remove_on_stop,
            connections_max: options.connections_max,
            measured: options.measured,
        };
        let (pipe, reported, end) = spawn_watchdog(&folder, &options.watchdog_program, &args)?;
        let report = timeout(Duration::from_secs(START_MAX_S), reported).await;
        match report.map_err(|_| timed_out("the embedded PostgreSQL server to start", START_MAX_S))? {
            Ok(Report::Ready(state)) => {
                Ok(Self { state, owned: Some(Owned { folder, pipe, end, _lock: lock }) })
            }
            Ok(Report::Failed(message)) => Err(EmbeddedError::Reported(message)),
            Err(_) => Err(EmbeddedError::WatchdogEnded { log: folder.log() }),
        }
    }
}

impl Owned {
    async fn watchdog_end(&self) -> WatchdogEnd {
        let mut end = self.end.clone();
        let seen = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        seen.unwrap_or(WatchdogEnd { clean: false, last_words: None })
    }
}

/// Programs of this machine, else those obtained before, else newly obtained ones.
async fn programs_for(folder: &DataFolder, options: &ServerOptions) -> Result<Programs, EmbeddedError> {
    let account = Account::choose(&folder.pgdata())?;
    let mut search = options.search.clone();
    search.major_only = search.major_only.or_else(|| folder.cluster_major());
    search.usual.extend(newest_first(folder.programs(), "", "bin"));
    let major_only = search.major_only;
    let (found, account) = blocking(move || (Programs::find_for(&search, account.as_ref()), account)).await;
    match found {
        Ok(programs) => Ok(programs),
        Err(not_found) if options.release_address.is_empty() => Err(not_found.into()),
        Err(not_found) => {
            let address = options.release_address.clone();
            obtain(&address, folder, major_only, account.as_ref())
                .await
                .map_err(|reason| EmbeddedError::NotObtained { not_found, address, reason })
        }
    }
}

type Started = (ChildStdin, oneshot::Receiver<Report>, watch::Receiver<Option<WatchdogEnd>>);

/// Starts the watchdog and a thread that reads what it says and collects it when it ends. A thread and not a task,
/// because the server may outlive the runtime that started it.
fn spawn_watchdog(
    folder: &DataFolder,
    program: &Path,
    args: &WatchdogArgs,
) -> Result<Started, EmbeddedError> {
    let failed = |source| EmbeddedError::Run { program: program.to_path_buf(), source };
    let mut child = Command::new(program)
        .args(args.to_args())
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(folder.open_log()?)
        .spawn()
        .map_err(failed)?;
    let pipe = child.stdin.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
    let (report_sender, reported) = oneshot::channel();
    let (end_sender, end) = watch::channel(None);
    let thread = std::thread::Builder::new().name("postgres-watchdog".to_owned());
    thread.spawn(move || follow(child, report_sender, &end_sender)).map_err(failed)?;
    Ok((pipe, reported, end))
}

fn follow(mut child: Child, first: oneshot::Sender<Report>, end: &watch::Sender<Option<WatchdogEnd>>) {
    let mut last_words = None;
    if let Some(output) = child.stdout.take() {
        let mut first = Some(first);
        // A bound on the line, since nothing else bounds what is read into memory.
        for line in BufReader::new(output.take(1 << 20)).lines().map_while(Result::ok) {
            let Ok(report) = serde_json::from_str::<Report>(&line) else { continue };
            if let Report::Failed(message) = &report {
                last_words = Some(message.clone());
            }
            if let Some(sender) = first.take() {
                let _ = sender.send(report);
            }
        }
    }
    let clean = child.wait().is_ok_and(|status| status.success());
    end.send_replace(Some(WatchdogEnd { clean, last_words }));
}

/// Runs what touches files and starts programs away from the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
