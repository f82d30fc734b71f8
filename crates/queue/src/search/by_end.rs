//! Searches in the order of ends: failed and cancelled jobs by their indexes; all, within a range of time, by windows that
//! grow where little ended and shrink where much did.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;
use uuid::Uuid;

use super::{
    Behind, COUNT_LOOKED_MAX, COUNTED_EXACTLY_MAX, Found, FoundJob, JobSearch, LOOKED_MAX, Order,
    SearchCursor, SearchFault, SortedBy,
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

/// A way along ends: from one instant until before another, behind a job.
struct Walk<'a> {
    search: &'a JobSearch,
    order: Order,
    from: DateTime<Utc>,
    before: DateTime<Utc>,
    behind: (DateTime<Utc>, Uuid),
    goal: Goal,
    /// Jobs that may be looked at.
    looked_max: u64,
    found: Found,
    /// Jobs that matched, when they are counted.
    matched: u64,
}

/// When to stop.
#[derive(Clone, Copy)]
enum Goal {
    /// With a page of so many jobs.
    Page(usize),
    /// When more than [`COUNTED_EXACTLY_MAX`] are counted.
    Count,
}

pub(super) async fn page(
    conn: &mut Connection,
    search: &JobSearch,
    order: Order,
    after: Option<&SearchCursor>,
    limit: usize,
) -> Result<Found, Error> {
    let walk = Walk::begin(conn, search, order, after, Goal::Page(limit)).await?;
    Ok(walk.go(conn).await?.found)
}

/// How many jobs match, of all that a bounded walk saw, and whether those were all.
pub(super) async fn counted(conn: &mut Connection, search: &JobSearch) -> Result<(u64, bool), Error> {
    let walk = Walk::begin(conn, search, Order::Newest, None, Goal::Count).await?;
    let walk = walk.go(conn).await?;
    Ok((walk.matched, walk.found.next.is_none() && !walk.is_enough()))
}

impl<'a> Walk<'a> {
    async fn begin(
        conn: &mut Connection,
        search: &'a JobSearch,
        order: Order,
        after: Option<&SearchCursor>,
        goal: Goal,
    ) -> Result<Self, Error> {
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
        let looked_max = match goal {
            Goal::Page(_) => LOOKED_MAX,
            Goal::Count => COUNT_LOOKED_MAX,
        };
        let found =
            Found { jobs: Vec::new(), next: None, partial: false, sorted_by: SortedBy::Finished, looked: 0 };
        Ok(Self { search, order, from, before, behind, goal, looked_max, found, matched: 0 })
    }

    async fn go(self, conn: &mut Connection) -> Result<Self, Error> {
        if self.search.ends().is_empty() {
            // Live jobs that have ended: there are none.
            Ok(self)
        } else if self.search.wants_dead_alone() {
            self.along_dead(conn).await
        } else {
            self.along_windows(conn).await
        }
    }

    /// What is found by one look, added to what was. Of a signature the database only knows how it begins.
    async fn look(
        &self,
        conn: &mut Connection,
        path: &str,
        range: (DateTime<Utc>, DateTime<Utc>),
        looked_max: i32,
    ) -> Result<Look, Error> {
        let limit = match self.goal {
            Goal::Count => 0,
            Goal::Page(_) if self.search.signature.is_some() => looked_max,
            Goal::Page(limit) => as_i32((limit + 1 - self.found.jobs.len()) as u64),
        };
        let rows = sqlx::query_as!(
            Row,
            r#"select looked, matched, null::real as percent, is_cut, null::uuid as horizon, messages, tenant_id, id, queue, kind, state, attempt, attempts_max, taken_back,
                   priority, key, batch_id, request_id, created_at, started_at, run_at, finished_at, code, message
               from job_search_ended($1, $2, $3, $4, $5, $6, $7, $8, $9)"#,
            self.search.as_json(&self.search.ends()),
            path,
            range.0,
            range.1,
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
            // Jobs of one cause often say the very same.
            let mut known: HashMap<&str, bool> = HashMap::new();
            let mut is_wanted =
                |message| *known.entry(message).or_insert_with(|| signature(message) == *wanted);
            look.matched = look.messages.iter().filter(|message| is_wanted(message)).count() as u64;
            let failed = |job: &FoundJob| job.failure.as_ref().map(|failure| signature(&failure.message));
            look.jobs.retain(|job| failed(job).as_ref() == Some(wanted));
        }
        Ok(look)
    }

    fn take(&mut self, look: Look) {
        self.found.looked += look.looked;
        self.matched += look.matched;
        self.found.jobs.extend(look.jobs);
    }

    /// Whether the goal is reached.
    fn is_enough(&self) -> bool {
        match self.goal {
            Goal::Page(limit) => self.found.jobs.len() > limit,
            Goal::Count => self.matched > COUNTED_EXACTLY_MAX as u64,
        }
    }

    /// Ends a page that has more than its jobs.
    fn full(mut self) -> Self {
        if let Goal::Page(limit) = self.goal {
            self.found.jobs.truncate(limit);
            let last = self.found.jobs.last();
            let end = last.and_then(|job| Some((job.finished_at?, job.id.uuid())));
            self.found.next = end.map(|(at, id)| SearchCursor(Behind::End(at, id)));
        }
        self
    }

    /// Ends it before it reaches its goal.
    fn stopped(mut self) -> Self {
        let (at, id) = self.behind;
        self.found.partial = true;
        self.found.next = Some(SearchCursor(Behind::End(at, id)));
        self
    }

    /// Failed and cancelled jobs, in their order.
    async fn along_dead(mut self, conn: &mut Connection) -> Result<Self, Error> {
        let mut looked_max = match self.goal {
            Goal::Page(limit) => FIRST_LOOK.max(limit as u64 + 1),
            Goal::Count => COUNTED_EXACTLY_MAX as u64 + 1,
        };
        loop {
            let look = self.look(conn, "dead", (self.from, self.before), as_i32(looked_max)).await?;
            let last = look.last_end.filter(|_| look.is_cut);
            self.take(look);
            if self.is_enough() {
                return Ok(self.full());
            }
            let Some(last) = last else { return Ok(self) };
            self.behind = last;
            if self.found.looked >= self.looked_max {
                return Ok(self.stopped());
            }
            looked_max = (looked_max * 4).min(self.looked_max - self.found.looked).max(FIRST_LOOK);
        }
    }

    /// All jobs that ended within a range, window by window.
    async fn along_windows(mut self, conn: &mut Connection) -> Result<Self, Error> {
        let mut width = WINDOW_FIRST;
        loop {
            // The window at the cursor. What ended in the cursor's own instant may lie on both of its sides.
            let (at, _) = self.behind;
            let (from, before) = match self.order {
                Order::Newest => (
                    self.from.max(at.checked_sub_signed(width).unwrap_or(self.from)),
                    self.before.min(at + TimeDelta::microseconds(1)),
                ),
                Order::Oldest => {
                    (self.from.max(at), self.before.min(at.checked_add_signed(width).unwrap_or(self.before)))
                }
            };
            let is_least = width <= WINDOW_MIN;
            let looked_max = if is_least { INSTANT_MAX } else { WINDOW_MAX };
            let look = self.look(conn, "window", (from, before), looked_max).await?;
            if look.is_cut && !is_least {
                // A few times at the most: there is no going on from here without having seen the window.
                self.found.looked += look.looked;
                width = (width / 8).max(WINDOW_MIN);
                continue;
            }
            if look.looked < u64::from(WINDOW_MAX.unsigned_abs()) / 8 {
                width = width.checked_mul(8).unwrap_or(width);
            }
            self.take(look);
            if self.is_enough() {
                return Ok(self.full());
            }
            // Behind everything in the window.
            let (end, is_last) = match self.order {
                Order::Newest => (from, from <= self.from),
                Order::Oldest => (before, before >= self.before),
            };
            if is_last {
                return Ok(self);
            }
            self.behind = (end, Uuid::nil());
            if self.found.looked >= self.looked_max {
                return Ok(self.stopped());
            }
        }
    }
}

fn as_i32(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX - 1)
}
