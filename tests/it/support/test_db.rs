//! A database for one test: migrated, empty, its own.

use std::time::Duration;

use db::Pool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{cluster, pooled};

/// One test's database; removed some time after it is dropped.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    url: String,
    options: PgConnectOptions,
    server: PgConnectOptions,
    pool: Pool,
}

/// Connections of the pool that every test gets.
const CONNECTIONS_MAX: u32 = 10;

impl TestDb {
    /// A database with the full schema and no rows.
    pub async fn new() -> Self {
        let database = cluster::create_database().await;
        let pool = pool_of(&database.options, CONNECTIONS_MAX);
        let cluster::Database { name, url, options, server } = database;
        Self { name, url, options, server, pool }
    }

    /// A pool of this test's runtime.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The address, for other programs and for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The settings of a process on this database, as variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("DATABASE_URL", self.url.clone())];
        if pooled() {
            variables.push(("MILLPOND_DATABASE__PREPARED", "false".to_owned()));
            variables.push(("MILLPOND_DATABASE__LISTEN", "false".to_owned()));
        }
        variables
    }

    /// How to connect to the server itself, past any pooler.
    pub fn server(&self) -> &PgConnectOptions {
        &self.server
    }

    /// How to connect.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Another pool, as another process would have; it belongs to the runtime it is used in.
    pub fn connect_more(&self, connections_max: u32) -> Pool {
        pool_of(&self.options, connections_max)
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        cluster::drop_database(std::mem::take(&mut self.name));
    }
}

/// Connects when first used, so that it may be made anywhere.
pub(super) fn pool_of(options: &PgConnectOptions, connections_max: u32) -> Pool {
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .connect_lazy_with(if pooled() {
            options.clone().statement_cache_capacity(0)
        } else {
            options.clone()
        });
    Pool::new(pool, !pooled())
}
