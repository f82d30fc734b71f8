//! Mail to people: stored as a job in the transaction of what it is about, sent when that was committed.

mod send;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;
use kernel::{
    ids::{JobId, TenantId},
    sealing::Keyring,
    trace::TraceParent,
};
use queue::{NewJob, enqueue};

pub use send::SendEmail;

/// A mail to be sent to one person. Printing shows what it is about alone.
#[derive(Clone)]
pub struct Mail {
    /// What it is about, in a word for operators, such as `password-reset`; stored in clear.
    pub about: &'static str,
    /// The recipient's address.
    pub to: String,
    /// The subject, of one line.
    pub subject: String,
    /// The text, as its reader will see it.
    pub text: String,
    /// After this long it is of no use and no longer sent, also when its job is given another life.
    pub of_use_for: Duration,
    /// Whose mail it is.
    pub tenant: TenantId,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Where in a trace that request stands.
    pub trace: Option<TraceParent>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("about", &self.about).finish_non_exhaustive()
    }
}

/// Stores the job that sends a mail, in the caller's transaction; recipient, subject and text lie sealed. Wake
/// [`queue::Queue::Maintenance`] after the commit. The mail is sent at least once, always under one Message-ID.
///
/// # Errors
/// As [`queue::enqueue`].
pub async fn send(conn: &mut Connection, keyring: &Keyring, mail: Mail) -> Result<JobId, queue::Error> {
    let Mail { about, to, subject, text, of_use_for, tenant, request_id, trace } = mail;
    // A job that failed has no deadline any more, should somebody have it tried again.
    let of_use_until =
        now(conn).await?.checked_add_signed(TimeDelta::from_std(of_use_for).unwrap_or(TimeDelta::MAX));
    let job = NewJob::of(&SendEmail { about: about.to_owned(), to, subject, text, of_use_until })?
        .tenant(tenant)
        .deadline(of_use_for)
        .request_id(request_id)
        .traceparent(trace)
        .seal(keyring);
    Ok(enqueue(conn, job).await?.id())
}

/// By the database's clock.
async fn now(conn: &mut Connection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(conn).await
}
