//! The audit log: who changed what, when, from what to what, and for which request.
//!
//! Guarantees: an entry is stored in the transaction of the change, so there is neither a change without its entry nor an
//! entry without its change. Entries are never changed or removed; triggers refuse it, and when somebody who may do
//! anything to the database did it all the same, [`verify`] finds it, since neither tags nor links can be made without the
//! installation's keys:
//! - each entry carries a tag of what it says, made by whoever [records](record) it;
//! - a reconciler [seals](seal) entries into a chain soon after their commit: each link is made of its number, its entry
//!   with its time, and the link before;
//! - a signed note of the chain's [`Head`] shows when its end is gone. Against somebody who puts back an older state of
//!   everything, note included, only a head helps that was kept elsewhere; `verify` compares with one.
//!
//! What is not found: the removal of an entry together with its mark before it was sealed, a second after its commit.
//!
//! Entries hold no personal data: people are named by their ids, and values such as an address stand as keyed digests
//! ([`digest`]), so that forgetting a person never touches an entry.

mod chain;
mod entry;
mod read;
mod sealing;
mod stored;
mod verifying;

pub use chain::{Head, NotAHead};
pub use entry::{Actor, ActorKind, Entry, digest, record};
pub use read::{Cursor, Filter, LIST_MAX, Order, Page, Recorded, list};
pub use sealing::{SEALED_MAX, Sealed, Unsealed, seal, unsealed};
pub use verifying::{FINDINGS_MAX, Finding, UNSEALED_AGE_MAX, Verified, verify};

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}
