//! A database for one test: migrated, empty, its own.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::cluster;

/// One test's database; removed some time after it is dropped.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    url: String,
    options: PgConnectOptions,
    pool: PgPool,
}

/// Connections of the pool that every test gets.
const CONNECTIONS_MAX: u32 = 10;

impl TestDb {
    /// A database with the full schema and no rows.
    pub async fn new() -> Self {
        let database = cluster::create_database().await;
        let pool = pool_of(&database.options, CONNECTIONS_MAX);
        Self { name: database.name, url: database.url, options: database.options, pool }
    }

    /// A pool of this test's runtime.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The address, for other programs and for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How to connect.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Another pool, as another process would have; it belongs to the runtime it is used in.
    pub fn connect_more(&self, connections_max: u32) -> PgPool {
        pool_of(&self.options, connections_max)
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        cluster::drop_database(std::mem::take(&mut self.name));
    }
}

/// Connects when first used, so that it may be made anywhere.
pub(super) fn pool_of(options: &PgConnectOptions, connections_max: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}
