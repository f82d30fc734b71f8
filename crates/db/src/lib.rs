//! The door to PostgreSQL: connection pools, migrations, the check that a process has this database's encryption
//! keys, opaque cursors for keyset paging, and the embedded server for installations that set nothing up.
//!
//! Guarantees:
//! - A pool never waits for a connection longer than [`ConnectOptions::acquire_timeout`]; the wait ends in an error.
//! - A transaction that is dropped, also while it begins, leaves nothing open on its connection.
//! - Migrations run once however many processes start together: sqlx takes a lock in the database.
//! - With prepared statements turned off, a connection that goes back to its pool leaves none on the server.

#![cfg_attr(not(test), warn(clippy::expect_used))]

pub mod embedded;
mod error;
mod keys;
pub mod keyset;
mod pool;

pub use error::DbError;
pub use keys::check_keys;
pub use pool::{ConnectOptions, MIGRATOR, begin, connect, migrate, migrations_applied};
