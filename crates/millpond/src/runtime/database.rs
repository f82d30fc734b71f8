//! The database of this process: the one that the settings name, else the private one of the data folder.
//!
//! Guarantees: a private database always has this build's schema; a named one is migrated only by commands whose job
//! that is, because other processes of an older build may be using it. Every wait is bounded.

use std::time::Duration;

use config::Settings;
use db::Pool;
use db::embedded::{Server, ServerOptions};
use db::{ConnectOptions, DbError, Transaction};
use kernel::sealing::Keyring;

use crate::error::CliError;
use crate::runtime::keys::{self, Loaded};

/// Longest wait for connections to be given back before a pool is left as it is.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How often a process looks whether the server that another one owns is still there.
const OWNER_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest statement of a command that only looks.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Begins what a command only looks at.
pub(crate) async fn reading(pool: &Pool) -> Result<Transaction, CliError> {
    Ok(db::begin_reading(pool, LOOK_MAX).await?)
}

/// What is done about a database whose schema is older than this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is migrated.
    Migrate,
    /// It is refused, if it is not our own private one.
    Require,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    /// Connections for everything.
    pub(crate) pool: Pool,
    server: Option<Server>,
}

impl Database {
    /// Opens it for a command, with a few connections and the server kept in its data folder.
    pub(crate) async fn for_command(settings: &Settings) -> Result<Self, CliError> {
        let mut few = settings.clone();
        few.database.connections_max = 2;
        Self::open(&few, Schema::Require, false).await
    }

    /// Opens it. `temporary`: the data folder is removed with the server.
    pub(crate) async fn open(settings: &Settings, schema: Schema, temporary: bool) -> Result<Self, CliError> {
        let (options, server) = match &settings.database.url {
            Some(url) => (ConnectOptions::from_url(url.expose())?, None),
            None => {
                let server = Box::pin(Server::start_or_attach(server_options(settings, temporary)?)).await?;
                (ConnectOptions::new(server.connect_options()), Some(server))
            }
        };
        let options = ConnectOptions {
            connections_max: settings.database.connections_max,
            acquire_timeout: Duration::from_millis(settings.database.acquire_timeout_ms),
            prepared: settings.database.prepared,
            answer_timeout: Some(db::ANSWER_TIMEOUT),
            ..options
        };
        let pool = match db::connect(&options).await {
            Ok(pool) => pool,
            Err(error) => {
                stop(server).await?;
                return Err(error.into());
            }
        };
        let database = Self { pool, server };
        let migrates = schema == Schema::Migrate || database.server.is_some();
        let prepared = match migrates {
            true => db::migrate(&database.pool).await.map_err(CliError::from),
            false => database.require_schema().await,
        };
        database.unless_failed(prepared).await.map(|(database, ())| database)
    }

    /// Goes on with the database and a step's result; when the step failed, closes it first.
    pub(crate) async fn unless_failed<T>(self, step: Result<T, CliError>) -> Result<(Self, T), CliError> {
        match step {
            Ok(result) => Ok((self, result)),
            Err(error) => {
                // The step's failure is the one to tell.
                let _ = self.close().await;
                Err(error)
            }
        }
    }

    /// The keys of the settings, once they are known to be this database's.
    pub(crate) async fn keys(&self, settings: &Settings) -> Result<Keyring, CliError> {
        let Loaded { keyring, made } = keys::load(settings)?;
        match (self.check_keys(&keyring).await, made) {
            (Ok(()), _) => Ok(keyring),
            (Err(CliError::Database(DbError::WrongKeys(_))), Some(path)) => {
                // Left there, it would look like the file that is to be found again.
                std::fs::remove_file(&path).map_err(CliError::file("remove", &path))?;
                Err(CliError::KeysLost { path: path.display().to_string() })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Refuses keys that are not this database's.
    pub(crate) async fn check_keys(&self, keyring: &Keyring) -> Result<(), CliError> {
        Ok(db::check_keys(&self.pool, keyring).await?)
    }

    /// Whether another process owns the private server: it ends when that one does.
    pub(crate) fn is_attached(&self) -> bool {
        self.server.as_ref().is_some_and(|server| !server.is_owner())
    }

    /// Waits until the private server ends although we did not ask it to; for ever when there is none.
    pub(crate) async fn ended(&self) -> CliError {
        match &self.server {
            Some(server) if server.is_owner() => {
                CliError::part("the private PostgreSQL server", server.ended().await)
            }
            Some(server) => {
                // Whoever stops a server, or clears up after one that was killed, removes the folder of its socket.
                while server.socket_dir().exists() {
                    tokio::time::sleep(OWNER_LOOK_EVERY).await;
                }
                CliError::Refused(
                    "the process that owned the private PostgreSQL server has ended, and the server with it: start \
                     this one again"
                        .to_owned(),
                )
            }
            None => std::future::pending().await,
        }
    }

    /// Closes the connections, and stops the private server if it is ours.
    pub(crate) async fn close(self) -> Result<(), CliError> {
        close_pool(&self.pool).await;
        stop(self.server).await
    }

    async fn require_schema(&self) -> Result<(), CliError> {
        let newest = sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
            .fetch_one(&self.pool)
            .await;
        let newest = match newest {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => None,
            newest => newest?,
        };
        let expected = db::MIGRATOR.iter().map(|migration| migration.version).max();
        if newest >= expected { Ok(()) } else { Err(CliError::NotMigrated) }
    }
}

/// PostgreSQL's code for a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

/// Closes a pool once its connections have been given back, or after a while.
pub(crate) async fn close_pool(pool: &Pool) {
    if tokio::time::timeout(CLOSE_MAX, pool.close()).await.is_err() {
        tracing::warn!("some database connections were still in use when the process ended");
    }
}

async fn stop(server: Option<Server>) -> Result<(), CliError> {
    match server {
        Some(server) => Ok(server.stop().await?),
        None => Ok(()),
    }
}

fn server_options(settings: &Settings, temporary: bool) -> Result<ServerOptions, CliError> {
    let program = std::env::current_exe().map_err(|error| CliError::part("finding this program", error))?;
    Ok(ServerOptions {
        remove_on_stop: temporary,
        release_address: settings.database.programs_address.clone(),
        ..ServerOptions::new(&settings.data.dir, program)
    })
}
