//! What can go wrong with schedules.

use crate::Fault;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Fields are wrong; all of them are listed.
    #[error("{}", told(.0))]
    Invalid(Vec<Fault>),
    /// There are as many schedules as there may be.
    #[error("there are {max} schedules already; remove one first")]
    TooMany {
        /// How many there may be.
        max: i64,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

fn told(faults: &[Fault]) -> String {
    let faults: Vec<String> =
        faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    faults.join("; ")
}
