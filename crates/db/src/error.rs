//! What can go wrong between this process and its database, worded for the person who starts it.

/// A failure to reach, migrate or use the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The address in `DATABASE_URL` does not parse.
    #[error("the database address is not valid (expected postgres://USER:PASSWORD@HOST:PORT/DATABASE)")]
    Address(#[source] sqlx::Error),
    /// The first connection failed.
    #[error("cannot connect to the database at {target}")]
    Connect {
        /// Host and database, without the password.
        target: String,
        /// What the connection attempt answered.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed, or the database was migrated by a newer or altered build.
    #[error("cannot migrate the database")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A query failed.
    #[error("a database query failed")]
    Query(#[from] sqlx::Error),
    /// The probe in the database was sealed with keys that this process does not have.
    #[error(
        "the encryption keys of this process cannot open this database's probe value: another process used this \
         database first, with other keys. Give this process the same keys (MILLPOND_ENCRYPTION__KEYS, or the key file \
         in the data folder that the database was first used with), or use another database"
    )]
    WrongKeys(#[source] kernel::sealing::SealError),
}
