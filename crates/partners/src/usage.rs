//! What partners made of the pool: requests, approvals and charges by day and by month.

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::TenantId;

use crate::error::PartnerError;

/// A day's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// The day, in the quota's time zone.
    pub day: NaiveDate,
    /// Requests made.
    pub requests: u32,
    /// Influencers approved, those that were free included.
    pub approved: u32,
    /// Influencers denied.
    pub denied: u32,
    /// Influencers charged.
    pub charged: u32,
}

/// The last `days` days, today first, days without any included.
pub async fn by_day(
    conn: &mut Connection,
    tenant: TenantId,
    at: DateTime<Utc>,
    zone: Tz,
    days: u32,
) -> Result<Vec<Day>, PartnerError> {
    let today = at.with_timezone(&zone).date_naive();
    let first = today.checked_sub_days(Days::new(u64::from(days.saturating_sub(1)))).unwrap_or(today);
    let begins = crate::quota::midnight(first, zone);
    let rows = sqlx::query!(
        r#"
        select i.day, count(distinct i.request_id) as "requests!",
               count(*) filter (where i.outcome = 'approved') as "approved!",
               count(*) filter (where i.outcome <> 'approved') as "denied!",
               count(*) filter (where i.is_charged) as "charged!"
        from influencer_requests r
        join influencer_request_items i on i.tenant_id = r.tenant_id and i.request_id = r.id
        where r.tenant_id = $1 and r.requested_at >= $2 and r.requested_at <= $3
        group by i.day
        "#,
        tenant.uuid(),
        begins,
        at,
    )
    .fetch_all(conn)
    .await?;
    let on = |day: NaiveDate| {
        let row = rows.iter().find(|row| row.day == day);
        let count = |count: Option<i64>| count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX));
        Day {
            day,
            requests: count(row.map(|row| row.requests)),
            approved: count(row.map(|row| row.approved)),
            denied: count(row.map(|row| row.denied)),
            charged: count(row.map(|row| row.charged)),
        }
    };
    Ok((0..u64::from(days)).filter_map(|back| today.checked_sub_days(Days::new(back))).map(on).collect())
}

/// A month's use of the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    /// Its first day, in the quota's time zone.
    pub month: NaiveDate,
    /// Influencers charged.
    pub charged: u32,
    /// What was added or taken off by hand.
    pub adjusted: i32,
    /// When 80% was reached.
    pub warned_at: Option<DateTime<Utc>>,
    /// When all was used.
    pub exhausted_at: Option<DateTime<Utc>>,
}

/// The last months in which anything was used, the newest first, at most `rows_max`.
pub async fn by_month(
    conn: &mut Connection,
    tenant: TenantId,
    rows_max: u32,
) -> Result<Vec<Month>, PartnerError> {
    let rows = sqlx::query!(
        "
        select month, charged, adjusted, warned_at, exhausted_at from partner_quota_months
        where tenant_id = $1
        order by month desc
        limit $2
        ",
        tenant.uuid(),
        i64::from(rows_max),
    )
    .fetch_all(conn)
    .await?;
    let months = rows.into_iter().map(|row| Month {
        month: row.month,
        charged: row.charged.unsigned_abs(),
        adjusted: row.adjusted,
        warned_at: row.warned_at,
        exhausted_at: row.exhausted_at,
    });
    Ok(months.collect())
}
