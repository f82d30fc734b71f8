//! The schema of this build, and bringing a database to it.

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};

use crate::{DbError, Pool};

/// The migrations of this build, compiled into the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Takes the lock on migrating without prepared statements, which has an arbitrary number.
const LOCK: &str = "select pg_advisory_xact_lock(7883959205594428004)";

/// Brings the database's schema to this build's. Safe to call from many processes at once.
///
/// # Errors
/// [`DbError::Migrate`] when a migration fails, or the database knows migrations that this build does not.
pub async fn migrate(pool: &Pool) -> Result<(), DbError> {
    if pool.is_prepared() {
        MIGRATOR.run(pool.inner()).await?;
        return Ok(());
    }
    migrate_unprepared(pool).await
}

/// Runs each migration in a transaction of its own, which pins a session of the pooler's. sqlx names the statements of
/// its bookkeeping and locks for as long as a session lives, so the names are dropped before anybody else gets the
/// session, and the lock is one that ends with the transaction.
async fn migrate_unprepared(pool: &Pool) -> Result<(), DbError> {
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    migrator.set_locking(false);
    for migration in MIGRATOR.iter() {
        let mut connection = pool.inner().acquire().await?;
        // A connection that is given up half-way is not used again: it may be in a transaction.
        connection.close_on_drop();
        #[allow(clippy::disallowed_methods, reason = "dropped half-way, the connection is closed")]
        let mut tx = connection.begin().await?;
        sqlx::raw_sql("deallocate all").execute(&mut *tx).await?;
        sqlx::raw_sql(LOCK).execute(&mut *tx).await?;
        migrator.run_to(migration.version, &mut *tx).await?;
        sqlx::raw_sql("deallocate all").execute(&mut *tx).await?;
        tx.commit().await.map_err(MigrateError::Execute)?;
    }
    Ok(())
}

/// Whether the database has every migration of this build; it may have newer ones.
///
/// # Errors
/// [`DbError::Query`] when the database cannot be asked, or was never migrated.
pub async fn migrations_applied(pool: &Pool) -> Result<bool, DbError> {
    let newest = sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
        .fetch_one(pool)
        .await?;
    Ok(newest >= MIGRATOR.iter().map(|migration| migration.version).max())
}
