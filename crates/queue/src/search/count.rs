//! How many jobs a search matches: exactly where they can be counted at a bounded price, else about.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::TenantId;

use super::{JobSearch, JobState, Order, SortedBy, by_end, by_id};
use crate::Error;

/// Matching jobs are counted up to this many; beyond, the number is an estimate.
pub const COUNTED_EXACTLY_MAX: usize = 10_000;

/// How many match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// So many.
    pub count: u64,
    /// Not counted, but estimated: from a sample of the tables, or from what history tells of ends.
    pub is_estimated: bool,
}

/// How many jobs match.
///
/// # Errors
/// [`Error::Search`] for a search that cannot be made, [`Error::Database`].
pub async fn count(conn: &mut Connection, search: &JobSearch) -> Result<Count, Error> {
    search.check()?;
    let (counted, is_all) = match search.sorted_by() {
        SortedBy::Created => by_id::counted(conn, search).await?,
        SortedBy::Finished => {
            let page = by_end::page(conn, search, Order::Newest, None, COUNTED_EXACTLY_MAX).await?;
            (page.jobs.len() as u64, page.next.is_none())
        }
    };
    if is_all {
        return Ok(Count { count: counted, is_estimated: false });
    }
    let live = by_id::sampled(conn, search, &search.live_states(), true).await?;
    let ends = search.ends();
    let finished = match told_by_history(conn, search, &ends).await? {
        Some(told) => told,
        None => by_id::sampled(conn, search, &ends, false).await?,
    };
    Ok(Count { count: (live + finished).max(counted), is_estimated: true })
}

/// How many ended, where that is all that is asked: history knows it by the hour.
async fn told_by_history(
    conn: &mut Connection,
    search: &JobSearch,
    ends: &[JobState],
) -> Result<Option<u64>, Error> {
    let asks_more = search.key.is_some()
        || search.request_id.is_some()
        || search.batch.is_some()
        || search.code.is_some()
        || search.signature.is_some()
        || search.created_from.is_some()
        || search.created_before.is_some()
        || search.arg.is_some()
        || !search.ids.is_empty();
    if asks_more || ends.is_empty() {
        return Ok(None);
    }
    let from: Option<DateTime<Utc>> = search.finished_from;
    // Of old ends only hours are known, of the newest only minutes, of the last moments nothing: those are few.
    let ended = sqlx::query_scalar!(
        r#"select sum(
               case when 'completed' = any($6) then h.completed else 0 end
               + case when 'failed' = any($6) then h.failed else 0 end
               + case when 'cancelled' = any($6) then h.cancelled else 0 end
           )::bigint
           from queue_history h
           cross join queue_history_progress p
           where h.at >= coalesce($1::timestamptz, '-infinity') and h.at < coalesce($2::timestamptz, 'infinity')
             and ((h.step_s = 3600 and h.at < p.hours_until) or (h.step_s = 60 and h.at >= p.hours_until))
             and (cardinality($3::text[]) = 0 or h.kind = any($3))
             and (cardinality($4::text[]) = 0 or h.queue = any($4))
             and ($5::uuid is null or h.tenant_id = $5)"#,
        from,
        search.finished_before,
        &search.kinds,
        &search.queues,
        search.tenant.map(TenantId::uuid),
        &ends.iter().map(|end| end.as_str()).collect::<Vec<_>>() as &[&str],
    )
    .fetch_one(conn)
    .await?;
    // Nothing told may only mean that nobody rolled up.
    Ok(ended.filter(|ended| *ended > 0).map(i64::unsigned_abs))
}
