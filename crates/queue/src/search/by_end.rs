//! Searches in the order of ends: failed and cancelled jobs by their indexes; all, within a range of time, by windows that
//! grow where little ended and shrink where much did.

use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;
use uuid::Uuid;

use super::{
    Behind, Found, FoundJob, JobSearch, LOOKED_MAX, Order, SearchCursor, SearchFault, SortedBy,
    row::{Look, Row},
};
use crate::{Error, dead_letters::signature};

/// Dead jobs that the first look takes.
const FIRST_LOOK: u64 = 500;
/// Jobs that one window may have.
const WINDOW_MAX: i32 = 5_000;
/// The first window, which few jobs end in even while tens of thousands do in a second, and the least: so many jobs may
/// have ended in one instant as `INSTANT_MAX` says.
const WINDOW_FIRST: TimeDelta = TimeDelta::milliseconds(100);
const WINDOW_MIN: TimeDelta = TimeDelta::milliseconds(1);
const INSTANT_MAX: i32 = 100_000;

/// What is left of a search: ends from one instant until before another, behind a job.
#[derive(Clone, Copy)]
struct Rest<'a> {
    search: &'a JobSearch,
    order: Order,
    from: DateTime<Utc>,
    before: DateTime<Utc>,
    behind: (DateTime<Utc>, Uuid),
}

pub(super) async fn page(
    conn: &mut Connection,
    search: &JobSearch,
    order: Order,
    after: Option<&SearchCursor>,
    limit: usize,
) -> Result<Found, Error> {
    // Nothing ended before there was a first instant, nor ends after a moment from now.
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *conn).await?;
    let latest = now + TimeDelta::seconds(1);
    let from = search.finished_from.into_iter().chain(search.created_from).max();
    let from = from.unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH);
    let before = search.finished_before.map_or(latest, |before| before.min(latest));
    let behind = match after.map(|cursor| cursor.0) {
        Some(Behind::End(at, id)) => (at, id),
        Some(Behind::Id(..)) => return Err(SearchFault::Cursor.into()),
        None if order.is_newest() => (before, Uuid::nil()),
        None => (from, Uuid::nil()),
    };
    let rest = Rest { search, order, from, before, behind };
    let mut found =
        Found { jobs: Vec::new(), next: None, partial: false, sorted_by: SortedBy::Finished, looked: 0 };
    if search.wants_dead_alone() {
        dead(conn, rest, limit, &mut found).await?;
    } else {
        windows(conn, rest, limit, &mut found).await?;
    }
    Ok(found)
}

impl Rest<'_> {
    /// What is found of it by one look; of a signature the database only knows how it begins.
    async fn look(
        &self,
        conn: &mut Connection,
        path: &str,
        looked_max: i32,
        limit: usize,
    ) -> Result<Look, Error> {
        let limit = if self.search.signature.is_some() { looked_max } else { as_i32(limit as u64) };
        let rows = sqlx::query_as!(
            Row,
            r#"select looked, null::bigint as matched, null::real as percent, is_cut, null::uuid as horizon, tenant_id, id, queue, kind, state, attempt, attempts_max, taken_back,
                   priority, key, batch_id, request_id, created_at, started_at, run_at, finished_at, code, message
               from job_search_ended($1, $2, $3, $4, $5, $6, $7, $8, $9)"#,
            self.search.as_json(&self.search.ends()),
            path,
            self.from,
            self.before,
            self.behind.0,
            self.behind.1,
            self.order.is_newest(),
            looked_max,
            limit,
        )
        .fetch_all(conn)
        .await?;
        let mut look = Look::of(rows);
        if let Some(wanted) = &self.search.signature {
            look.jobs.retain(|job| {
                job.failure.as_ref().is_some_and(|failure| signature(&failure.message) == *wanted)
            });
        }
        Ok(look)
    }
}

/// Failed and cancelled jobs, in their order.
async fn dead(
    conn: &mut Connection,
    mut rest: Rest<'_>,
    limit: usize,
    found: &mut Found,
) -> Result<(), Error> {
    let mut looked_max = FIRST_LOOK.max(limit as u64 + 1);
    loop {
        let wanted = limit + 1 - found.jobs.len();
        let look = rest.look(conn, "dead", as_i32(looked_max), wanted).await?;
        found.looked += look.looked;
        found.jobs.extend(look.jobs);
        if is_full(found, limit) {
            return Ok(());
        }
        let Some(last) = look.last_end.filter(|_| look.is_cut) else { return Ok(()) };
        if found.looked >= LOOKED_MAX {
            stop(found, last);
            return Ok(());
        }
        rest.behind = last;
        looked_max = (looked_max * 4).min(LOOKED_MAX - found.looked).max(FIRST_LOOK);
    }
}

/// All jobs that ended within a range, window by window.
async fn windows(
    conn: &mut Connection,
    mut rest: Rest<'_>,
    limit: usize,
    found: &mut Found,
) -> Result<(), Error> {
    let (from, before) = (rest.from, rest.before);
    let mut width = WINDOW_FIRST;
    loop {
        // The window at the cursor. What ended in the cursor's own instant may lie on both of its sides.
        let (at, _) = rest.behind;
        match rest.order {
            Order::Newest => {
                rest.before = before.min(at + TimeDelta::microseconds(1));
                rest.from = from.max(at.checked_sub_signed(width).unwrap_or(from));
            }
            Order::Oldest => {
                rest.from = from.max(at);
                rest.before = before.min(at.checked_add_signed(width).unwrap_or(before));
            }
        }
        let is_least = width <= WINDOW_MIN;
        let looked_max = if is_least { INSTANT_MAX } else { WINDOW_MAX };
        let look = rest.look(conn, "window", looked_max, limit + 1 - found.jobs.len()).await?;
        found.looked += look.looked;
        if look.is_cut && !is_least {
            // A few times at the most: there is no going on from here without having seen the window.
            width = (width / 8).max(WINDOW_MIN);
            continue;
        }
        found.jobs.extend(look.jobs);
        if is_full(found, limit) {
            return Ok(());
        }
        let is_last = match rest.order {
            Order::Newest => rest.from <= from,
            Order::Oldest => rest.before >= before,
        };
        if is_last {
            return Ok(());
        }
        // Behind everything in the window.
        rest.behind = match rest.order {
            Order::Newest => (rest.from, Uuid::nil()),
            Order::Oldest => (rest.before, Uuid::nil()),
        };
        if found.looked >= LOOKED_MAX {
            stop(found, rest.behind);
            return Ok(());
        }
        if look.looked < u64::from(WINDOW_MAX.unsigned_abs()) / 8 {
            width = width.checked_mul(8).unwrap_or(width);
        }
    }
}

/// Ends a page that has more than its jobs.
fn is_full(found: &mut Found, limit: usize) -> bool {
    if found.jobs.len() <= limit {
        return false;
    }
    found.jobs.truncate(limit);
    found.next = found.jobs.last().and_then(end_of).map(|(at, id)| SearchCursor(Behind::End(at, id)));
    true
}

/// Ends a page before it is full.
fn stop(found: &mut Found, (at, id): (DateTime<Utc>, Uuid)) {
    found.partial = true;
    found.next = Some(SearchCursor(Behind::End(at, id)));
}

fn end_of(job: &FoundJob) -> Option<(DateTime<Utc>, Uuid)> {
    Some((job.finished_at?, job.id.uuid()))
}

fn as_i32(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX - 1)
}
