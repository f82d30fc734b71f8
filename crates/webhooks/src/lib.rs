//! Outgoing webhooks: what partners are told about, what is signed, what is sent when, and the record of it. SQL and
//! rules; the sending is a job's, through `outbound`.
//!
//! Guarantees: a delivery exists once however often the step that makes it is repeated; attempts are
//! numbered by the record itself; a delivery that has ended never ends differently. Signatures follow Standard Webhooks 1.0,
//! so receivers can verify them with any of its libraries.
//!
//! Failure behaviour: database errors come back as [`WebhookError`]; the caller's transaction decides what
//! remains.

mod deliveries;
mod events;
mod schedule;
mod signing;

pub use deliveries::{
    Attempt, Delivery, DeliveryStatus, NewDelivery, RecordedAttempt, create, get, list_attempts, list_of_job,
    mark_delivered, mark_failed, prune, record_attempt, reopen, set_subject,
};
pub use events::{EventType, NewEvent, append};
pub use schedule::{ATTEMPTS_MAX, RETRY_AFTER_MAX, RETRY_DELAYS, Verdict, verdict};
pub use signing::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret, SecretError, Signed};

/// Why a delivery could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The database refused or could not be reached.
    #[error("webhook deliveries: the database failed")]
    Database(#[from] sqlx::Error),
}
