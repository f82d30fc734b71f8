//! Telling a partner what happened: an event for its endpoints and a mail to its contact, both in the transaction in
//! which it happened.

use ::partners::{FieldFault, Partner, PartnerError, Quota, directory, quota::Crossings};
use ::webhooks::{EventType, NewEvent, WebhookError, append};
use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{EventId, JobId, PartnerId};
use serde_json::{Value, json};

use super::actions::{PartnerActionError, record};
use super::notice::{Notice, QuotaTold};
use crate::email::{Mail, send};
use crate::{Deed, Door};

/// A notice is of use for a week; after that things are otherwise.
const OF_USE_FOR: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 60 * 60);

/// Why a partner was not told. The caller's transaction can only be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum TellingError {
    /// Its contact could not be read.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// The event was not stored.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The mail was not stored.
    #[error("the mail to the partner was not stored")]
    Queue(#[from] queue::Error),
}

/// How a partner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The event, for endpoints that listen to its type.
    pub event: EventId,
    /// The job that mails the notice; none: the partner has left no address.
    pub mail: Option<JobId>,
}

/// What is told.
pub(super) struct News {
    pub(super) event_type: EventType,
    /// The event's data.
    pub(super) data: Value,
    pub(super) notice: Notice,
    pub(super) at: DateTime<Utc>,
}

/// Stores an event and the job that mails a notice. Wake [`queue::Queue::Maintenance`] after the commit.
pub(super) async fn tell(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: &Partner,
    news: News,
) -> Result<Told, TellingError> {
    let News { event_type, data, notice, at } = news;
    let tenant = partner.id.into();
    let event = append(conn, NewEvent { tenant, event_type, occurred_at: at, data }).await?;
    let (subject, text) = notice.letter(&partner.name);
    let mail = mail_to_contact(conn, door, partner, (notice.about(), subject, text)).await?;
    Ok(Told { event, mail })
}

/// Stores the job that mails something to a partner's contact; none without an address.
pub(super) async fn mail_to_contact(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: &Partner,
    (about, subject, text): (&'static str, String, String),
) -> Result<Option<JobId>, TellingError> {
    let Some(email) = partner.contact(door.keyring)?.email else { return Ok(None) };
    let mail = Mail {
        about,
        to: email.as_str().to_owned(),
        subject,
        text,
        of_use_for: OF_USE_FOR,
        tenant: partner.id.into(),
        request_id: door.request_id.clone(),
        trace: None,
    };
    Ok(Some(send(conn, door.keyring, mail).await?))
}

/// Tells of the lines that a charge crossed.
pub(crate) async fn tell_of_quota(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    quota: &Quota,
    crossed: Crossings,
    at: DateTime<Utc>,
) -> Result<(), TellingError> {
    let Some(limit) = quota.limit.filter(|_| crossed.warning || crossed.exhausted) else { return Ok(()) };
    let partner = directory::find_by_code_or_id(conn, &partner.to_string()).await?;
    let partner = partner.ok_or(PartnerError::NotFound("partner"))?;
    let told = QuotaTold { used: quota.used, limit, resets_on: quota.month.resets_on };
    let data = json!({
        "partnerId": partner.code,
        "month": quota.month.first_day.format("%Y-%m").to_string(),
        "used": quota.used,
        "limit": quota.limit,
        "remaining": quota.remaining(),
        "resetsAt": quota.month.resets_at,
    });
    for (is_crossed, event_type, notice) in [
        (crossed.warning, EventType::QuotaWarning, Notice::QuotaWarning(told)),
        (crossed.exhausted, EventType::QuotaExhausted, Notice::QuotaExhausted(told)),
    ] {
        if is_crossed {
            tell(conn, door, &partner, News { event_type, data: data.clone(), notice, at }).await?;
        }
    }
    Ok(())
}

/// Longest subject: a line of mail.
const SUBJECT_CHARS_MAX: usize = 200;
/// Longest message.
const MESSAGE_CHARS_MAX: usize = 5_000;

fn faults_of(subject: &str, message: &str) -> Vec<FieldFault> {
    let is_sign = |sign: char| sign.is_control() && !matches!(sign, '\n' | '\r' | '\t');
    let mut faults = Vec::new();
    if !(1..=SUBJECT_CHARS_MAX).contains(&subject.chars().count()) || subject.contains(char::is_control) {
        let message = format!("one line of 1 to {SUBJECT_CHARS_MAX} characters");
        faults.push(FieldFault { field: "subject", message });
    }
    if !(1..=MESSAGE_CHARS_MAX).contains(&message.chars().count()) || message.contains(is_sign) {
        let message = format!("text of 1 to {MESSAGE_CHARS_MAX} characters");
        faults.push(FieldFault { field: "message", message });
    }
    faults
}

/// Sends a partner what an admin writes.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn send_message(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    subject: &str,
    message: &str,
) -> Result<Told, PartnerActionError> {
    let (subject, message) = (subject.trim(), message.trim());
    let faults = faults_of(subject, message);
    if !faults.is_empty() {
        return Err(PartnerError::Invalid(faults).into());
    }
    let found = directory::find_by_code_or_id(conn, &partner.to_string()).await?;
    let found = found.ok_or(PartnerError::NotFound("partner"))?;
    let data = json!({ "partnerId": found.code, "subject": subject, "message": message });
    let notice = Notice::Message { subject: subject.to_owned(), text: message.to_owned() };
    let news = News { event_type: EventType::PartnerMessage, data, notice, at: kernel::clock::now() };
    let told = tell(conn, door, &found, news).await?;
    // Admins may write about people.
    let after = json!({
        "event": told.event,
        "mail": told.mail,
        "subject": audit::digest(door.keyring, subject),
        "message": audit::digest(door.keyring, message),
    });
    record(conn, door, "partners.send_message", partner, Deed { before: None, after: Some(after) }).await?;
    Ok(told)
}
