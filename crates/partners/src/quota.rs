//! How many influencers a partner may have a month, and how many it has had.
//!
//! Guarantees: usage belongs to the calendar month, in the quota's time zone, in which a request was made, so that the
//! turn of a month needs no job and knows no race: a request before it counts in the old month, one after it in the
//! new. [`lock`] puts a partner's requests in order, so however many come at once, never more than the quota is
//! approved. The figure that is told is the figure that is charged: there is one row, and no cache.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::TenantId;

use crate::error::PartnerError;
use crate::subscription::SubscriptionTier;

/// A month of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaMonth {
    /// Its first day, in the quota's time zone.
    pub first_day: NaiveDate,
    /// When the next one begins.
    pub resets_at: DateTime<Utc>,
    /// The first day of the next one, in the quota's time zone.
    pub resets_on: NaiveDate,
}

impl QuotaMonth {
    /// The month that an instant is in.
    pub fn at(instant: DateTime<Utc>, zone: Tz) -> Self {
        let day = instant.with_timezone(&zone).date_naive();
        let first_day = day.with_day(1).unwrap_or(day);
        let resets_on = first_day.checked_add_months(chrono::Months::new(1)).unwrap_or(first_day);
        Self { first_day, resets_at: midnight(resets_on, zone), resets_on }
    }
}

/// The instant at which a day begins. Where clocks skip midnight it begins when they go on.
pub(crate) fn midnight(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let begins = (0..24).find_map(|hour| zone.from_local_datetime(&day.and_hms_opt(hour, 0, 0)?).earliest());
    begins.map_or_else(|| day.and_time(chrono::NaiveTime::MIN).and_utc(), |begins| begins.to_utc())
}

/// A partner's quota as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Of which month.
    pub month: QuotaMonth,
    /// Influencers used.
    pub used: u32,
    /// Influencers that may be used; none: as many as wanted.
    pub limit: Option<u32>,
}

impl Quota {
    /// How many are left; none: as many as wanted.
    pub fn remaining(&self) -> Option<u32> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }

    /// Whether 80% (rounded up) is used.
    pub fn is_nearly_used(&self) -> bool {
        let warning_at = |limit: u32| (u64::from(limit) * 4).div_ceil(5);
        self.limit.is_some_and(|limit| u64::from(self.used) >= warning_at(limit))
    }

    /// Whether all is used.
    pub fn is_exhausted(&self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }
}

/// What the partner is to be told after a charge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossings {
    /// 80% is used, for the first time in this month.
    pub warning: bool,
    /// All is used, for the first time in this month.
    pub exhausted: bool,
}

/// A month that is locked for a charge to the end of the caller's transaction.
#[derive(Debug)]
pub struct LockedQuota {
    /// As it stands, and will until the transaction's end.
    pub quota: Quota,
    is_warned: bool,
    is_exhausted: bool,
}

/// The time by which calendars are read: the database's, so that all processes agree.
pub async fn calendar_now(conn: &mut Connection) -> Result<DateTime<Utc>, PartnerError> {
    Ok(sqlx::query_scalar!(r#"select calendar_now() as "now!""#).fetch_one(conn).await?)
}

/// A partner's quota at an instant.
pub async fn read(
    conn: &mut Connection,
    tenant: TenantId,
    at: DateTime<Utc>,
    zone: Tz,
) -> Result<Quota, PartnerError> {
    let month = QuotaMonth::at(at, zone);
    let row = sqlx::query!(
        r#"
        select s.tier as "tier: SubscriptionTier", s.monthly_quota,
               coalesce(m.charged + m.adjusted, 0) as "used!"
        from partner_subscriptions s
        left join partner_quota_months m on m.tenant_id = s.tenant_id and m.month = $2
        where s.tenant_id = $1
        "#,
        tenant.uuid(),
        month.first_day,
    )
    .fetch_optional(conn)
    .await?
    .ok_or(PartnerError::NotFound("partner"))?;
    Ok(Quota { month, used: row.used.unsigned_abs(), limit: limit(row.tier, row.monthly_quota) })
}

/// The same, locked for a charge: whoever else wants to charge the partner in this month waits for the caller's
/// transaction.
pub async fn lock(
    conn: &mut Connection,
    tenant: TenantId,
    at: DateTime<Utc>,
    zone: Tz,
) -> Result<LockedQuota, PartnerError> {
    let month = QuotaMonth::at(at, zone);
    // An update that changes nothing takes the lock of a row that is there, and answers it as it is then.
    let row = sqlx::query!(
        r#"
        insert into partner_quota_months as m (tenant_id, month) values ($1, $2)
        on conflict (tenant_id, month) do update set charged = m.charged
        returning charged + adjusted as "used!", warned_at is not null as "is_warned!",
                  exhausted_at is not null as "is_exhausted!"
        "#,
        tenant.uuid(),
        month.first_day,
    )
    .fetch_one(&mut *conn)
    .await?;
    // After the lock, so that a change of the subscription that was waited for counts.
    let bought = sqlx::query!(
        r#"select tier as "tier: SubscriptionTier", monthly_quota from partner_subscriptions where tenant_id = $1"#,
        tenant.uuid(),
    )
    .fetch_optional(conn)
    .await?
    .ok_or(PartnerError::NotFound("partner"))?;
    let limit = limit(bought.tier, bought.monthly_quota);
    let quota = Quota { month, used: row.used.unsigned_abs(), limit };
    Ok(LockedQuota { quota, is_warned: row.is_warned, is_exhausted: row.is_exhausted })
}

/// Charges a locked month, and answers how it stands then and what the partner is to be told.
pub async fn charge(
    conn: &mut Connection,
    tenant: TenantId,
    locked: &LockedQuota,
    units: u32,
    at: DateTime<Utc>,
) -> Result<(Quota, Crossings), PartnerError> {
    let quota = Quota { used: locked.quota.used.saturating_add(units), ..locked.quota };
    let crossings = Crossings {
        warning: units > 0 && quota.is_nearly_used() && !locked.is_warned,
        exhausted: units > 0 && quota.is_exhausted() && !locked.is_exhausted,
    };
    if units > 0 {
        sqlx::query!(
            "
            update partner_quota_months
            set charged = charged + $3,
                warned_at = case when $4 then $6 else warned_at end,
                exhausted_at = case when $5 then $6 else exhausted_at end
            where tenant_id = $1 and month = $2
            ",
            tenant.uuid(),
            quota.month.first_day,
            units.cast_signed(),
            crossings.warning,
            crossings.exhausted,
            at,
        )
        .execute(conn)
        .await?;
    }
    Ok((quota, crossings))
}

/// Corrects a locked month by hand, and answers how it stands then. A line that usage no longer reaches may be told of
/// again when it does.
pub async fn set_used(
    conn: &mut Connection,
    tenant: TenantId,
    locked: &LockedQuota,
    used: u32,
) -> Result<Quota, PartnerError> {
    let quota = Quota { used, ..locked.quota };
    sqlx::query!(
        "
        update partner_quota_months
        set adjusted = $3 - charged,
            warned_at = case when $4 then warned_at end,
            exhausted_at = case when $5 then exhausted_at end
        where tenant_id = $1 and month = $2
        ",
        tenant.uuid(),
        quota.month.first_day,
        used.cast_signed(),
        quota.is_nearly_used(),
        quota.is_exhausted(),
    )
    .execute(conn)
    .await?;
    Ok(quota)
}

/// What all partners have used of the month that an instant is in; those who used nothing are not there.
pub async fn used_by_all(
    conn: &mut Connection,
    at: DateTime<Utc>,
    zone: Tz,
) -> Result<HashMap<TenantId, u32>, PartnerError> {
    let rows = sqlx::query!(
        r#"select tenant_id, charged + adjusted as "used!" from partner_quota_months where month = $1"#,
        QuotaMonth::at(at, zone).first_day,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), row.used.unsigned_abs())).collect())
}

/// Influencers charged on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUsage {
    /// The day, in the quota's time zone.
    pub day: NaiveDate,
    /// How many.
    pub count: u32,
}

/// Usage of the last `days` days, today first, days without any included.
pub async fn usage(
    conn: &mut Connection,
    tenant: TenantId,
    at: DateTime<Utc>,
    zone: Tz,
    days: u32,
) -> Result<Vec<DayUsage>, PartnerError> {
    let today = at.with_timezone(&zone).date_naive();
    let first = today.checked_sub_days(Days::new(u64::from(days.saturating_sub(1)))).unwrap_or(today);
    let rows = sqlx::query!(
        r#"
        select day, count(*) as "count!" from influencer_request_items
        where tenant_id = $1 and is_charged and day between $2 and $3
        group by day
        "#,
        tenant.uuid(),
        first,
        today,
    )
    .fetch_all(conn)
    .await?;
    let on = |day| rows.iter().find(|row| row.day == day).map_or(0, |row| row.count);
    let days = (0..u64::from(days)).filter_map(|back| today.checked_sub_days(Days::new(back)));
    Ok(days.map(|day| DayUsage { day, count: u32::try_from(on(day)).unwrap_or(u32::MAX) }).collect())
}

/// What a subscription allows: what it was given, else what its tier has.
fn limit(tier: SubscriptionTier, monthly_quota: Option<i32>) -> Option<u32> {
    monthly_quota.map(i32::unsigned_abs).or_else(|| tier.monthly_quota())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: Tz = chrono_tz::Asia::Ho_Chi_Minh;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    // S0-070
    #[test]
    fn a_month_turns_over_at_midnight_of_its_own_time_zone() {
        let january = QuotaMonth::at(at("2026-01-31T16:59:59.999Z"), ZONE);
        assert_eq!(january.first_day.to_string(), "2026-01-01");
        assert_eq!(january.resets_at, at("2026-01-31T17:00:00Z"));
        assert_eq!(january.resets_on.to_string(), "2026-02-01");
        let february = QuotaMonth::at(january.resets_at, ZONE);
        assert_eq!(february.first_day, january.resets_on);
        let december = QuotaMonth::at(at("2026-12-31T12:00:00Z"), ZONE);
        assert_eq!(december.resets_on.to_string(), "2027-01-01");
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_when_clocks_go_on() {
        // Clocks in Beirut went from 23:59:59 to 01:00 that night.
        let day = NaiveDate::from_ymd_opt(2024, 3, 31).unwrap();
        assert_eq!(midnight(day, chrono_tz::Asia::Beirut), at("2024-03-30T22:00:00Z"));
    }

    // S0-073, S0-074
    #[test]
    fn eighty_percent_is_rounded_up_and_no_limit_has_no_lines() {
        let of = |used, limit| {
            let quota = Quota { month: QuotaMonth::at(at("2026-01-01T00:00:00Z"), ZONE), used, limit };
            (quota.is_nearly_used(), quota.is_exhausted(), quota.remaining())
        };
        assert_eq!(of(39, Some(50)), (false, false, Some(11)));
        assert_eq!(of(40, Some(50)), (true, false, Some(10)));
        assert_eq!(of(50, Some(50)), (true, true, Some(0)));
        assert_eq!(of(60, Some(50)), (true, true, Some(0)));
        // 80% of 3 is 2.4.
        assert_eq!((of(2, Some(3)).0, of(3, Some(3)).0), (false, true));
        assert_eq!(of(1_000_000, None), (false, false, None));
    }

    #[test]
    fn what_a_subscription_was_given_goes_before_what_its_tier_has() {
        assert_eq!(limit(SubscriptionTier::Basic, None), Some(50));
        assert_eq!(limit(SubscriptionTier::Basic, Some(75)), Some(75));
        assert_eq!(limit(SubscriptionTier::Enterprise, None), None);
        assert_eq!(limit(SubscriptionTier::Enterprise, Some(1_000)), Some(1_000));
    }
}
