//! The request limit: so many a clock minute, exact over any number of processes.
//!
//! Processes lease requests of the current minute and spend them themselves. One row a partner holds the newest minute
//! and how many were leased of it; its row lock puts leases in order. The database's clock is read once a lease, after
//! that lock is held, so a lease that waited is of the minute in which it was granted, and the minute never runs
//! backwards. What is leased and not spent by the minute's end is lost, so whoever leases asks for few at a time
//! ([`lease_size`]). A crash of the database empties the (unlogged) table: at most one minute's count is forgotten.

use std::time::Duration;

use db::Connection;
use kernel::ids::TenantId;

use crate::error::PartnerError;

/// Requests that one process may let pass until the minute ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLease {
    /// How many; none is left when it is 0.
    pub granted: u32,
    /// Requests a clock minute.
    pub limit: u32,
    /// How many more may be leased of this minute.
    pub remaining: u32,
    /// Until the next clock minute begins.
    pub resets_in: Duration,
}

/// Leases up to `wanted` requests of the partner's current minute.
///
/// Give it a connection outside a transaction: within one, every other lease of the partner waits for its end, and
/// its rollback would give the lease back.
pub async fn lease(
    conn: &mut Connection,
    tenant: TenantId,
    limit: u32,
    wanted: u32,
) -> Result<RateLease, PartnerError> {
    let (limit, wanted) = (limit.min(LIMIT_MAX), wanted.min(LIMIT_MAX));
    // The volatile clock keeps the inner select from being merged into the outer one, hence one reading a lease.
    let leased = sqlx::query!(
        r#"
        insert into partner_rate_windows as w (tenant_id, minute, used, granted)
        values ($1, date_trunc('minute', clock_timestamp()), least($2::integer, $3::integer), least($2, $3))
        on conflict (tenant_id) do update set (minute, used, granted) = (
            select t.minute, t.used + least($3, greatest($2 - t.used, 0)), least($3, greatest($2 - t.used, 0))
            from (
                select m.minute, case when m.minute > w.minute then 0 else w.used end as used
                from (select greatest(w.minute, date_trunc('minute', clock_timestamp())) as minute) m
            ) t
        )
        returning used, granted,
                  extract(epoch from w.minute + interval '1 minute' - clock_timestamp())::float8 as "left_s!"
        "#,
        tenant.uuid(),
        limit.cast_signed(),
        wanted.cast_signed(),
    )
    .fetch_one(conn)
    .await?;
    let resets_in = Duration::try_from_secs_f64(leased.left_s.max(0.0)).unwrap_or_default();
    let remaining = limit.saturating_sub(leased.used.unsigned_abs());
    Ok(RateLease { granted: leased.granted.unsigned_abs(), limit, remaining, resets_in })
}

/// Keeps the arithmetic in the statement within an integer.
const LIMIT_MAX: u32 = 1_000_000_000;

/// How many requests a process does well to lease: those that wait for it, and on stock a quarter of what it spent in
/// this minute, but never more than a twentieth of what is left, so that what a process keeps and does not need is
/// little, and less the scarcer requests become.
pub fn lease_size(waiting: u32, spent: u32, remaining: u32) -> u32 {
    waiting.max(1).saturating_add((spent / 4).min(remaining / 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_grows_with_demand_and_shrinks_with_what_is_left() {
        assert_eq!(lease_size(1, 0, 100), 1, "who asks once takes one");
        assert_eq!(lease_size(1, 20, 80), 1 + 4);
        assert_eq!(lease_size(1, 80, 19), 1);
        assert_eq!(lease_size(30, 0, 100), 30, "all who wait");
        assert_eq!(lease_size(0, 1_000, 100_000), 1 + 250);
    }
}
