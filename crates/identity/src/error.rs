//! What can go wrong with people.

use kernel::sealing::SealError;

/// One field of a request that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's name, e.g. `email`.
    pub field: &'static str,
    /// What is allowed; may be shown to whoever sent it.
    pub message: String,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Fields are wrong; all of them are listed.
    #[error("{}", list(.0))]
    Invalid(Vec<FieldFault>),
    /// Somebody has this address already.
    #[error("somebody has this e-mail address already")]
    EmailTaken,
    /// Nobody has this id or address.
    #[error("no such person")]
    NotFound,
    /// Nobody would be left to let others in.
    #[error("this is the last admin: make another one first")]
    LastAdmin,
    /// More passwords wait to be checked than there is time for.
    #[error("too many passwords are being checked at this moment")]
    Busy,
    /// A stored address could not be opened.
    #[error("a person's address could not be opened")]
    Sealing(#[from] SealError),
    /// What is stored is not what this crate writes.
    #[error("a person's row is damaged: {0}")]
    Damaged(&'static str),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

fn list(faults: &[FieldFault]) -> String {
    let faults: Vec<String> =
        faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    faults.join("; ")
}
