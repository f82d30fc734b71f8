//! Drawing permits right before calls, and what the other side says about them.

use std::time::{Duration, Instant};

use db::{Connection, Pool};
use sqlx::postgres::types::PgInterval;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Permit, Permits};
use crate::{Error, LeaseKey};

/// What a draw came to.
#[derive(Debug)]
pub enum Draw {
    /// Make the call now: a permit that is kept for later may count for another window than the vendor's.
    Granted(Permit),
    /// Not now.
    Wait {
        /// How long until there may be a permit.
        wait: Duration,
        /// The limit that takes longest.
        limit: String,
    },
}

/// A draw takes milliseconds.
const DRAW_TIMEOUT: Duration = Duration::from_secs(5);
/// Draws whose answer came too late to be used, in a row.
const LATE_DRAWS_MAX: usize = 3;

/// Draws one permit from each of these buckets, (name, key) with an empty key for limits that are not keyed, or from
/// none of them. Limits that are not defined bound nothing.
///
/// # Errors
/// [`Error::LeaseLost`] when the process is no longer registered or does not hold `lease`; [`Error::Database`] and
/// [`Error::Unanswered`], when a permit may have been lost.
pub async fn draw(
    pool: &Pool,
    permits: &Permits,
    process: Uuid,
    lease: Option<LeaseKey>,
    buckets: &[(&str, &str)],
) -> Result<Draw, Error> {
    let (names, keys): (Vec<&str>, Vec<&str>) = buckets.iter().copied().unzip();
    let mut limit = String::new();
    for _ in 0..LATE_DRAWS_MAX {
        let slots: Vec<Uuid> = buckets.iter().map(|_| Uuid::now_v7()).collect();
        // Known before it is asked for: whatever happens to the answer, what was taken is given back.
        let permit = permits.expect(slots.clone());
        let leaving = permits.leaving();
        let asked_at = Instant::now();
        let asked = sqlx::query!(
            r#"select granted as "granted!", standing as "standing!", wait_ms, blocked_by, use_within_ms, last_slot, held
               from job_draw($1, $2, $3, $4, $5, $6, $7, $8)"#,
            process,
            lease.map(|lease| lease.tenant.uuid()),
            lease.map(|lease| lease.job.uuid()),
            lease.map(|lease| lease.token),
            &names as &[&str],
            &keys as &[&str],
            &slots,
            leaving.ids(),
        )
        .fetch_one(pool);
        let answer = timeout(DRAW_TIMEOUT, asked).await.map_err(|_| Error::Unanswered)??;
        leaving.are_back();
        let permit = permit.keep(answer.held.unwrap_or_default(), answer.last_slot.unwrap_or_default());
        if !answer.standing {
            return Err(Error::LeaseLost);
        }
        if !answer.granted {
            let wait = Duration::from_millis(answer.wait_ms.unwrap_or_default().unsigned_abs());
            return Ok(Draw::Wait { wait, limit: answer.blocked_by.unwrap_or_default() });
        }
        // The window's time counts from before the question: the database can only have answered later.
        let use_within = u64::try_from(answer.use_within_ms.unwrap_or_default()).unwrap_or_default();
        if asked_at.elapsed() < Duration::from_millis(use_within) {
            return Ok(Draw::Granted(permit));
        }
        limit = names.first().copied().unwrap_or_default().to_owned();
        tracing::debug!(limit, "a permit came too late to be used and counts as spent");
    }
    Ok(Draw::Wait { wait: Duration::ZERO, limit })
}

/// The longest block that the other side can bring about; whoever answers with more is not believed.
const BLOCK_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The other side said that it had enough: nobody draws from this bucket for so long; when it did not say how long,
/// until the window ends, or for a second where there is none.
///
/// # Errors
/// [`Error::Database`].
pub async fn tighten(pool: &Pool, name: &str, key: &str, retry_after: Option<Duration>) -> Result<(), Error> {
    let block = retry_after.map(|block| PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(block.min(BLOCK_MAX).as_micros()).unwrap_or(i64::MAX),
    });
    sqlx::query!(
        "insert into job_limit_buckets as b (name, key, blocked_until)
         select l.name, $2, coalesce(
             clock_timestamp() + $3::interval,
             case when l.shape = 'rate' then w.ends end,
             clock_timestamp() + interval '1 second'
         )
         from job_limits l cross join lateral job_limit_window(l, clock_timestamp()) as w
         where l.name = $1
         on conflict (name, key) do update
         set blocked_until = greatest(b.blocked_until, excluded.blocked_until)",
        name,
        key,
        block,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes back what [`tighten`] did to a limit, for every key; an operator knows better.
///
/// # Errors
/// [`Error::Database`].
pub async fn unblock(conn: &mut Connection, name: &str) -> Result<(), Error> {
    sqlx::query!("update job_limit_buckets set blocked_until = '-infinity' where name = $1", name)
        .execute(conn)
        .await?;
    Ok(())
}

/// The key of a running job.
///
/// # Errors
/// [`Error::LeaseLost`] or [`Error::Database`].
pub async fn key_of(pool: &Pool, lease: LeaseKey) -> Result<Option<String>, Error> {
    let key = sqlx::query_scalar!(
        "select key from jobs where tenant_id = $1 and id = $2 and lease_token = $3",
        lease.tenant.uuid(),
        lease.job.uuid(),
        lease.token,
    )
    .fetch_optional(pool)
    .await?;
    key.ok_or(Error::LeaseLost)
}
