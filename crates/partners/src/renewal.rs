//! What the calendar does to subscriptions: tell ahead of the end, renew, begin the grace period, expire.
//!
//! Guarantees: each step is taken once for each end, whoever looks how often, because it is taken under a lock and leaves
//! a mark that [`step`] reads. A subscription that nobody looked at for long takes all its steps, one after the other.
//! How a subscription stands does not depend on this: [`Subscription::at`] reads it off the calendar.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::PartnerId;

use crate::error::PartnerError;
use crate::subscription::{EXPIRING, GRACE, Subscription, SubscriptionStatus};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The partner is to be told that the end is near.
    Tell {
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// Another period of the same length has begun.
    Renew {
        /// When the new one began.
        starts_at: DateTime<Utc>,
        /// When it ends.
        ends_at: DateTime<Utc>,
    },
    /// It has ended and works on for a while.
    BeginGrace {
        /// Until when.
        until: DateTime<Utc>,
    },
    /// The grace period is over.
    Expire,
}

/// The next step of a subscription whose stored status is given, if one is due at an instant. `told_of` is the end of
/// which the partner was told ahead.
pub fn step(stored: &Subscription, told_of: Option<DateTime<Utc>>, at: DateTime<Utc>) -> Option<Step> {
    let ends_at = stored.ends_at?;
    match stored.status {
        SubscriptionStatus::Suspended | SubscriptionStatus::Expired => None,
        SubscriptionStatus::Active if at < ends_at => {
            let is_near = ends_at - at <= EXPIRING && told_of != Some(ends_at);
            is_near.then_some(Step::Tell { ends_at })
        }
        // Renewed late, it was never without a period: the new one begins where the old one ended.
        _ if stored.auto_renew && at >= ends_at => {
            let length = ends_at - stored.starts_at;
            Some(Step::Renew { starts_at: ends_at, ends_at: ends_at + length })
        }
        SubscriptionStatus::Active => Some(Step::BeginGrace { until: ends_at + GRACE }),
        SubscriptionStatus::GracePeriod => (at >= ends_at + GRACE).then_some(Step::Expire),
    }
}

/// Partners whose subscriptions may have a step to take, at most `rows_max`, in the order of their ends.
pub async fn due(
    conn: &mut Connection,
    after: Option<PartnerId>,
    rows_max: u32,
) -> Result<Vec<PartnerId>, PartnerError> {
    let ids = sqlx::query_scalar!(
        "
        select tenant_id from partner_subscriptions
        where end_date <= calendar_now() + interval '7 days'
          and ($1::uuid is null or tenant_id > $1)
          and (
              status = 'active' and end_date > calendar_now() and told_of_end is distinct from end_date
              or status in ('active', 'grace_period') and end_date <= calendar_now() and auto_renew
              or status = 'active' and end_date <= calendar_now()
              or status = 'grace_period' and end_date + interval '7 days' <= calendar_now()
          )
        order by tenant_id
        limit $2
        ",
        after.map(PartnerId::uuid),
        i64::from(rows_max),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(PartnerId::from_uuid).collect())
}

/// Takes the next step of a partner's subscription, if one is due still, under a lock to the end of the caller's
/// transaction.
pub async fn take_step(conn: &mut Connection, partner: PartnerId) -> Result<Option<Step>, PartnerError> {
    let row = sqlx::query!(
        r#"
        select tier as "tier: crate::SubscriptionTier", status as "status: SubscriptionStatus", start_date, end_date,
               auto_renew, told_of_end, calendar_now() as "today!"
        from partner_subscriptions where tenant_id = $1
        for no key update
        "#,
        partner.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?
    .ok_or(PartnerError::NotFound("partner"))?;
    let stored = Subscription {
        tier: row.tier,
        status: row.status,
        starts_at: row.start_date,
        ends_at: row.end_date,
        auto_renew: row.auto_renew,
    };
    let Some(step) = step(&stored, row.told_of_end, row.today) else { return Ok(None) };
    let (status, starts_at, ends_at, told_of) = match step {
        Step::Tell { ends_at } => (stored.status, stored.starts_at, stored.ends_at, Some(ends_at)),
        Step::Renew { starts_at, ends_at } => {
            (SubscriptionStatus::Active, starts_at, Some(ends_at), row.told_of_end)
        }
        Step::BeginGrace { .. } => {
            (SubscriptionStatus::GracePeriod, stored.starts_at, stored.ends_at, row.told_of_end)
        }
        Step::Expire => (SubscriptionStatus::Expired, stored.starts_at, stored.ends_at, row.told_of_end),
    };
    sqlx::query!(
        "
        update partner_subscriptions
        set status = $2, start_date = $3, end_date = $4, told_of_end = $5, updated_at = now()
        where tenant_id = $1
        ",
        partner.uuid(),
        status.as_str(),
        starts_at,
        ends_at,
        told_of,
    )
    .execute(conn)
    .await?;
    Ok(Some(step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::SubscriptionTier;

    const STARTS: &str = "2026-01-01T00:00:00Z";
    const ENDS: &str = "2026-07-01T00:00:00Z";

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn stored(status: SubscriptionStatus, auto_renew: bool) -> Subscription {
        Subscription {
            tier: SubscriptionTier::Basic,
            status,
            starts_at: at(STARTS),
            ends_at: Some(at(ENDS)),
            auto_renew,
        }
    }

    #[test]
    fn a_subscription_is_told_of_ends_once_and_goes_through_grace_to_its_end() {
        use SubscriptionStatus::{Active, Expired, GracePeriod, Suspended};
        let ends_at = at(ENDS);
        for (status, told, instant, expected) in [
            (Active, None, "2026-06-23T23:59:59Z", None),
            (Active, None, "2026-06-24T00:00:00Z", Some(Step::Tell { ends_at })),
            (Active, Some(ENDS), "2026-06-30T00:00:00Z", None),
            // Told of an end that was moved since.
            (Active, Some("2026-06-25T00:00:00Z"), "2026-06-30T00:00:00Z", Some(Step::Tell { ends_at })),
            (Active, Some(ENDS), ENDS, Some(Step::BeginGrace { until: at("2026-07-08T00:00:00Z") })),
            (GracePeriod, Some(ENDS), "2026-07-07T23:59:59Z", None),
            (GracePeriod, Some(ENDS), "2026-07-08T00:00:00Z", Some(Step::Expire)),
            (Expired, Some(ENDS), "2027-01-01T00:00:00Z", None),
            (Suspended, None, "2027-01-01T00:00:00Z", None),
        ] {
            assert_eq!(
                step(&stored(status, false), told.map(at), at(instant)),
                expected,
                "{status} {instant}"
            );
        }
    }

    #[test]
    fn a_subscription_that_renews_itself_goes_on_from_where_it_ended() {
        let renewed = Step::Renew { starts_at: at(ENDS), ends_at: at("2026-12-29T00:00:00Z") };
        for (status, instant) in [
            (SubscriptionStatus::Active, ENDS),
            (SubscriptionStatus::Active, "2027-06-01T00:00:00Z"),
            (SubscriptionStatus::GracePeriod, "2026-07-03T00:00:00Z"),
        ] {
            assert_eq!(step(&stored(status, true), Some(at(ENDS)), at(instant)), Some(renewed), "{instant}");
        }
        let never = Subscription { ends_at: None, ..stored(SubscriptionStatus::Active, true) };
        assert_eq!(step(&never, None, at(ENDS)), None);
    }
}
