//! Why something could not be done with a schedule.

use ::schedules::{Fault, ScheduleError};

use crate::NotAJob;

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// Fields are wrong, the table is full, or the database failed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A job could not be stored or read.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The schedule's kind and arguments make no job.
    #[error(transparent)]
    NotAJob(#[from] NotAJob),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] audit::AuditError),
    /// There is none of this name.
    #[error("no schedule is called {0:?}; `millpond schedules list` shows them all")]
    NotFound(String),
    /// It is there, but this cannot be done with it.
    #[error("{0}")]
    Conflict(String),
}

impl From<sqlx::Error> for ActionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Schedule(error.into())
    }
}

impl From<Vec<Fault>> for ActionError {
    fn from(faults: Vec<Fault>) -> Self {
        Self::Schedule(ScheduleError::Invalid(faults))
    }
}
