//! The door to PostgreSQL: connection pools, migrations, the check that a process has this database's encryption
//! keys, opaque cursors for keyset paging, and the embedded server for installations that set nothing up.
//!
//! Guarantees:
//! - A pool never waits for a connection longer than [`ConnectOptions::acquire_timeout`]; the wait ends in an error.
//! - Nobody waits for ever: a statement whose answer does not come within [`ConnectOptions::answer_timeout`] ends in an
//!   error, and a connection that does not answer leaves its pool.
//! - A transaction that is dropped, also while it begins, leaves nothing open on its connection.
//! - Migrations run once however many processes start together: sqlx takes a lock in the database.
//! - With prepared statements turned off, every statement works behind a pooler in transaction mode: it is unnamed, in
//!   a transaction, and has committed when it answers, unless it is in the caller's transaction.

#![cfg_attr(not(test), warn(clippy::expect_used))]

mod connection;
pub mod embedded;
mod error;
mod keys;
pub mod keyset;
mod migrations;
mod pool;
mod terms;
mod transaction;
mod unnamed;

pub use connection::Connection;
pub use error::DbError;
pub use keys::check_keys;
pub use migrations::{MIGRATOR, migrate, migrations_applied};
pub use pool::{ANSWER_TIMEOUT, ConnectOptions, Pool, connect};
pub use transaction::{Transaction, begin, begin_reading};
