//! Connection pools and migrations.
//!
//! A pool does not ping a connection before lending it: that would add a round trip to every transaction, and a
//! connection that died is noticed by its first statement anyway. Whoever gets such an error retries, as after any
//! other lost connection.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};

use crate::DbError;

/// How long an unused connection is kept, in seconds.
const IDLE_TIMEOUT_S: u64 = 300;

/// The migrations of this build, compiled into the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Where to connect and how.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Server, database and credentials.
    pub target: PgConnectOptions,
    /// Upper bound of open connections of this pool.
    pub connections_max: u32,
    /// How long a caller waits for a free connection before it gets an error.
    pub acquire_timeout: Duration,
    /// Whether prepared statements are kept for reuse. Off for poolers that hand a server session on between borrowers.
    ///
    /// sqlx 0.9 names the statements of its macros even when it caches none, so off means: cached by nobody, and dropped
    /// on the server whenever a connection goes back to the pool. A pooler that may change the server session between
    /// two statements (pgbouncer's transaction mode before 1.21) is still out of reach.
    pub prepared: bool,
    /// What the server shows for our sessions in `pg_stat_activity`.
    pub application_name: String,
}

impl ConnectOptions {
    /// Options for a server given by its parts, with the defaults: 20 connections, prepared statements.
    pub fn new(target: PgConnectOptions) -> Self {
        Self {
            target,
            connections_max: 20,
            acquire_timeout: Duration::from_secs(10),
            prepared: true,
            application_name: "millpond".to_owned(),
        }
    }

    /// Options for a server given by an address (`postgres://…`).
    ///
    /// # Errors
    /// [`DbError::Address`] when the address does not parse; the message never contains the address, as it may hold a
    /// password.
    pub fn from_url(url: &str) -> Result<Self, DbError> {
        PgConnectOptions::from_str(url).map(Self::new).map_err(DbError::Address)
    }

    fn described(&self) -> String {
        let place = match self.target.get_socket() {
            Some(folder) => format!("socket {}", folder.display()),
            None => format!("{}:{}", self.target.get_host(), self.target.get_port()),
        };
        format!(
            "{place}, database {}",
            self.target.get_database().unwrap_or_else(|| self.target.get_username())
        )
    }
}

/// Opens a pool and proves it with one connection.
///
/// # Errors
/// [`DbError::Connect`] when the server cannot be reached within [`ConnectOptions::acquire_timeout`] or refuses.
pub async fn connect(options: &ConnectOptions) -> Result<PgPool, DbError> {
    let mut target = options.target.clone().application_name(&options.application_name);
    if !options.prepared {
        target = target.statement_cache_capacity(0);
    }
    pool_options(options.prepared)
        .max_connections(options.connections_max)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(Duration::from_secs(IDLE_TIMEOUT_S))
        .test_before_acquire(false)
        .connect_with(target)
        .await
        .map_err(|source| DbError::Connect { target: options.described(), source })
}

fn pool_options(prepared: bool) -> PgPoolOptions {
    if prepared {
        return PgPoolOptions::new();
    }
    PgPoolOptions::new().after_release(|connection, _| {
        Box::pin(async move {
            // An error closes the connection, and with it go its statements.
            sqlx::raw_sql("deallocate all").execute(connection).await?;
            Ok(true)
        })
    })
}

/// Begins a transaction; dropping it rolls it back. The one way to begin one on a pool.
///
/// It may be dropped while it begins, as any request or job may. With sqlx 0.9's own `begin`, that gives the pool a
/// connection with an open transaction that nobody knows of, and the statements of its next borrower are never
/// committed. Here the beginning is carried through in a task of its own, and what nobody takes is rolled back.
///
/// # Errors
/// As `sqlx::Pool::begin`.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    #[allow(clippy::disallowed_methods, reason = "here it cannot be dropped half-way")]
    let began = tokio::spawn(async move { pool.begin().await });
    // The task is never aborted: without an answer, the whole runtime is ending.
    began.await.unwrap_or(Err(sqlx::Error::PoolClosed))
}

/// Brings the database's schema to this build's. Safe to call from many processes at once.
///
/// # Errors
/// [`DbError::Migrate`] when a migration fails, or the database knows migrations that this build does not.
pub async fn migrate(pool: &PgPool) -> Result<(), DbError> {
    MIGRATOR.run(pool).await?;
    Ok(())
}

/// Whether the database has every migration of this build; it may have newer ones.
///
/// # Errors
/// [`DbError::Query`] when the database cannot be asked, or was never migrated.
pub async fn migrations_applied(pool: &PgPool) -> Result<bool, DbError> {
    let newest = sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
        .fetch_one(pool)
        .await?;
    Ok(newest >= MIGRATOR.iter().map(|migration| migration.version).max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_of_a_target_holds_no_password() {
        let options = ConnectOptions::from_url("postgres://someone:hunter2@db.example:6543/pond").unwrap();
        assert_eq!(options.described(), "db.example:6543, database pond");
        assert!(!DbError::Address(sqlx::Error::PoolClosed).to_string().contains("hunter2"));
    }

    #[test]
    fn a_malformed_address_is_an_error() {
        assert!(matches!(ConnectOptions::from_url("mysql//nope"), Err(DbError::Address(_))));
    }
}
