//! The control surface: everything that operators see and do. Roles stand at each operation; the console uses nothing else.
//!
//! Every read has a time limit in the database, so that no question can hold up the work.

pub mod audit;
pub mod dead;
pub mod events;
pub mod history;
pub mod jobs;
pub mod limits;
pub mod listing;
pub mod overview;
pub mod owners;
pub mod queues;
pub mod schedules;
pub mod tenants;
pub mod users;
pub mod workers;

use std::time::Duration;

use db::Transaction;

use crate::error::ApiError;
use crate::state::ApiState;

/// Longest statement of a read.
const STATEMENT_MAX: Duration = Duration::from_secs(2);

/// A transaction that only reads, and no statement longer than a bound.
///
/// # Errors
/// [`ApiError`].
pub(crate) async fn reading(state: &ApiState) -> Result<Transaction, ApiError> {
    Ok(db::begin_reading(state.pool(), STATEMENT_MAX).await?)
}
