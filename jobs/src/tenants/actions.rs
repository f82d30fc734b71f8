//! What operators do to tenants' shares of the workers. The function wants a connection with an open transaction, to be
//! rolled back on an error.

use ::partners::{PartnerError, SubscriptionChange, directory, share_weight};
use audit::AuditError;
use db::Connection;
use kernel::ids::{PartnerId, TenantId};
use queue::TenantShare;
use serde_json::{Value, json};

use crate::{Deed, Door};

/// Largest weight.
const WEIGHT_MAX: i16 = 1_000;

/// What is to be different about a tenant's share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareChange {
    /// A weight of its own, 1 to 1,000, or again the one it has by itself: that of a partner's tier, and 1.
    pub weight: Option<Option<i16>>,
    /// Jobs of its share running at once, or no bound.
    pub concurrency_max: Option<Option<i32>>,
}

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TenantActionError {
    /// There is no such tenant.
    #[error("no partner has this id, and the system is another")]
    NotFound(TenantId),
    /// It cannot be what was asked for.
    #[error("{field}: {message}")]
    Invalid {
        /// What is wrong.
        field: &'static str,
        /// What is allowed.
        message: String,
    },
    /// The partner was not read or changed.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// The share was not read or changed.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Changes a tenant's share of the workers, and answers what it is then. Jobs that are queued already are claimed by the
/// new one. A partner's weight stays when its subscription changes, until it is taken back.
///
/// # Errors
/// [`TenantActionError`].
pub async fn set_share(
    conn: &mut Connection,
    door: &Door<'_>,
    tenant: TenantId,
    change: ShareChange,
) -> Result<TenantShare, TenantActionError> {
    check(&change)?;
    // A partner before its share, as whoever changes its subscription does.
    if tenant != TenantId::SYSTEM {
        lock_partner(conn, tenant).await?;
    }
    let before = queue::lock_tenant_share(conn, tenant).await?;
    let weight = weight(conn, tenant, change.weight).await?.unwrap_or(before.weight);
    let concurrency_max = change.concurrency_max.unwrap_or(before.concurrency_max);
    let after = TenantShare { weight, concurrency_max };
    queue::set_tenant(conn, tenant, after).await?;
    let deed = Deed { before: Some(state(before)), after: Some(state(after)) };
    door.record(conn, "tenants.set_share", &name(tenant), tenant, deed).await?;
    Ok(after)
}

async fn lock_partner(conn: &mut Connection, tenant: TenantId) -> Result<(), TenantActionError> {
    match directory::lock(conn, PartnerId::from_uuid(tenant.uuid())).await {
        Ok(_) => Ok(()),
        Err(PartnerError::NotFound(_)) => Err(TenantActionError::NotFound(tenant)),
        Err(error) => Err(error.into()),
    }
}

/// The weight that a change comes to, noted where it comes from; none: it stays.
async fn weight(
    conn: &mut Connection,
    tenant: TenantId,
    change: Option<Option<i16>>,
) -> Result<Option<i16>, TenantActionError> {
    if tenant == TenantId::SYSTEM {
        return Ok(change.map(|weight| weight.unwrap_or(TenantShare::default().weight)));
    }
    if change.is_none() {
        return Ok(None);
    }
    let partner = PartnerId::from_uuid(tenant.uuid());
    let change = SubscriptionChange { share_weight: change, ..SubscriptionChange::default() };
    let changed = directory::change_subscription(conn, partner, change).await?;
    Ok(Some(share_weight(changed.subscription.tier, changed.share_weight)))
}

fn check(change: &ShareChange) -> Result<(), TenantActionError> {
    let invalid = |field, message: String| Err(TenantActionError::Invalid { field, message });
    if let Some(Some(weight)) = change.weight
        && !(1..=WEIGHT_MAX).contains(&weight)
    {
        return invalid("weight", format!("a whole number from 1 to {WEIGHT_MAX}"));
    }
    if let Some(Some(jobs)) = change.concurrency_max
        && jobs < 1
    {
        return invalid("concurrencyMax", format!("a whole number from 1 to {}", i32::MAX));
    }
    Ok(())
}

fn state(share: TenantShare) -> Value {
    json!({"weight": share.weight, "concurrencyMax": share.concurrency_max})
}

/// As people know it.
fn name(tenant: TenantId) -> String {
    match tenant {
        TenantId::SYSTEM => "system".to_owned(),
        partner => PartnerId::from_uuid(partner.uuid()).to_string(),
    }
}
