//! What can be asked of the pool, one function each whatever the door. They want a connection with an open transaction.

use std::collections::HashSet;

use ::partners::requests::{charged, decide, store};
use ::partners::{InfluencerRequest, Outcome, PartnerError, quota};
use ::pool::{PoolEntry, PoolError, servable};
use audit::AuditError;
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::{ApiKeyId, InfluencerId, PartnerId, RequestId, TenantId};
use serde_json::json;

use crate::partners::{TellingError, tell_of_quota};
use crate::{Deed, Door};

/// A partner's request for influencers.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who asks.
    pub partner: PartnerId,
    /// With which key.
    pub key: ApiKeyId,
    /// Whom for, in the order in which quota is spent.
    pub influencers: Vec<InfluencerId>,
    /// Why, in the partner's words.
    pub reason: Option<String>,
    /// In which time zone months of quota begin.
    pub zone: Tz,
}

/// Why nothing was decided. The caller's transaction can only be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Of the partner's quota or the record of the request.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// Of the pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The partner could not be told.
    #[error(transparent)]
    Telling(#[from] TellingError),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Decides a request: approves while there is quota, charges it, records it and tells of lines that were crossed; all
/// in the caller's transaction, in which the partner's other requests of the month wait.
///
/// # Errors
/// [`RequestError`].
pub async fn request_influencers(
    conn: &mut Connection,
    door: &Door<'_>,
    asking: Asking,
) -> Result<(InfluencerRequest, Vec<PoolEntry>), RequestError> {
    let (tenant, zone) = (TenantId::from(asking.partner), asking.zone);
    let at = quota::calendar_now(conn).await?;
    let locked = quota::lock(conn, tenant, at, zone).await?;
    let entries = servable(conn, &asking.influencers).await?;
    let month = locked.quota.month.first_day;
    let decisions = decide(
        &asking.influencers,
        &entries.iter().map(|entry| entry.id).collect::<HashSet<_>>(),
        &charged(conn, tenant, month, &asking.influencers).await?,
        locked.quota.remaining(),
    );
    let units = decisions.iter().filter(|decision| decision.is_charged).count();
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    let (quota, crossed) = quota::charge(conn, tenant, &locked, units, at).await?;
    let id = RequestId::new();
    let Asking { key, reason, .. } = asking;
    let request = InfluencerRequest { id, key, reason, decisions, quota, requested_at: at };
    store(conn, tenant, &request, zone).await?;
    tell_of_quota(conn, door, asking.partner, &quota, crossed, at).await?;
    let after = json!({
        "keyId": request.key,
        "status": request.status().as_str(),
        "approved": request.with(Outcome::Approved).collect::<Vec<_>>(),
        "denied": request.decisions.len() - request.with(Outcome::Approved).count(),
        "charged": units,
        "quotaUsed": quota.used,
        // It may name a person.
        "reason": request.reason.as_ref().map(|reason| audit::digest(door.keyring, reason)),
    });
    let deed = Deed { before: Some(json!({"quotaUsed": locked.quota.used})), after: Some(after) };
    door.record(conn, "pool.request", &id.to_string(), tenant, deed).await?;
    Ok((request, entries))
}
