//! What becomes of subscriptions: changes by people, and the steps of the calendar. Each is noted in the subscription's
//! history and told to the partner, in one transaction with the change.
//!
//! A subscription decides its partner's share of the workers, so both change together: whoever made or changed a
//! subscription in another way would leave the share as it was.

use ::partners::changes::{self, NewChange};
use ::partners::renewal::Step;
use ::partners::{Partner, PartnerError, Quota, SubscriptionChange, directory, quota, share_weight};
use ::webhooks::EventType;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::{PartnerId, TenantId};
use queue::TenantShare;
use serde_json::{Value, json};

use super::actions::{PartnerActionError, record};
use super::notice::Notice;
use super::telling::{News, tell};
use crate::{Deed, Door};

/// A change of a subscription, and of what is used of its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionOrder {
    /// What is to be different.
    pub change: SubscriptionChange,
    /// What counts as used of the present month.
    pub used: Option<u32>,
    /// Why, in the words of whoever wants it.
    pub reason: Option<String>,
    /// In which time zone months of quota begin.
    pub zone: Tz,
}

impl SubscriptionOrder {
    /// A change for no particular reason.
    #[must_use]
    pub fn of(change: SubscriptionChange, zone: Tz) -> Self {
        Self { change, used: None, reason: None, zone }
    }
}

/// Changes a partner's subscription, and its share of the workers with it. Jobs that are queued already are claimed by
/// the new share. The partner is told of what it can see. Wake [`queue::Queue::Maintenance`] after the commit.
///
/// # Errors
/// [`PartnerActionError`].
pub async fn change_subscription(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    order: SubscriptionOrder,
) -> Result<Partner, PartnerActionError> {
    let SubscriptionOrder { change, used, reason, zone } = order;
    let before = directory::lock(conn, partner).await?;
    let is_change = change != SubscriptionChange::default();
    let after = directory::change_subscription(conn, partner, change).await?;
    set_share(conn, &after).await?;
    let at = quota::calendar_now(conn).await?;
    let quota = correct_quota(conn, &before, &after, used, at, zone).await?;
    let now_used = quota.as_ref().filter(|_| used.is_some()).map(|(_, now)| now.used);
    if standing(&before) != standing(&after) || now_used.is_some() {
        let mut data = standing(&after);
        data["usedThisMonth"] = json!(now_used);
        let notice = Notice::SubscriptionUpdated {
            tier: after.subscription.tier,
            status: after.subscription.status,
            ends_at: after.subscription.ends_at,
            quota: after.quota_limit(),
            used: now_used,
        };
        tell(conn, door, &after, News { event_type: EventType::SubscriptionUpdated, data, notice, at })
            .await?;
    }
    let digest = reason.as_ref().map(|reason| audit::digest(door.keyring, reason));
    let reason = reason.as_deref();
    if is_change {
        let (before, mut after) = (bought(&before), bought(&after));
        history(conn, door, partner, ("partners.change_subscription", &before, &after, reason)).await?;
        if digest.is_some() {
            after["reason"] = json!(digest);
        }
        let deed = Deed { before: Some(before), after: Some(after) };
        record(conn, door, "partners.change_subscription", partner, deed).await?;
    }
    if let Some((was, now)) = quota.filter(|_| used.is_some()) {
        let of = |quota: &Quota| json!({ "month": quota.month.first_day, "used": quota.used });
        let (before, mut after) = (of(&was), of(&now));
        history(conn, door, partner, ("partners.set_quota_used", &before, &after, reason)).await?;
        // Admins may name people in it.
        after["reason"] = json!(digest);
        let deed = Deed { before: Some(before), after: Some(after) };
        record(conn, door, "partners.set_quota_used", partner, deed).await?;
    }
    Ok(after)
}

/// Sets what is used of the present month, if that is wanted. Another limit alone lets the lines that usage no longer
/// reaches be told of again when they are crossed anew.
async fn correct_quota(
    conn: &mut Connection,
    before: &Partner,
    after: &Partner,
    used: Option<u32>,
    at: DateTime<Utc>,
    zone: Tz,
) -> Result<Option<(Quota, Quota)>, PartnerError> {
    if used.is_none() && before.quota_limit() == after.quota_limit() {
        return Ok(None);
    }
    let tenant = TenantId::from(after.id);
    let locked = quota::lock(conn, tenant, at, zone).await?;
    let now = quota::set_used(conn, tenant, &locked, used.unwrap_or(locked.quota.used)).await?;
    Ok(Some((locked.quota, now)))
}

async fn history(
    conn: &mut Connection,
    door: &Door<'_>,
    partner: PartnerId,
    (action, before, after, reason): (&str, &Value, &Value, Option<&str>),
) -> Result<(), PartnerError> {
    let change = NewChange { by: door.by(), action, before: before.clone(), after: after.clone(), reason };
    changes::note(conn, partner.into(), change).await
}

/// Notes and tells of a step that the calendar asked for. Wake [`queue::Queue::Maintenance`] after the commit.
pub(super) async fn tell_of_step(
    conn: &mut Connection,
    door: &Door<'_>,
    before: &Partner,
    step: Step,
    at: DateTime<Utc>,
) -> Result<(), PartnerActionError> {
    let partner = before.id;
    let after = directory::find_by_code_or_id(conn, &partner.to_string()).await?;
    let after = after.ok_or(PartnerError::NotFound("partner"))?;
    let (action, event_type, notice) = match step {
        Step::Tell { ends_at } => (
            "partners.tell_of_end",
            EventType::SubscriptionExpiring,
            Notice::SubscriptionExpiring { ends_at, auto_renew: after.subscription.auto_renew },
        ),
        Step::Renew { ends_at, .. } => {
            ("partners.renew", EventType::SubscriptionUpdated, Notice::SubscriptionRenewed { ends_at })
        }
        Step::BeginGrace { until } => (
            "partners.begin_grace",
            EventType::SubscriptionGracePeriod,
            Notice::SubscriptionGracePeriod { until },
        ),
        Step::Expire => ("partners.expire", EventType::SubscriptionExpired, Notice::SubscriptionExpired),
    };
    tell(conn, door, &after, News { event_type, data: standing(&after), notice, at }).await?;
    let (before, after) = (bought(before), bought(&after));
    if !matches!(step, Step::Tell { .. }) {
        history(conn, door, partner, (action, &before, &after, None)).await?;
    }
    record(conn, door, action, partner, Deed { before: Some(before), after: Some(after) }).await
}

/// What a partner can see of its subscription.
fn standing(partner: &Partner) -> Value {
    let subscription = &partner.subscription;
    json!({
        "partnerId": partner.code,
        "tier": subscription.tier,
        "status": subscription.status,
        "startDate": subscription.starts_at,
        "endDate": subscription.ends_at,
        "autoRenew": subscription.auto_renew,
        "monthlyQuota": partner.quota_limit(),
    })
}

/// What was bought, for the records.
pub(super) fn bought(partner: &Partner) -> Value {
    let subscription = &partner.subscription;
    json!({
        "tier": subscription.tier,
        "status": subscription.status,
        "startDate": subscription.starts_at,
        "endDate": subscription.ends_at,
        "autoRenew": subscription.auto_renew,
        "monthlyQuota": partner.monthly_quota,
        "shareWeight": partner.share_weight,
    })
}

/// Gives a partner the share of the workers that its subscription says.
pub(super) async fn set_share(conn: &mut Connection, partner: &Partner) -> Result<(), queue::Error> {
    let tenant = TenantId::from(partner.id);
    let weight = share_weight(partner.subscription.tier, partner.share_weight);
    // A cap that an operator set stays.
    let before = queue::lock_tenant_share(conn, tenant).await?;
    queue::set_tenant(conn, tenant, TenantShare { weight, ..before }).await
}
