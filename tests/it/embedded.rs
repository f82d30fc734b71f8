//! The embedded server: found, started, shared, stopped and recovered, whatever happened before.

mod lifetime;
mod obtaining;
mod recovery;
mod using;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use db::embedded::{Server, ServerOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const BINARY: &str = env!("CARGO_BIN_EXE_millpond");
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A server that need not survive a crash of the machine, in this folder.
fn options(folder: &Path) -> ServerOptions {
    let mut options = ServerOptions::new(folder, BINARY);
    options.durable = false;
    options
}

async fn start(folder: &Path) -> Server {
    Server::start_or_attach(options(folder)).await.expect("the server starts")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Another process that owns (or attaches to) the server of a folder. Killed when dropped.
struct Owner {
    process: Child,
    line: String,
}

impl Owner {
    async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["--not-durable"]).await
    }

    async fn start_with(folder: &Path, args: &[&str]) -> Self {
        let mut process = Command::new(BINARY)
            .args(["serve-postgres", "--data-dir"])
            .arg(folder)
            .args(args)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        timeout(WAIT_MAX, output.read_line(&mut line)).await.expect("an answer in time").expect("an answer");
        assert!(line.starts_with("ready "), "answered {line:?}");
        Self { process, line }
    }

    fn owns(&self) -> bool {
        self.line.contains("owner=true")
    }

    async fn kill_9(mut self) {
        self.process.kill().await.expect("killed");
    }
}

/// Makes a table that holds one number.
async fn keep(target: &PgConnectOptions, number: i32) {
    let mut connection: PgConnection = target.connect().await.expect("a connection");
    sqlx::raw_sql("create table kept (number int not null)").execute(&mut connection).await.expect("created");
    let insert = sqlx::AssertSqlSafe(format!("insert into kept values ({number})"));
    sqlx::raw_sql(insert).execute(&mut connection).await.expect("inserted");
    connection.close().await.expect("closed");
}

/// The number that [`keep`] left.
async fn kept(target: &PgConnectOptions) -> i32 {
    let mut connection: PgConnection = target.connect().await.expect("a connection");
    let row = sqlx::raw_sql("select number from kept").fetch_one(&mut connection).await.expect("one row");
    connection.close().await.expect("closed");
    row.get(0)
}

/// Whether a process runs; one that ended and was not collected does not.
fn runs(pid: u32) -> bool {
    let state = said("ps", &["-o", "stat=", "-p", &pid.to_string()]);
    !state.is_empty() && !state.starts_with('Z')
}

fn kill_9(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// What a short-lived program prints.
fn said(program: impl AsRef<OsStr>, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output().expect("the program runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits for a condition that other processes bring about.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asserts that nothing of a server is left.
async fn assert_gone(postgres_pid: u32, watchdog_pid: u32, socket_dir: &Path) {
    until("server, watchdog and socket are gone", || {
        !runs(postgres_pid) && !runs(watchdog_pid) && !socket_dir.exists()
    })
    .await;
}
