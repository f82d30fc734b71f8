//! Connection pools.
//!
//! A pool does not ping a connection before lending it: that would add a round trip to every transaction, and a
//! connection that died is noticed by its first statement anyway. Whoever gets such an error retries, as after any other
//! lost connection; those that lay idle then are made anew.

use std::str::FromStr;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Error, Execute, Executor, PgPool, Postgres, SqlStr};

use crate::connection::{Step, first_row, steps, turned_off};
use crate::terms::{Terms, Trouble};
use crate::unnamed::Unnamed;
use crate::{Connection, DbError};

/// How long an unused connection is kept, in seconds.
const IDLE_TIMEOUT_S: u64 = 300;

/// How patient processes are that serve or work: what they ask of the database takes milliseconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server keeps a transaction open in which nothing happens, for clients with an
/// [`answer_timeout`](ConnectOptions::answer_timeout): one of a client that has vanished without a word holds locks.
const IDLE_TRANSACTION_TIMEOUT: &str = "30s";

/// How soon the server notices that such a client is gone while it works for it, or waits for a lock: or sessions of those
/// who gave up would pile up behind a locked table until the server takes no more.
const CLIENT_CHECK_INTERVAL: &str = "2s";

/// Where to connect and how.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Server, database and credentials.
    pub target: PgConnectOptions,
    /// Upper bound of open connections of this pool.
    pub connections_max: u32,
    /// How long a caller waits for a free connection before it gets an error.
    pub acquire_timeout: Duration,
    /// Whether statements are prepared under a name and kept for reuse; faster, and for servers that give a client one
    /// session of its own: PostgreSQL itself, and poolers in session mode.
    ///
    /// Off, every statement is unnamed and in a transaction, its own if need be. That is what a pooler in transaction
    /// mode can carry (pgbouncer of any version), at the price of two more round trips for a statement on its own.
    /// `LISTEN` needs a session of its own either way. A pooler in statement mode takes no transactions, and will not do.
    pub prepared: bool,
    /// How long a statement waits for the next sign of life from the server before it fails as if its connection had been
    /// cut; `None`: as long as the kernel does, a quarter of an hour.
    pub answer_timeout: Option<Duration>,
    /// What the server shows for our sessions in `pg_stat_activity`.
    pub application_name: String,
}

impl ConnectOptions {
    /// Options for a server given by its parts, with the defaults: 20 connections, prepared statements, endless
    /// patience.
    pub fn new(target: PgConnectOptions) -> Self {
        Self {
            target,
            connections_max: 20,
            acquire_timeout: Duration::from_secs(10),
            prepared: true,
            answer_timeout: None,
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
pub async fn connect(options: &ConnectOptions) -> Result<Pool, DbError> {
    let mut target = options.target.clone().application_name(&options.application_name);
    if !options.prepared {
        target = target.statement_cache_capacity(0);
    } else if options.answer_timeout.is_some() {
        // Poolers take no such parameter when a client begins.
        target = target.options([
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
            ("client_connection_check_interval", CLIENT_CHECK_INTERVAL),
        ]);
    }
    let trouble = Trouble::default();
    let terms = Terms::new(options.prepared, options.answer_timeout, trouble.clone());
    PgPoolOptions::new()
        .max_connections(options.connections_max)
        .acquire_timeout(options.acquire_timeout)
        .idle_timeout(Duration::from_secs(IDLE_TIMEOUT_S))
        .test_before_acquire(false)
        .before_acquire(move |_, meta| Box::pin(std::future::ready(trouble.refuse_older(meta.idle_for))))
        .connect_with(target)
        .await
        .map(|inner| Pool { inner, terms })
        .map_err(|source| DbError::Connect { target: options.described(), source })
}

/// Connections to one database, lent one at a time. A statement may be run on the pool itself.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: PgPool,
    terms: Terms,
}

impl Pool {
    /// A pool of sqlx's. `prepared`: see [`ConnectOptions::prepared`].
    pub fn new(inner: PgPool, prepared: bool) -> Self {
        Self { inner, terms: Terms::new(prepared, None, Trouble::default()) }
    }

    /// Another pool on the same database, with as many connections of its own; it connects when it is first used.
    #[must_use]
    pub fn another(&self, connections_max: u32) -> Self {
        let options = self.inner.options().clone().max_connections(connections_max).min_connections(0);
        let target = self.inner.connect_options().as_ref().clone();
        Self { inner: options.connect_lazy_with(target), terms: self.terms.clone() }
    }

    /// The same connections on other terms: see [`ConnectOptions::answer_timeout`]. Upkeep that takes minutes needs more
    /// patience than requests do, a heartbeat less.
    #[must_use]
    pub fn with_answer_timeout(&self, limit: Option<Duration>) -> Self {
        let mut terms = self.terms.clone();
        terms.answer_timeout = limit;
        Self { inner: self.inner.clone(), terms }
    }

    /// A connection of it; dropping it gives it back.
    ///
    /// # Errors
    /// As `sqlx::Pool::acquire`, when none is free in time or none can be made.
    pub async fn acquire(&self) -> Result<Connection, Error> {
        let asked_at = Instant::now();
        let connection = self.inner.acquire().await;
        metrics::histogram!("millpond_database_pool_wait_seconds").record(asked_at.elapsed());
        if connection.is_err() {
            metrics::counter!("millpond_database_pool_failures_total").increment(1);
        }
        Ok(Connection::new(connection?, self.terms.clone()))
    }

    /// Shows how many of its connections are in use, as gauges; for the pool of a process' own work.
    pub fn show(&self) {
        let (open, idle) = (self.inner.size() as usize, self.inner.num_idle());
        let most = self.inner.options().get_max_connections();
        let used = metrics::gauge!("millpond_database_pool_connections", "state" => "used");
        used.set(open.saturating_sub(idle) as f64);
        metrics::gauge!("millpond_database_pool_connections", "state" => "idle").set(idle as f64);
        metrics::gauge!("millpond_database_pool_connections_max").set(f64::from(most));
    }

    /// Lends no more connections, and waits until all have been given back and closed.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    /// Whether statements are prepared, as [`ConnectOptions::prepared`] says.
    #[must_use]
    pub const fn is_prepared(&self) -> bool {
        self.terms.prepared
    }

    /// The pool of sqlx's, for what no pooler can carry: listening. Statements run on it are named.
    #[must_use]
    pub const fn inner(&self) -> &PgPool {
        &self.inner
    }
}

/// A pool with prepared statements.
impl From<PgPool> for Pool {
    fn from(inner: PgPool) -> Self {
        Self::new(inner, true)
    }
}

impl<'c> Executor<'c> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        if self.terms.prepared {
            return steps(async move { (&mut pool.acquire().await?).fetch_many(query).try_collect().await });
        }
        let query = Unnamed::new(query);
        steps(async move { pool.acquire().await?.run_unnamed(query?).await })
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        'q: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        if self.terms.prepared {
            return Box::pin(async move { (&mut pool.acquire().await?).fetch_optional(query).await });
        }
        let query = Unnamed::new(query);
        Box::pin(async move { Ok(first_row(pool.acquire().await?.run_unnamed(query?).await?)) })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        match self.terms.prepared {
            true => self.inner.prepare_with(sql, parameters),
            false => Box::pin(async { Err(turned_off()) }),
        }
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        match self.terms.prepared {
            true => self.inner.describe(sql),
            false => Box::pin(async { Err(turned_off()) }),
        }
    }
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
