//! `email.send`: hands one mail to the mail server.
//!
//! The server sees it at least once, and always under a Message-ID that follows from the job: a worker that dies between
//! the server's yes and its own record of it has the mail sent again, and mailboxes know such a repeat. A job that is
//! recorded as completed sends nothing any more, and one whose mail is of no use any more fails without sending it, however
//! often it is tried again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Backoff, DEADLINE_EXCEEDED, Job, JobError, Marked, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use vendors::{Origin, VendorError, smtp::Letter};

use super::now;
use crate::{Context, Handler};

/// The arguments.
#[derive(Clone, Serialize, Deserialize)]
pub struct SendEmail {
    /// What it is about, in a word for operators.
    pub about: String,
    /// The recipient's address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Not sent after this time, by the database's clock; without one as long as the job's deadline says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_use_until: Option<DateTime<Utc>>,
}

impl Job for SendEmail {
    const KIND: &'static str = "email.send";
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        // Somebody waits for it, and nobody for upkeep.
        priority: -10,
        attempts_max: 12,
        // The server has 20 seconds, or what settings say up to 35; what comes on top is ours.
        timeout: Duration::from_secs(40),
        backoff: Backoff::Exponential { base: Duration::from_secs(5), max: Duration::from_secs(600) },
        ..Policy::DEFAULT
    };
    // A subject may hold a name, and a text the link that opens an account.
    const MARKED: Marked = Marked { encrypted: &["to", "subject", "text"], redacted: &[] };
}

impl Handler for SendEmail {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        if let Some(until) = self.of_use_until
            && now(&mut cx.services().pool.acquire().await?).await? >= until
        {
            return Err(JobError::fatal(DEADLINE_EXCEEDED, "the mail was not sent while it was of use"));
        }
        let Some(smtp) = &cx.services().smtp else { return Err(not_configured()) };
        let id = cx.job().to_string();
        let letter = Letter { id: &id, to: &self.to, subject: &self.subject, text: &self.text };
        let origin = Origin { request_id: cx.request_id(), trace: Some(cx.trace()), gate: None };
        match smtp.send(&letter, origin).await {
            Ok(()) => Ok(Outcome::Done(None)),
            Err(error) => Err(job_error(&error)),
        }
    }
}

const MAIL_NOT_CONFIGURED: &str = "MAIL_NOT_CONFIGURED";
const MAIL_REFUSED: &str = "MAIL_REFUSED";
const MAIL_UNAVAILABLE: &str = "MAIL_UNAVAILABLE";

/// Another worker may know a mail server, and an operator may name one in the meantime.
fn not_configured() -> JobError {
    JobError::retryable(MAIL_NOT_CONFIGURED, "no mail server is configured: set MILLPOND_SMTP__URL")
}

fn job_error(error: &VendorError) -> JobError {
    let told = if error.is_retryable() {
        JobError::retryable(MAIL_UNAVAILABLE, "the mail server did not take the mail")
    } else {
        JobError::fatal(MAIL_REFUSED, "the mail server refused the mail for good")
    };
    told.after(error.retry_after()).caused_by(error)
}
