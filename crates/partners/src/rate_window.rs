//! The request limit: so many a clock minute, exact over any number of processes.
//!
//! One row a partner holds the newest minute and how many draws it has seen; its row lock puts concurrent draws in
//! order. The database's clock is read once a draw, after that lock is held, so a draw that waited counts in the
//! minute in which it was granted, and the minute never runs backwards. A crash of the database empties the
//! (unlogged) table: at most one minute's count is forgotten.

use std::time::Duration;

use db::Connection;
use kernel::ids::TenantId;

use crate::error::PartnerError;

/// Whether a request may pass, and what its answer says about the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateDecision {
    /// Whether it may.
    pub allowed: bool,
    /// Requests a clock minute.
    pub limit: u32,
    /// How many more may pass in this minute.
    pub remaining: u32,
    /// Until the next clock minute begins.
    pub resets_in: Duration,
}

/// Draws one request from the partner's current minute.
///
/// Give it a connection outside a transaction: within one, every other draw of the partner waits for its end, and
/// its rollback would give the draw back.
pub async fn draw(conn: &mut Connection, tenant: TenantId, limit: u32) -> Result<RateDecision, PartnerError> {
    let limit = limit.min(LIMIT_MAX);
    // The volatile clock keeps the inner select from being merged into the outer one, hence one reading a draw.
    let drawn = sqlx::query!(
        r#"
        insert into partner_rate_windows as w (tenant_id, minute, used)
        values ($1, date_trunc('minute', clock_timestamp()), 1)
        on conflict (tenant_id) do update set (minute, used) = (
            select t.minute, case when t.minute > w.minute then 1 else least(w.used + 1, $2 + 1) end
            from (select greatest(w.minute, date_trunc('minute', clock_timestamp())) as minute) t
        )
        returning used,
                  extract(epoch from w.minute + interval '1 minute' - clock_timestamp())::float8 as "left_s!"
        "#,
        tenant.uuid(),
        limit.cast_signed(),
    )
    .fetch_one(conn)
    .await?;
    Ok(decide(drawn.used.unsigned_abs(), limit, drawn.left_s))
}

/// Keeps the arithmetic in the statement within an integer.
const LIMIT_MAX: u32 = 1_000_000_000;

fn decide(used: u32, limit: u32, left_s: f64) -> RateDecision {
    let resets_in = Duration::try_from_secs_f64(left_s.max(0.0)).unwrap_or_default();
    RateDecision { allowed: used <= limit, limit, remaining: limit.saturating_sub(used), resets_in }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_allowed_draw_leaves_nothing_and_the_next_is_refused() {
        let last = decide(100, 100, 12.5);
        assert_eq!((last.allowed, last.remaining, last.resets_in), (true, 0, Duration::from_millis(12_500)));
        let next = decide(101, 100, -0.1);
        assert_eq!((next.allowed, next.remaining, next.resets_in), (false, 0, Duration::ZERO));
        assert_eq!(decide(1, 100, 60.0).remaining, 99);
    }
}
