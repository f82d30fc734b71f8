//! The audit log: who changed what, when, from what to what, and for which request.
//!
//! Guarantees: an entry is stored in the transaction of the change, so there is neither a change without its entry nor an
//! entry without its change; entries are never changed or removed (triggers refuse it), and the chain that a reconciler
//! makes of them shows when somebody did it all the same.
//!
//! Entries hold no personal data: people are named by their ids, and values such as an address stand as keyed digests
//! ([`digest`]), so that forgetting a person never touches an entry.

mod entry;

pub use entry::{Actor, ActorKind, Entry, digest, record};

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}
