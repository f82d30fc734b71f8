//! A private cluster for a test run: one server, a migrated template, and a database per test cloned from it.
//!
//! The cluster lies in a new folder of the system's temporary folder, keeps nothing safe from crashes, and removes
//! itself when the process that started it ends, however it ends. Nothing here is for production.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::account::temporary_dir;
use super::error::EmbeddedError;
use super::server::{Server, ServerOptions};
use crate::{ConnectOptions as PoolOptions, DbError, connect, migrate};

/// A server for tests with a migrated template database.
#[derive(Debug)]
pub struct TestCluster {
    server: Server,
    /// How many templates were made so far.
    templates: u32,
}

impl TestCluster {
    /// Starts the cluster and migrates its template. `watchdog_program` is the millpond binary.
    ///
    /// # Errors
    /// [`EmbeddedError`] when the server does not start or the migrations fail.
    pub async fn start(watchdog_program: impl Into<PathBuf>) -> Result<Self, EmbeddedError> {
        let temporary = temporary_dir();
        let private = std::fs::Permissions::from_mode(0o700);
        let made =
            tempfile::Builder::new().prefix("millpond-test-").permissions(private).tempdir_in(&temporary);
        let folder = made.map_err(EmbeddedError::io("create a folder in", &temporary))?;
        let mut options = ServerOptions::new(folder.path(), watchdog_program);
        (options.durable, options.remove_on_stop) = (false, true);
        let server = Server::start_or_attach(options).await?;
        // From here on the watchdog removes it.
        let _ = folder.keep();
        let mut cluster = Self { server, templates: 0 };
        cluster.renew_template().await?;
        Ok(cluster)
    }

    /// Migrates a new template, which the next databases are cloned from. A schema knows the week in which it was
    /// made (partitions), so that a run that goes on past midnight wants another.
    ///
    /// # Errors
    /// [`EmbeddedError`] when the migrations fail; then the former template stays in use.
    pub async fn renew_template(&mut self) -> Result<(), EmbeddedError> {
        let template = template(self.templates + 1);
        self.execute(format!("create database {template}")).await?;
        let boxed = |error: DbError| EmbeddedError::Database(Box::new(error));
        let mut options = PoolOptions::new(self.database(&template));
        options.connections_max = 1;
        let pool = connect(&options).await.map_err(boxed)?;
        migrate(&pool).await.map_err(boxed)?;
        pool.close().await;
        // Nothing may connect, because a template with a session cannot be cloned.
        self.execute(format!("alter database {template} is_template true allow_connections false")).await?;
        self.templates += 1;
        Ok(())
    }

    /// The server, for tests about the server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How to connect to a database of this cluster.
    pub fn database(&self, name: &str) -> PgConnectOptions {
        self.server.connect_options().database(name)
    }

    /// Makes a database with the full schema and no rows.
    ///
    /// # Errors
    /// [`EmbeddedError::DatabaseName`] for a name that would need quoting, [`EmbeddedError::Query`] when it exists.
    pub async fn create_database_from_template(&self, name: &str) -> Result<PgConnectOptions, EmbeddedError> {
        let (name, template) = (plain(name)?, template(self.templates));
        self.execute(format!("create database {name} template {template} strategy file_copy")).await?;
        Ok(self.database(name))
    }

    /// Removes a database, ending whatever sessions it has. One that does not exist is no error.
    ///
    /// # Errors
    /// [`EmbeddedError::DatabaseName`] or [`EmbeddedError::Query`].
    pub async fn drop_database(&self, name: &str) -> Result<(), EmbeddedError> {
        let name = plain(name)?;
        self.execute(format!("drop database if exists {name} with (force)")).await
    }

    /// Stops the server and removes the cluster.
    ///
    /// # Errors
    /// As [`Server::stop`].
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.server.stop().await
    }

    /// Each statement on a connection of its own, so that any test's runtime can ask.
    async fn execute(&self, statement: String) -> Result<(), EmbeddedError> {
        let mut connection: PgConnection = self.database("postgres").connect().await?;
        // Statements about databases take no parameters; the names in them have passed `plain`.
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

fn template(number: u32) -> String {
    format!("millpond_template_{number}")
}

fn plain(name: &str) -> Result<&str, EmbeddedError> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let fits = starts && name.len() <= 63 && name.bytes().all(letters);
    if fits { Ok(name) } else { Err(EmbeddedError::DatabaseName(name.to_owned())) }
}
