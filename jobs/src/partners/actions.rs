//! What people do to partners, one function each whatever the door. They want a connection with an open transaction.

use std::time::Duration;

use ::partners::{
    Created, NewKey, NewPartner, Partner, PartnerChange, PartnerError, directory,
    rotation::{self, KeyTerms},
};
use audit::AuditError;
use db::Connection;
use kernel::ids::{ApiKeyId, PartnerId};
use serde_json::{Value, json};

use super::subscription::{bought, set_share};
use super::telling::TellingError;

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
    /// What the partner is to be told was not stored.
    #[error(transparent)]
    Telling(#[from] TellingError),
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
    let mut after = known(door, partner)?;
    after["code"] = json!(partner.code);
    after["subscription"] = bought(partner);
    after["keyId"] = json!(created.key.id);
    record(conn, door, "partners.create", partner.id, Deed { before: None, after: Some(after) }).await?;
    Ok(created)
}

/// Changes what is known of a partner.
///
/// # Errors
/// [`PartnerActionError`]; wrong fields leave the transaction usable.
pub async fn update(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    change: PartnerChange,
) -> Result<Partner, PartnerActionError> {
    let before = directory::lock(conn, partner).await?;
    let after = directory::update(conn, door.keyring, &before, change).await?;
    let deed = Deed { before: Some(known(door, &before)?), after: Some(known(door, &after)?) };
    record(conn, door, "partners.update", partner, deed).await?;
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
    terms: KeyTerms,
) -> Result<NewKey, PartnerActionError> {
    let key = rotation::rotate_key(conn, partner, overlap, &terms).await?;
    let expires_at = terms.expires_at;
    let after = json!({
        "keyId": key.id, "prefix": key.prefix, "expiresAt": expires_at, "overlapS": overlap.as_secs()
    });
    record(conn, door, "partners.rotate_key", partner, Deed { before: None, after: Some(after) }).await?;
    Ok(key)
}

/// Gives a partner another key beside those it has.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn add_key(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    terms: KeyTerms,
) -> Result<NewKey, PartnerActionError> {
    let key = rotation::add_key(conn, partner, &terms).await?;
    let after = json!({"keyId": key.id, "prefix": key.prefix, "expiresAt": terms.expires_at});
    record(conn, door, "partners.add_key", partner, Deed { before: None, after: Some(after) }).await?;
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
    let mut now = directory::lock(conn, partner).await?;
    let was_active = now.is_active;
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
    let deed = Deed { before: state(was_active), after: state(is_active) };
    record(conn, door, action, partner, deed).await?;
    now.is_active = is_active;
    Ok(now)
}

pub(super) async fn record(
    conn: &mut Connection,
    door: &Door<'_>,
    action: &str,
    partner: PartnerId,
    deed: Deed,
) -> Result<(), PartnerActionError> {
    Ok(door.record(conn, action, &partner.to_string(), partner.into(), deed).await?)
}

/// What is known of a partner; what may be of a person only as a digest.
fn known(door: &Door<'_>, partner: &Partner) -> Result<Value, PartnerError> {
    let contact = partner.contact(door.keyring)?;
    let digest = |value: &Option<String>| value.as_ref().map(|value| audit::digest(door.keyring, value));
    Ok(json!({
        "name": audit::digest(door.keyring, &partner.name),
        "rateLimitPerMinute": partner.rate_limit_per_minute,
        "contactName": digest(&contact.name),
        "contactEmail": contact.email.as_ref().map(|email| audit::digest(door.keyring, email.as_str())),
        "contactPhone": digest(&contact.phone),
    }))
}
