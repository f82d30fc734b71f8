//! Reading history.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::TenantId;

use super::{Durations, Histogram, Step};
use crate::{Error, Queue};

/// What of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of one queue.
    pub queue: Option<Queue>,
    /// Of one kind.
    pub kind: Option<String>,
    /// Of one owner; those of buckets in which it was not among the largest are with [`OTHERS`](super::OTHERS).
    pub tenant: Option<TenantId>,
    /// Buckets that begin at or after this.
    pub from: DateTime<Utc>,
    /// Buckets that begin before this.
    pub to: DateTime<Utc>,
    /// How long they are.
    pub step: Step,
}

/// A stretch of history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Every bucket that is rolled up, the oldest first, also when nothing ended in it. One that is missing here is not
    /// known: it is too young, too old, or fell into an absence of more than two days.
    pub points: Vec<Point>,
}

/// What ended in one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The bucket's beginning.
    pub at: DateTime<Utc>,
    /// Jobs that were done.
    pub completed: u64,
    /// Jobs that were given up.
    pub failed: u64,
    /// Jobs that were called off.
    pub cancelled: u64,
    /// Attempts that all of these took.
    pub attempts: u64,
    /// How often they were taken back from dead workers.
    pub taken_back: u64,
    /// From being stored to the first attempt.
    pub waits: Durations,
    /// From the first attempt to the end.
    pub runs: Durations,
    /// What stood in the queues; `None` when nobody looked, or of one tenant.
    pub depth: Option<DepthPoint>,
}

/// What stood in the queues when somebody looked; of longer buckets, the most of each that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DepthPoint {
    /// Jobs that could run.
    pub ready: u64,
    /// Jobs whose time had not come.
    pub scheduled: u64,
    /// Jobs that ran.
    pub running: u64,
    /// There may have been more.
    pub is_capped: bool,
    /// How long the longest waiting ready job could have run already.
    pub oldest_ready: Option<Duration>,
}

impl Point {
    fn empty(at: DateTime<Utc>) -> Self {
        Self {
            at,
            completed: 0,
            failed: 0,
            cancelled: 0,
            attempts: 0,
            taken_back: 0,
            waits: Durations::default(),
            runs: Durations::default(),
            depth: None,
        }
    }

    /// Makes it a bucket that reaches over another, later one as well.
    pub fn add(&mut self, later: &Self) {
        self.completed += later.completed;
        self.failed += later.failed;
        self.cancelled += later.cancelled;
        self.attempts += later.attempts;
        self.taken_back += later.taken_back;
        self.waits.add(&later.waits);
        self.runs.add(&later.runs);
        self.depth = match (self.depth, later.depth) {
            (Some(one), Some(other)) => Some(DepthPoint {
                ready: one.ready.max(other.ready),
                scheduled: one.scheduled.max(other.scheduled),
                running: one.running.max(other.running),
                is_capped: one.is_capped || other.is_capped,
                oldest_ready: one.oldest_ready.max(other.oldest_ready),
            }),
            (one, other) => one.or(other),
        };
    }

    /// All that ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.completed + self.failed + self.cancelled
    }
}

impl History {
    /// The same in buckets of several, beginning with multiples of `length`.
    #[must_use]
    pub fn coarser(&self, length: Duration) -> Self {
        let length_s = i64::try_from(length.as_secs()).unwrap_or(i64::MAX).max(1);
        let mut points: Vec<Point> = Vec::new();
        for point in &self.points {
            let seconds = point.at.timestamp();
            let begins =
                DateTime::from_timestamp(seconds - seconds.rem_euclid(length_s), 0).unwrap_or(point.at);
            match points.last_mut().filter(|last| last.at == begins) {
                Some(last) => last.add(point),
                None => points.push(Point { at: begins, ..point.clone() }),
            }
        }
        Self { points }
    }
}

/// The stretch of history that a filter asks for; no more than is kept.
///
/// # Errors
/// [`Error::Database`].
pub async fn history(conn: &mut Connection, filter: &HistoryFilter) -> Result<History, Error> {
    let kept = chrono::TimeDelta::from_std(filter.step.kept()).unwrap_or_default();
    let from = filter.from.max(filter.to - kept - chrono::TimeDelta::hours(1));
    let step = filter.step.seconds();
    let buckets = sqlx::query_scalar!(
        "select at from queue_history_buckets where step_s = $1 and at >= $2 and at < $3 order by at",
        step,
        from,
        filter.to,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut points: BTreeMap<DateTime<Utc>, Point> =
        buckets.into_iter().map(|at| (at, Point::empty(at))).collect();
    add_ends(conn, filter, from, &mut points).await?;
    if filter.tenant.is_none() {
        add_depths(conn, filter, from, &mut points).await?;
    }
    Ok(History { points: points.into_values().collect() })
}

/// What ended in one bucket, as it is stored.
struct Ends {
    at: DateTime<Utc>,
    completed: i64,
    failed: i64,
    cancelled: i64,
    attempts: i64,
    taken_back: i64,
    begun: i64,
    wait_ms: i64,
    wait_ms_max: i64,
    run_ms: i64,
    run_ms_max: i64,
    wait_buckets: Vec<i16>,
    wait_counts: Vec<i64>,
    run_buckets: Vec<i16>,
    run_counts: Vec<i64>,
}

async fn add_ends(
    conn: &mut Connection,
    filter: &HistoryFilter,
    from: DateTime<Utc>,
    points: &mut BTreeMap<DateTime<Utc>, Point>,
) -> Result<(), Error> {
    let (step, to) = (filter.step.seconds(), filter.to);
    let (queue, kind) = (filter.queue.map(Queue::as_str), filter.kind.as_deref());
    let rows = match filter.tenant.map(TenantId::uuid) {
        None => {
            sqlx::query_file_as!(Ends, "src/history/ends.sql", step, from, to, queue, kind)
                .fetch_all(conn)
                .await?
        }
        Some(tenant) => {
            sqlx::query_file_as!(Ends, "src/history/ends_of_tenant.sql", step, from, to, queue, kind, tenant)
                .fetch_all(conn)
                .await?
        }
    };
    let whole = |number: i64| u64::try_from(number).unwrap_or_default();
    let millis = |number: i64| Duration::from_millis(whole(number));
    for row in rows {
        let Some(point) = points.get_mut(&row.at) else { continue };
        let durations = |sum: i64, max: i64, buckets: &[i16], counts: &[i64]| Durations {
            count: whole(row.begun),
            sum: millis(sum),
            max: millis(max),
            histogram: Histogram::of(buckets, counts),
        };
        *point = Point {
            at: row.at,
            completed: whole(row.completed),
            failed: whole(row.failed),
            cancelled: whole(row.cancelled),
            attempts: whole(row.attempts),
            taken_back: whole(row.taken_back),
            waits: durations(row.wait_ms, row.wait_ms_max, &row.wait_buckets, &row.wait_counts),
            runs: durations(row.run_ms, row.run_ms_max, &row.run_buckets, &row.run_counts),
            depth: None,
        };
    }
    Ok(())
}

async fn add_depths(
    conn: &mut Connection,
    filter: &HistoryFilter,
    from: DateTime<Utc>,
    points: &mut BTreeMap<DateTime<Utc>, Point>,
) -> Result<(), Error> {
    let rows = sqlx::query!(
        r#"select at, sum(ready)::bigint as "ready!", sum(scheduled)::bigint as "scheduled!", sum(running)::bigint as "running!",
               bool_or(is_capped) as "is_capped!", max(oldest_ready_s) as oldest_ready_s
           from queue_history_depths
           where step_s = $1 and at >= $2 and at < $3 and ($4::text is null or queue = $4) and ($5::text is null or kind = $5)
           group by at"#,
        filter.step.seconds(),
        from,
        filter.to,
        filter.queue.map(Queue::as_str),
        filter.kind,
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        if let Some(point) = points.get_mut(&row.at) {
            point.depth = Some(DepthPoint {
                ready: u64::try_from(row.ready).unwrap_or_default(),
                scheduled: u64::try_from(row.scheduled).unwrap_or_default(),
                running: u64::try_from(row.running).unwrap_or_default(),
                is_capped: row.is_capped,
                oldest_ready: row.oldest_ready_s.and_then(|age| Duration::try_from_secs_f64(age).ok()),
            });
        }
    }
    Ok(())
}
