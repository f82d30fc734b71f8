//! A real pgbouncer in transaction mode, in front of the tests' server.
//!
//! Under `TEST_POOLER=1` one of them stands in front of every test's database: all pools, workers and processes of the
//! tests go through it, without prepared statements and without LISTEN.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use db::{ConnectOptions, Pool};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{TestDb, found};

/// Sessions of the server that it hands around for each database, when a test asks for one: few, so that clients get
/// each other's.
const SESSIONS_OF_TEST: u32 = 4;
/// The same for the one in front of every test. Tests hold transactions open against each other, so they are enough for
/// those, and still fewer than all the clients of a test.
const SESSIONS_OF_ALL: u32 = 16;
/// Ports that may be snatched away between finding them free and listening on them.
const PORTS_MAX: usize = 5;
/// Waits until whoever started it is gone, however it went, then ends the pooler and removes its folder.
const WATCH: &str = "cat >/dev/null; kill -KILL \"$1\"; rm -rf -- \"$2\"";

/// Whether tests go through a pooler.
pub fn pooled() -> bool {
    static POOLED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("TEST_POOLER").is_some_and(|value| value == "1"));
    *POOLED
}

/// Whether the test is about what no pooler in transaction mode can carry, and one is there. If so, it says that it
/// shows nothing here, where everybody sees it.
pub fn pointless_behind_a_pooler(test: &str, why: &str) -> bool {
    if pooled() {
        // Not by the macro, whose output is kept from passing tests.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("behind a pooler this shows nothing: {test}: {why}\n"),
        );
    }
    pooled()
}

/// A running pgbouncer; killed when it is dropped, and when the test run ends.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    watch: Child,
    port: u16,
    user: String,
    url: String,
}

impl Pooler {
    /// Starts it in front of a test's database, on a free port of this machine.
    ///
    /// # Panics
    /// When pgbouncer is not installed, saying so, or does not start, with its log.
    pub async fn in_front_of(db: &TestDb) -> Self {
        let mut pooler = Self::started(db.server(), SESSIONS_OF_TEST).await;
        pooler.url = pooler.url_of(db.server().get_database().expect("a test's database has a name"));
        pooler
    }

    /// Starts it in front of all databases of the tests' server.
    pub(super) async fn in_front_of_all(server: &PgConnectOptions) -> Self {
        Self::started(server, SESSIONS_OF_ALL).await
    }

    /// The address, for other programs and for `DATABASE_URL`; to be used without prepared statements.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of a database behind it.
    pub(super) fn url_of(&self, database: &str) -> String {
        format!("postgres://{}@{}:{}/{database}?sslmode=disable", self.user, Ipv4Addr::LOCALHOST, self.port)
    }

    /// A pool that goes through it, as a process has with `database.prepared = false`.
    pub async fn connect(&self, connections_max: u32) -> Pool {
        let options = ConnectOptions::from_url(&self.url).expect("its own address");
        let options = ConnectOptions { prepared: false, connections_max, ..options };
        db::connect(&options).await.expect("it takes connections")
    }

    async fn started(server: &PgConnectOptions, sessions: u32) -> Self {
        let program = program();
        let mut log = String::new();
        for _ in 0..PORTS_MAX {
            match Self::start(&program, server, sessions).await {
                Ok(pooler) => return pooler,
                Err(said) => log = said,
            }
        }
        panic!("pgbouncer did not start; it said:\n{log}");
    }

    /// Its log when it ended instead of listening.
    async fn start(program: &Path, server: &PgConnectOptions, sessions: u32) -> Result<Self, String> {
        let (folder, owner) = folder_for(socket_dir(server));
        let port = free_port();
        let settings = folder.join("pgbouncer.ini");
        std::fs::write(&settings, settings_text(server, port, sessions)).expect("written");
        std::fs::set_permissions(&settings, Permissions::from_mode(0o644)).expect("readable");
        let log = folder.join("log");
        let mut command = owner.command(program);
        command.arg(&settings).stdin(Stdio::null()).stderr(File::create(&log).expect("a log"));
        let child = command.spawn().expect("pgbouncer runs");
        // As ourselves: the folder is the owner's, but what it lies in is ours.
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "watch", &child.id().to_string()]).arg(&folder);
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null());
        let watch = command.stderr(Stdio::null()).spawn().expect("a shell runs");
        // From here on it is stopped whatever happens.
        let user = server.get_username().to_owned();
        let mut pooler = Self { child, watch, port, user, url: String::new() };
        let listens = found("pgbouncer to listen", async || {
            if pooler.child.try_wait().expect("its state").is_some() {
                return Some(false);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok().map(|_| true)
        });
        match listens.await {
            true => Ok(pooler),
            false => Err(std::fs::read_to_string(&log).unwrap_or_default()),
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // The watch does it when it hears no more from us.
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
        let _ = self.child.wait();
    }
}

/// The user of the server, where that is not us: its socket is private to it, and pgbouncer would not run as root.
struct Owner(Option<(u32, u32)>);

impl Owner {
    /// A command of that user.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdout(Stdio::null());
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

/// A folder of whoever owns `other`; the pooler's watch removes it.
fn folder_for(other: &Path) -> (PathBuf, Owner) {
    let folder = tempfile::Builder::new()
        .prefix("millpond-pooler-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(db::embedded::temporary_dir())
        .map(TempDir::keep)
        .expect("a folder");
    let metadata = |folder: &Path| std::fs::metadata(folder).expect("a folder that is there");
    let (owner, ours) = (metadata(other), metadata(&folder));
    let other = (owner.uid() != ours.uid()).then(|| (owner.uid(), owner.gid()));
    if let Some((user, group)) = other {
        chown(&folder, Some(user), Some(group)).expect("ours to give");
    }
    (folder, Owner(other))
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join("pgbouncer"));
    programs.find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("this test needs pgbouncer, in PATH or /usr/sbin: install the package `pgbouncer`")
    })
}

fn socket_dir(server: &PgConnectOptions) -> &Path {
    server.get_socket().expect("test databases are reached through a socket")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Sessions that nobody uses are closed soon: each test has a database of its own, and the server only so many sessions.
fn settings_text(server: &PgConnectOptions, port: u16, sessions: u32) -> String {
    let (socket, server_port) = (socket_dir(server).display(), server.get_port());
    let user = server.get_username();
    format!(
        "[databases]\n\
         * = host='{socket}' port={server_port} user={user}\n\
         [pgbouncer]\n\
         pool_mode = transaction\n\
         default_pool_size = {sessions}\n\
         server_idle_timeout = 5\n\
         listen_addr = {address}\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         ignore_startup_parameters = extra_float_digits\n\
         max_client_conn = 1000\n",
        address = Ipv4Addr::LOCALHOST,
    )
}
