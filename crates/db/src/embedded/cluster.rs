//! Making a cluster and running its server as a child process.
//!
//! A cluster is made in a folder of another name and renamed when it is complete, so that a half-made one is never
//! served. Settings that matter for safety are given on the server's command line, where no edited file overrides them.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::account::{Account, closed_folder};
use super::error::EmbeddedError;
use super::folder::DataFolder;
use super::programs::Programs;
use super::server::Measured;

/// The superuser and the database of the embedded server.
pub(crate) const NAME: &str = "millpond";
/// The port in the name of a socket alone; each server has a folder of its own, so it never clashes.
const PORT: u16 = 5432;

/// Longest wait for `initdb`, in seconds.
const INITDB_MAX_S: u64 = 120;
/// Longest wait for a started server to take connections, crash recovery included, in seconds.
const READY_MAX_S: u64 = 120;
/// Longest wait for a fast shutdown, in seconds.
const FAST_STOP_MAX_S: u64 = 10;
/// Longest wait for an immediate shutdown, in seconds.
const IMMEDIATE_STOP_MAX_S: u64 = 5;
/// How often files of the server are looked at while waiting for it, in milliseconds.
const POLL_MS: u64 = 20;
/// Longest path of a socket's folder: 107 bytes for the whole path, less the socket's name.
const SOCKET_DIR_BYTES_MAX: usize = 107 - "/.s.PGSQL.5432".len();
/// Start of the name of a socket's folder; recovery removes no folder of another name.
pub(crate) const SOCKET_DIR_PREFIX: &str = "millpond-";

/// A running server, child of this process.
pub(crate) struct Postmaster {
    child: Child,
    pub(crate) pid: i32,
}

/// What a server is started with.
pub(crate) struct Launch<'a> {
    pub(crate) folder: &'a DataFolder,
    pub(crate) programs: &'a Programs,
    pub(crate) account: Option<&'a Account>,
    pub(crate) socket_dir: &'a Path,
    pub(crate) durable: bool,
    pub(crate) connections_max: u32,
    pub(crate) measured: Option<&'a Measured>,
}

impl Launch<'_> {
    /// The port in the socket's name.
    pub(crate) fn port(&self) -> u16 {
        self.measured.map_or(PORT, |measured| measured.port)
    }
}

/// How to connect to the server whose socket is in this folder.
pub(crate) fn connection(socket_dir: &Path, port: u16) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(port)
        .username(NAME)
        .database(NAME)
        .ssl_mode(PgSslMode::Disable)
}

/// Makes the cluster if this folder has none.
pub(crate) async fn ensure_cluster(launch: &Launch<'_>) -> Result<(), EmbeddedError> {
    let folder = launch.folder;
    if folder.cluster_major().is_some() {
        return Ok(());
    }
    let unfinished = folder.unfinished();
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(EmbeddedError::io("remove", &unfinished))?;
    }
    private_dir(&unfinished, launch.account)?;
    let mut command = command(&launch.programs.initdb, launch.account);
    command.arg("-D").arg(&unfinished).args([
        "-U",
        NAME,
        "--encoding=UTF8",
        "--locale=C",
        "--auth-local=trust",
    ]);
    command.args(match launch.measured {
        Some(_) => ["--auth-host=trust"].as_slice(),
        None => &["--auth-host=reject", "--data-checksums"],
    });
    if !launch.durable {
        command.arg("--no-sync");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = timeout(Duration::from_secs(INITDB_MAX_S), command.output()).await;
    let output = run
        .map_err(|_| timed_out("initdb", INITDB_MAX_S))?
        .map_err(|source| EmbeddedError::Run { program: launch.programs.initdb.clone(), source })?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let end = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        return Err(EmbeddedError::Initdb { status: output.status.to_string(), output: end });
    }
    let pgdata = folder.pgdata();
    std::fs::rename(&unfinished, &pgdata).map_err(EmbeddedError::io("rename", &unfinished))?;
    let synced = File::open(&folder.root).and_then(|root| root.sync_all());
    synced.map_err(EmbeddedError::io("sync", &folder.root))
}

/// A new folder for the socket: short, private, and owned by the server's user.
pub(crate) fn create_socket_dir(account: Option<&Account>) -> Result<PathBuf, EmbeddedError> {
    let usual = std::env::temp_dir();
    let plain = |path: &Path| {
        let text = path.to_str().unwrap_or_default();
        let harmless = |letter: char| letter.is_ascii_alphanumeric() || "/-_.".contains(letter);
        text.starts_with('/') && text.chars().all(harmless) && text.len() + 20 <= SOCKET_DIR_BYTES_MAX
    };
    let open = |path: &Path| account.is_none_or(|account| closed_folder(&path.join("x"), account).is_none());
    let parent =
        usual.canonicalize().ok().filter(|path| plain(path) && open(path)).unwrap_or_else(|| "/tmp".into());
    // Made with this mode, not changed to it: nobody else gets in, not for a moment.
    let private = std::fs::Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(SOCKET_DIR_PREFIX).permissions(private).tempdir_in(&parent);
    let dir = made.map_err(EmbeddedError::io("create a socket folder in", &parent))?;
    give_to(dir.path(), account)?;
    Ok(dir.keep())
}

impl Postmaster {
    /// Starts the server. It may end at once; [`Self::wait_ready`] tells.
    pub(crate) fn spawn(launch: &Launch<'_>) -> Result<Self, EmbeddedError> {
        let log = launch.folder.open_log()?;
        let log_again = log.try_clone().map_err(EmbeddedError::io("open", &launch.folder.log()))?;
        let mut command = command(&launch.programs.postgres, launch.account);
        command.arg("-D").arg(launch.folder.pgdata());
        for (name, value) in settings(launch) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(log).stderr(log_again);
        let failed = |source| EmbeddedError::Run { program: launch.programs.postgres.clone(), source };
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        Ok(Self { child, pid })
    }

    /// Waits until the server takes connections and the database exists.
    pub(crate) async fn wait_ready(
        &mut self,
        launch: &Launch<'_>,
        log_start: u64,
    ) -> Result<(), EmbeddedError> {
        let pid_file = launch.folder.pgdata().join("postmaster.pid");
        let deadline = Instant::now() + Duration::from_secs(READY_MAX_S);
        while !says_ready(&pid_file, self.pid) {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log_tail = launch.folder.log_tail(log_start);
                return Err(EmbeddedError::ServerEnded {
                    what: format!("ended while starting ({status})"),
                    log_tail,
                });
            }
            if Instant::now() > deadline {
                return Err(timed_out("the PostgreSQL server to take connections", READY_MAX_S));
            }
            sleep(Duration::from_millis(POLL_MS)).await;
        }
        ensure_database(launch.socket_dir, launch.port()).await
    }

    /// Waits for the server's own end.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("ended ({error})"),
        }
    }

    /// Stops the server: open transactions are rolled back and sessions ended; past the bound it stops without
    /// writing a checkpoint, which the next start makes good from the log.
    pub(crate) async fn stop(mut self) {
        let steps = [
            (Signal::SIGINT, FAST_STOP_MAX_S),
            (Signal::SIGQUIT, IMMEDIATE_STOP_MAX_S),
            (Signal::SIGKILL, 1),
        ];
        for (signal, wait_max_s) in steps {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            // The child has not been waited for, so its number cannot belong to anybody else.
            let _ = kill(Pid::from_raw(self.pid), signal);
            if timeout(Duration::from_secs(wait_max_s), self.child.wait()).await.is_ok() {
                return;
            }
        }
    }
}

/// Stops a server that is not our child. True when it is gone.
pub(crate) async fn stop_foreign(pid: i32, runs: impl Fn() -> bool) -> bool {
    let steps = [(Signal::SIGINT, FAST_STOP_MAX_S), (Signal::SIGQUIT, IMMEDIATE_STOP_MAX_S)];
    for (signal, wait_max_s) in steps {
        let deadline = Instant::now() + Duration::from_secs(wait_max_s);
        if !runs() {
            return true;
        }
        let _ = kill(Pid::from_raw(pid), signal);
        while Instant::now() < deadline {
            if !runs() {
                return true;
            }
            sleep(Duration::from_millis(POLL_MS)).await;
        }
    }
    !runs()
}

fn settings(launch: &Launch<'_>) -> Vec<(String, String)> {
    let Some(measured) = launch.measured else { return our_settings(launch) };
    let fixed = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", measured.port.to_string()),
        ("unix_socket_directories", launch.socket_dir.display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("max_connections", launch.connections_max.to_string()),
    ];
    fixed.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(measured.settings.clone()).collect()
}

fn our_settings(launch: &Launch<'_>) -> Vec<(String, String)> {
    let on = |yes: bool| if yes { "on" } else { "off" }.to_owned();
    let settings = [
        ("listen_addresses", String::new()),
        ("unix_socket_directories", launch.socket_dir.display().to_string()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("port", PORT.to_string()),
        ("fsync", on(launch.durable)),
        ("full_page_writes", on(launch.durable)),
        ("synchronous_commit", on(launch.durable)),
        ("shared_buffers", "128MB".to_owned()),
        ("max_connections", launch.connections_max.to_string()),
        ("max_wal_size", "1GB".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_line_prefix", "%m [%p] %a ".to_owned()),
        ("cluster_name", NAME.to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A command as the server's user, in a folder that everybody can be in, with an environment that holds none of the
/// variables by which PostgreSQL's programs can be steered.
fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env_clear().env("LC_ALL", "C");
    for kept in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    if let Some(account) = account {
        // As root, the standard library also drops the supplementary groups.
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn private_dir(path: &Path, account: Option<&Account>) -> Result<(), EmbeddedError> {
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(EmbeddedError::io("create", path))?;
    give_to(path, account)
}

fn give_to(path: &Path, account: Option<&Account>) -> Result<(), EmbeddedError> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(account.uid), Some(account.gid)).map_err(EmbeddedError::io("change the owner of", path))
}

/// The eighth line of `postmaster.pid` is the server's state; a file of another process is from before.
fn says_ready(pid_file: &Path, pid: i32) -> bool {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

async fn ensure_database(socket_dir: &Path, port: u16) -> Result<(), EmbeddedError> {
    let options = connection(socket_dir, port);
    let missing = |error: &sqlx::Error| {
        error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "3D000")
    };
    match options.connect().await {
        Ok(open) => open.close().await?,
        Err(error) if missing(&error) => {
            let mut maintenance = options.database("postgres").connect().await?;
            sqlx::raw_sql("create database millpond").execute(&mut maintenance).await?;
            maintenance.close().await?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

pub(crate) fn timed_out(what: &str, waited_s: u64) -> EmbeddedError {
    EmbeddedError::TimedOut { what: what.to_owned(), waited: Duration::from_secs(waited_s) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_read_from_the_right_server_only() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("postmaster.pid");
        let write = |state: &str| {
            std::fs::write(&file, format!("42\n/data\n1\n5432\n/tmp/x\n\n  1  2\n{state}\n")).unwrap();
        };
        write("starting");
        assert!(!says_ready(&file, 42));
        write("ready   ");
        assert!(says_ready(&file, 42) && !says_ready(&file, 43));
    }

    #[test]
    fn a_socket_path_always_fits() {
        let dir = create_socket_dir(None).unwrap();
        assert!(dir.join(".s.PGSQL.5432").as_os_str().len() <= 107);
        std::fs::remove_dir(dir).unwrap();
    }
}
