//! What can be asked of profiles through more than one door (HTTP, the demonstration).

use ::webhooks::NewDelivery;
use db::Connection;
use kernel::{
    ids::{DeliveryId, JobId, PartnerId, TenantId},
    profile_url::ProfileUrl,
    trace::TraceParent,
};
use queue::{NewJob, enqueue_many};

use super::Enrich;
use crate::webhooks::Deliver;

/// A partner's wish to have a profile crawled.
#[derive(Debug, Clone)]
pub struct NewEnrich {
    /// Who asks.
    pub partner: PartnerId,
    /// The profile.
    pub profile: ProfileUrl,
    /// Where to tell the end of the job, already checked.
    pub callback_url: Option<String>,
    /// The request that carried the wish.
    pub request_id: Option<String>,
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
}

/// Stores the partner's job and, if it wants one, the callback that is sent however the job ends; all in the
/// caller's transaction. Wake [`queue::Queue::Enrich`] after the commit.
///
/// # Errors
/// A [`RequestError`] with its cause when the database refused.
pub async fn request_enrich(conn: &mut Connection, new: NewEnrich) -> Result<JobId, RequestError> {
    let tenant = TenantId::from(new.partner);
    let job = JobId::new();
    let enrich = NewJob::of(&Enrich { profile: new.profile })?
        .tenant(tenant)
        .id(job)
        .request_id(new.request_id.clone())
        .traceparent(new.trace);
    let Some(url) = new.callback_url else {
        enqueue_many(conn, vec![enrich]).await?;
        return Ok(job);
    };
    let delivery = DeliveryId::from_uuid(job.derive("callback"));
    ::webhooks::create(conn, NewDelivery { tenant, id: delivery, job, url: &url, subject: None }).await?;
    let deliver = NewJob::of(&Deliver { delivery })?
        .tenant(tenant)
        .id(JobId::from_uuid(job.derive("callback job")))
        .after(tenant, job)
        .request_id(new.request_id)
        .traceparent(new.trace);
    enqueue_many(conn, vec![enrich.awaited(), deliver]).await?;
    Ok(job)
}
