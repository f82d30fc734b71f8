//! What operators can do to partners. Their subscription decides their share of the workers, so both change in one
//! transaction: whoever made or changed a subscription in another way would leave the share as it was.

use ::partners::{Created, NewPartner, Partner, PartnerError, SubscriptionChange, directory, share_weight};
use db::Connection;
use kernel::{ids::TenantId, sealing::Keyring};
use queue::TenantShare;

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
}

/// Makes a partner, with its share of the workers: see [`directory::create`].
///
/// # Errors
/// [`PartnerActionError`]; a taken code or wrong fields leave the transaction usable.
pub async fn create(
    conn: &mut Connection,
    keyring: &Keyring,
    new: NewPartner,
) -> Result<Created, PartnerActionError> {
    let created = directory::create(conn, keyring, new).await?;
    set_share(conn, &created.partner).await?;
    Ok(created)
}

/// Changes a partner's subscription, and its share of the workers with it. Jobs that are queued already are claimed by
/// the new share.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn change_subscription(
    conn: &mut Connection,
    partner: kernel::ids::PartnerId,
    change: SubscriptionChange,
) -> Result<Partner, PartnerActionError> {
    let partner = directory::change_subscription(conn, partner, change).await?;
    set_share(conn, &partner).await?;
    Ok(partner)
}

async fn set_share(conn: &mut Connection, partner: &Partner) -> Result<(), queue::Error> {
    let tenant = TenantId::from(partner.id);
    let weight = share_weight(partner.subscription.tier, partner.share_weight);
    // A cap that an operator set stays.
    let before = queue::tenant_share(conn, tenant).await?;
    queue::set_tenant(conn, tenant, TenantShare { weight, ..before }).await
}
