//! What can be asked of profiles through more than one door (HTTP, the demonstration).

use ::webhooks::NewDelivery;
use db::Connection;
use kernel::{
    ids::{DeliveryId, JobId, PartnerId, TenantId},
    profile_url::ProfileUrl,
    trace::TraceParent,
};
use queue::{NewJob, enqueue_many};
use serde_json::json;

use super::Enrich;
use crate::{Deed, Door, webhooks::Deliver};

/// A partner's wish to have a profile crawled.
#[derive(Debug, Clone)]
pub struct NewEnrich {
    /// Who asks.
    pub partner: PartnerId,
    /// The profile.
    pub profile: ProfileUrl,
    /// Where to tell the end of the job, already checked.
    pub callback_url: Option<String>,
    /// Where in a trace that request stands.
    pub trace: Option<TraceParent>,
}

/// Why a wish was not stored. The caller's transaction can only be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The jobs were not stored.
    #[error("the wish for a profile was not stored as a job")]
    Queue(#[from] queue::Error),
    /// The callback was not stored.
    #[error("the callback of a wish for a profile was not stored")]
    Webhooks(#[from] ::webhooks::WebhookError),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] audit::AuditError),
}

/// Stores the partner's job and, if it wants one, the callback that is sent however the job ends; all in the
/// caller's transaction. Wake [`queue::Queue::Enrich`] after the commit.
///
/// # Errors
/// A [`RequestError`] with its cause when the database refused.
pub async fn request_enrich(
    conn: &mut Connection,
    door: &Door<'_>,
    new: NewEnrich,
) -> Result<JobId, RequestError> {
    let tenant = TenantId::from(new.partner);
    let job = JobId::new();
    let after = json!({
        // It names a person.
        "profile": audit::digest(door.keyring, &new.profile.to_string()),
        "hasCallback": new.callback_url.is_some(),
    });
    let enrich = NewJob::of(&Enrich { profile: new.profile })?
        .tenant(tenant)
        .id(job)
        .request_id(door.request_id.clone())
        .traceparent(new.trace);
    match new.callback_url {
        None => drop(enqueue_many(conn, vec![enrich]).await?),
        Some(url) => {
            let delivery = DeliveryId::from_uuid(job.derive("callback"));
            let callback = NewDelivery { tenant, id: delivery, job, url: &url, subject: None };
            ::webhooks::create(conn, callback).await?;
            let deliver = NewJob::of(&Deliver { delivery })?
                .tenant(tenant)
                .id(JobId::from_uuid(job.derive("callback job")))
                .after(tenant, job)
                .request_id(door.request_id.clone())
                .traceparent(new.trace);
            enqueue_many(conn, vec![enrich.awaited(), deliver]).await?;
        }
    }
    let deed = Deed { before: None, after: Some(after) };
    door.record(conn, "profiles.enrich", &job.to_string(), tenant, deed).await?;
    Ok(job)
}
