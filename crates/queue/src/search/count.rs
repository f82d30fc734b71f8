//! How many jobs a search matches: exactly where they can be counted at a bounded price, else about.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::TenantId;

use super::{JobSearch, JobState, SortedBy, by_end, by_id};
use crate::Error;

/// Matching jobs are counted up to this many; beyond, the number is an estimate.
pub const COUNTED_EXACTLY_MAX: usize = 10_000;
/// More completed jobs than this by history, which knows some of a week that is going, are too many to be counted.
const SURELY_MANY: u64 = 5 * COUNTED_EXACTLY_MAX as u64;
/// Jobs looked at to count them, about.
pub(super) const COUNT_LOOKED_MAX: u64 = 20_000;

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
    let ends = search.ends();
    // What completed stays so: where history tells of many there is nothing to count one by one.
    let completed: Vec<JobState> = ends.iter().copied().filter(|end| *end == JobState::Completed).collect();
    let told = told_by_history(conn, search, &completed).await?;
    let (counted, is_all) = if told.is_some_and(|told| told > SURELY_MANY) {
        (COUNTED_EXACTLY_MAX as u64, false)
    } else {
        match search.sorted_by() {
            SortedBy::Created => by_id::counted(conn, search).await?,
            SortedBy::Finished => by_end::counted(conn, search).await?,
        }
    };
    if is_all {
        return Ok(Count { count: counted, is_estimated: false });
    }
    let live = by_id::sampled(conn, search, &search.live_states(), true).await?;
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
    // What is added up over all queues, kinds or owners has a name that none of these has.
    let or_all = |names: &[String]| if names.is_empty() { vec![String::new()] } else { names.to_vec() };
    // Of old ends only hours are known, of the newest only minutes, of the last moments nothing: those are few.
    let ended = sqlx::query_scalar!(
        r#"with told as (
               select s.step_s, s.at, s.completed, s.failed, s.cancelled from queue_history_sums s
               where $5::uuid is null and s.kind = any($3) and s.queue = any($4)
               union all
               select h.step_s, h.at, h.completed, h.failed, h.cancelled from queue_history h
               where h.tenant_id = $5 and (h.kind = any($3) or $3 = '{""}') and (h.queue = any($4) or $4 = '{""}')
           ),
           -- History is kept for longer than jobs are.
           kept as (
               select min(to_date(right(t.relid::text, 7), 'IYYY"w"IW'))::timestamp at time zone 'UTC' as since
               from pg_partition_tree('jobs_finished') t
               where t.relid::text ~ '_[0-9]{4}w[0-9]{2}$'
           )
           select sum(
               case when 'completed' = any($6) then h.completed else 0 end
               + case when 'failed' = any($6) then h.failed else 0 end
               + case when 'cancelled' = any($6) then h.cancelled else 0 end
           )::bigint
           from told h
           cross join queue_history_progress p
           cross join kept k
           where h.at >= k.since and h.at >= coalesce($1::timestamptz, '-infinity') and h.at < coalesce($2::timestamptz, 'infinity')
             and ((h.step_s = 3600 and h.at < p.hours_until) or (h.step_s = 60 and h.at >= p.hours_until))"#,
        from,
        search.finished_before,
        &or_all(&search.kinds),
        &or_all(&search.queues),
        search.tenant.map(TenantId::uuid),
        &ends.iter().map(|end| end.as_str()).collect::<Vec<_>>() as &[&str],
    )
    .fetch_one(conn)
    .await?;
    // Nothing told may only mean that nobody rolled up.
    Ok(ended.filter(|ended| *ended > 0).map(i64::unsigned_abs))
}
