//! Transactions.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::{Connection, Pool};

/// A transaction. It derefs to the connection for domain functions; dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
}

impl Transaction {
    /// Ends it with effect.
    ///
    /// # Errors
    /// As `sqlx::Transaction::commit`; whether it had effect is unknown when the connection was lost meanwhile.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.connection.commit().await
    }

    /// Ends it without effect, and waits until it is so.
    ///
    /// # Errors
    /// As `sqlx::Transaction::rollback`; it has no effect all the same.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        self.connection.rollback().await
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Begins a transaction; dropping it rolls it back. The one way to begin one on a pool.
///
/// It may be dropped while it begins, as any request or job may. With sqlx 0.9's own `begin`, that gives the pool a
/// connection with an open transaction that nobody knows of, and the statements of its next borrower are never
/// committed. Here that connection is closed.
///
/// # Errors
/// As `sqlx::Pool::begin`.
pub async fn begin(pool: &Pool) -> Result<Transaction, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    connection.begin().await?;
    Ok(Transaction { connection })
}

/// Begins a transaction that only reads, in which no statement takes longer than a bound: what does ends with the error
/// 57014. For questions of people, who may ask anything.
///
/// # Errors
/// As [`begin`].
pub async fn begin_reading(pool: &Pool, statement_max: Duration) -> Result<Transaction, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    sqlx::query!(
        "select set_config('transaction_read_only', 'on', true) as only, set_config('statement_timeout', $1, true) as most",
        statement_max.as_millis().to_string(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    Ok(transaction)
}
