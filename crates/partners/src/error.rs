//! What can go wrong with partners.

use kernel::ids::PartnerId;
use kernel::sealing::SealError;

/// One field of a request that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// The field's name, e.g. `code`.
    pub field: &'static str,
    /// What is allowed; may be shown to whoever sent it.
    pub message: String,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum PartnerError {
    /// Fields are wrong; all of them are listed.
    #[error("{}", list(.0))]
    Invalid(Vec<FieldFault>),
    /// The code belongs to another partner.
    #[error("the code {code:?} is taken by {name:?} ({holder})")]
    CodeTaken {
        /// The code asked for.
        code: String,
        /// Who has it.
        holder: PartnerId,
        /// The holder's name.
        name: String,
    },
    /// No such partner, or no such key of that partner.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Rotation would leave too many keys working at once.
    #[error("the partner has {live_max} working keys already; revoke one or wait for one to expire")]
    TooManyKeys {
        /// How many may work at once.
        live_max: i64,
    },
    /// What is stored sealed could not be opened.
    #[error("what is stored sealed of a partner could not be opened")]
    Sealing(#[from] SealError),
    /// What was opened was not written by this crate.
    #[error("a partner's {0} is damaged")]
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
