//! What people do to partners, one function each whatever the door. They want a connection with an open transaction.
//! A partner's subscription decides its share of the workers, so both change in one transaction: whoever made or changed a
//! subscription in another way would leave the share as it was.

use std::time::Duration;

use ::partners::{
    Created, NewKey, NewPartner, Partner, PartnerError, SubscriptionChange, directory, rotation, share_weight,
};
use audit::AuditError;
use db::Connection;
use kernel::ids::{ApiKeyId, PartnerId, TenantId};
use queue::TenantShare;
use serde_json::{Value, json};

use crate::{Deed, Door};

/// Why nothing was changed. The caller's transaction can only be rolled back, unless the partner's fields were wrong or
/// its code was taken.
#[derive(Debug, thiserror::Error)]
pub enum PartnerActionError {
    /// Of the partner itself.
    #[error(transparent)]
    Partner(#[from] PartnerError),
    /// Its share of the workers was not stored.
    #[error("the partner's share of the workers was not stored")]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Makes a partner, with its share of the workers: see [`directory::create`].
///
/// # Errors
/// [`PartnerActionError`]; a taken code or wrong fields leave the transaction usable.
pub async fn create(
    conn: &mut Connection,
    door: &Door<'_>,
    new: NewPartner,
) -> Result<Created, PartnerActionError> {
    let created = directory::create(conn, door.keyring, new).await?;
    let partner = &created.partner;
    set_share(conn, partner).await?;
    let after = json!({
        "code": partner.code,
        // It may be a person's.
        "name": audit::digest(door.keyring, &partner.name),
        "tier": partner.subscription.tier,
        "rateLimitPerMinute": partner.rate_limit_per_minute,
        "keyId": created.key.id,
    });
    record(conn, door, "partners.create", partner.id, Deed { before: None, after: Some(after) }).await?;
    Ok(created)
}

/// Changes a partner's subscription, and its share of the workers with it. Jobs that are queued already are claimed by
/// the new share.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn change_subscription(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    change: SubscriptionChange,
) -> Result<Partner, PartnerActionError> {
    let before = directory::lock(conn, partner).await?;
    let after = directory::change_subscription(conn, partner, change).await?;
    set_share(conn, &after).await?;
    let deed = Deed { before: Some(bought(&before)), after: Some(bought(&after)) };
    record(conn, door, "partners.change_subscription", partner, deed).await?;
    Ok(after)
}

/// Gives a partner a new key; those before it end at once, or after `overlap`.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn rotate_key(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    overlap: Duration,
) -> Result<NewKey, PartnerActionError> {
    let key = rotation::rotate_key(conn, partner, overlap).await?;
    let after = json!({"keyId": key.id, "prefix": key.prefix, "overlapS": overlap.as_secs()});
    record(conn, door, "partners.rotate_key", partner, Deed { before: None, after: Some(after) }).await?;
    Ok(key)
}

/// Ends one key of a partner at once. Revoking it again changes nothing.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn revoke_key(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    key: ApiKeyId,
) -> Result<(), PartnerActionError> {
    rotation::revoke_key(conn, partner, key).await?;
    let after = json!({"keyId": key, "isRevoked": true});
    record(conn, door, "partners.revoke_key", partner, Deed { before: None, after: Some(after) }).await
}

/// Lets a partner call, or stops it from calling; its jobs and keys stay.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn set_active(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    is_active: bool,
) -> Result<Partner, PartnerActionError> {
    let before = directory::lock(conn, partner).await?;
    let action = match is_active {
        true => {
            directory::activate(conn, partner).await?;
            "partners.activate"
        }
        false => {
            directory::deactivate(conn, partner).await?;
            "partners.deactivate"
        }
    };
    let state = |is_active: bool| Some(json!({ "isActive": is_active }));
    let deed = Deed { before: state(before.is_active), after: state(is_active) };
    record(conn, door, action, partner, deed).await?;
    Ok(Partner { is_active, ..before })
}

async fn record(
    conn: &mut Connection,
    door: &Door<'_>,
    action: &str,
    partner: PartnerId,
    deed: Deed,
) -> Result<(), PartnerActionError> {
    Ok(door.record(conn, action, &partner.to_string(), partner.into(), deed).await?)
}

fn bought(partner: &Partner) -> Value {
    json!({"tier": partner.subscription.tier, "shareWeight": partner.share_weight})
}

async fn set_share(conn: &mut Connection, partner: &Partner) -> Result<(), queue::Error> {
    let tenant = TenantId::from(partner.id);
    let weight = share_weight(partner.subscription.tier, partner.share_weight);
    // A cap that an operator set stays.
    let before = queue::lock_tenant_share(conn, tenant).await?;
    queue::set_tenant(conn, tenant, TenantShare { weight, ..before }).await
}
