//! A PostgreSQL server that may be mistreated: a cluster in a temporary folder, stopped in the middle of its work and
//! started again as often as a scenario wants.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use db::ConnectOptions;
use db::embedded::{Programs, temporary_dir};
use nix::unistd::{User, geteuid};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The longest wait for the server to take connections; after an immediate stop it reads its log first.
const START_MAX: Duration = Duration::from_secs(60);
const SUPERUSER: &str = "millpond";

/// A running server; stopped and removed when it is dropped.
#[derive(Debug)]
pub(super) struct PrivateServer {
    programs: Programs,
    account: Option<User>,
    keeper: Option<Child>,
    folder: TempDir,
}

impl PrivateServer {
    /// Makes a cluster and starts it. What it commits is safe from crashes of the server, not of the machine.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let programs = Programs::find()?;
        // PostgreSQL does not run as root.
        let account = match geteuid().is_root() {
            true => Some(
                User::from_name("postgres")?
                    .or(User::from_name("nobody")?)
                    .context("a user for PostgreSQL")?,
            ),
            false => None,
        };
        let folder = tempfile::Builder::new()
            .prefix("millpond-faults-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(temporary_dir())?;
        if let Some(account) = &account {
            chown(folder.path(), Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        let mut server = Self { programs, account, keeper: None, folder };
        let mut initdb = server.command(&server.programs.initdb);
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--username",
            SUPERUSER,
            "-D",
        ]);
        let made = initdb.arg(server.data()).output().context("running initdb")?;
        ensure!(made.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&made.stderr));
        server.go_on().await?;
        Ok(server)
    }

    /// Makes a database with our schema, and answers its address, which stays the same over restarts.
    ///
    /// # Errors
    /// When it exists or cannot be migrated.
    pub(super) async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
        connection.close().await?;
        let url = self.url(name);
        let pool =
            db::connect(&ConnectOptions { connections_max: 1, ..ConnectOptions::from_url(&url)? }).await?;
        db::migrate(&pool).await?;
        pool.close().await;
        Ok(url)
    }

    /// Stops it as `pg_ctl stop -m immediate` does: no checkpoint, no word to its clients.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) fn stop_immediately(&mut self) -> anyhow::Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        // The end of this pipe is what the keeper waits for.
        drop(keeper.stdin.take());
        keeper.wait().context("waiting for the server to end")?;
        Ok(())
    }

    /// Starts it again, and waits until it takes connections.
    ///
    /// # Errors
    /// When it does not in time.
    pub(super) async fn go_on(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.command(Path::new("sh"));
        // The shell keeps the server: when we are gone, however we went, so is the server.
        command.args(["-c", "\"$@\" <&- & read -r _; kill -s QUIT $!; wait $!", "keeper"]);
        command.arg(&self.programs.postgres).arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=256MB"]);
        // What an immediate stop of the server may lose is what it has not written, not what was not flushed.
        command.args(["-c", "fsync=off"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.keeper = Some(command.spawn().context("starting the server")?);
        let began = Instant::now();
        loop {
            match self.connect().await {
                Ok(connection) => return connection.close().await.context("leaving the server"),
                Err(error) if began.elapsed() > START_MAX => {
                    let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                    bail!("the server does not start: {error:#}; it said:\n{log}");
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Stops it and removes the cluster.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_immediately()
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options: sqlx::postgres::PgConnectOptions = self.url("postgres").parse()?;
        Ok(options.connect().await?)
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}@localhost/{database}?host={}&sslmode=disable",
            self.folder.path().display()
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").env_remove("PGPORT").env_remove("PGHOST");
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Its folder is removed next; nothing more can be done about a failure.
        let _ = self.stop_immediately();
    }
}
