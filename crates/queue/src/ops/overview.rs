//! The queues at a glance.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;

use crate::{
    Depth, Error, Queue, depths::depths_in, history::Step, lane::lanes_of, maintenance::interval, plans,
};

/// Over how much of the past [`Recent`] looks.
pub const RECENT: Duration = Duration::from_secs(5 * 60);
/// Dead jobs are counted up to this many.
const DEAD_MAX: i64 = 10_000;
/// Heads of lanes that the age of the oldest ready job is read from, of each queue.
const HEADS_MAX: i32 = 200;
/// Blocked limits shown.
const BLOCKED_MAX: i64 = 100;

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// When it was read, by the database's clock.
    pub at: DateTime<Utc>,
    /// Each queue.
    pub queues: Vec<QueueOverview>,
    /// Jobs that failed within the last hour, up to 10,000.
    pub dead_last_hour: i64,
    /// Jobs that failed within the last 24 hours, up to 10,000.
    pub dead_last_day: i64,
    /// Worker processes that have shown a sign of life within a lease.
    pub workers_alive: i64,
    /// Of these, how many claim nothing: they end, or were asked to be quiet.
    pub workers_quiet: i64,
    /// Limits that the other side blocks now, the first hundred.
    pub blocked: Vec<BlockedLimit>,
}

/// A queue at a glance.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueOverview {
    /// How much stands there.
    pub depth: Depth,
    /// How long the job has been ready that has been longest; in a queue of very many lanes, of the first of them.
    pub oldest_ready: Option<Duration>,
    /// Who paused all of it, and since when.
    pub paused: Option<(String, DateTime<Utc>)>,
    /// Kinds of it that are paused.
    pub paused_kinds: Vec<String>,
    /// Processes that work it and claim.
    pub processes: i64,
    /// Their slots together, as bounded by `concurrency_max`.
    pub slots: i64,
    /// An operator's bound of how many of its jobs each process runs at once.
    pub concurrency_max: Option<i32>,
    /// What became of its jobs in the last complete minutes.
    pub recent: Recent,
}

/// What became of jobs within [`RECENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// Minutes that are known.
    pub minutes: u32,
    /// Jobs that were done in them.
    pub completed: u64,
    /// Jobs that were given up.
    pub failed: u64,
    /// Jobs that were called off.
    pub cancelled: u64,
}

impl Recent {
    /// Jobs that ended in a second; `None` while no minute is known.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let ended = self.completed + self.failed + self.cancelled;
        (self.minutes > 0).then(|| ended as f64 / (f64::from(self.minutes) * 60.0))
    }

    /// The part of what ended that failed; `None` when nothing ended.
    #[must_use]
    pub fn failed_share(&self) -> Option<f64> {
        let ended = self.completed + self.failed + self.cancelled;
        (ended > 0).then(|| self.failed as f64 / ended as f64)
    }
}

/// A limit on which nothing is drawn now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedLimit {
    /// Its name.
    pub name: String,
    /// The key, empty for limits that are not keyed.
    pub key: String,
    /// Until then.
    pub until: DateTime<Utc>,
}

/// Everything at a glance. `lease`: how long a process counts as alive after its last sign of life.
///
/// # Errors
/// [`Error::Database`].
pub async fn overview(conn: &mut Connection, lease: Duration) -> Result<Overview, Error> {
    plans::pin(conn).await?;
    let depths = depths_in(conn).await?;
    let dead = sqlx::query!(
        r#"select now() as "now!",
               (select count(*) from (
                   select from jobs_finished where ended = 'failed' and finished_at > now() - interval '1 hour' limit $1
               ) as h) as "hour!",
               (select count(*) from (
                   select from jobs_finished where ended = 'failed' and finished_at > now() - interval '1 day' limit $1
               ) as d) as "day!""#,
        DEAD_MAX,
    )
    .fetch_one(&mut *conn)
    .await?;
    let alive = sqlx::query!(
        r#"select count(*) as "alive!", count(*) filter (where draining or asked is not null) as "quiet!"
           from worker_processes where heartbeat_at > now() - $1::interval"#,
        interval(lease),
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut queues = Vec::new();
    for depth in depths {
        queues.push(queue_overview(conn, depth, dead.now, lease).await?);
    }
    Ok(Overview {
        at: dead.now,
        queues,
        dead_last_hour: dead.hour,
        dead_last_day: dead.day,
        workers_alive: alive.alive,
        workers_quiet: alive.quiet,
        blocked: blocked(conn).await?,
    })
}

async fn queue_overview(
    conn: &mut Connection,
    depth: Depth,
    now: DateTime<Utc>,
    lease: Duration,
) -> Result<QueueOverview, Error> {
    let name = depth.queue.as_str();
    let row = sqlx::query!(
        r#"select
               (select paused_by from job_pauses where queue = $1 and kind = '') as paused_by,
               (select paused_at from job_pauses where queue = $1 and kind = '') as paused_at,
               array(select kind from job_pauses where queue = $1 and kind <> '' order by kind) as "paused_kinds!",
               b.concurrency_max as "concurrency_max?",
               (select count(*) from worker_processes p
                where $1 = any(p.queues) and p.heartbeat_at > now() - $2::interval and not p.draining
                  and p.asked is null) as "processes!",
               (select coalesce(sum(least(p.slots[array_position(p.queues, $1)], b.concurrency_max)), 0)
                from worker_processes p
                where $1 = any(p.queues) and p.heartbeat_at > now() - $2::interval and not p.draining
                  and p.asked is null) as "slots!"
           from (select) as one
           left join job_queue_bounds b on b.queue = $1"#,
        name,
        interval(lease),
    )
    .fetch_one(&mut *conn)
    .await?;
    Ok(QueueOverview {
        depth,
        oldest_ready: oldest_ready(conn, depth.queue).await?,
        paused: row.paused_by.zip(row.paused_at),
        paused_kinds: row.paused_kinds,
        processes: row.processes,
        slots: row.slots,
        concurrency_max: row.concurrency_max,
        recent: recent(conn, depth.queue, now).await?,
    })
}

async fn oldest_ready(conn: &mut Connection, queue: Queue) -> Result<Option<Duration>, Error> {
    let (from, to) = lanes_of(queue);
    let seconds = sqlx::query_scalar!(
        r#"with recursive heads as (
               (
                   select lane, run_at, 1 as n from jobs
                   where state = 'ready' and lane >= $1 and lane < $2
                   order by lane, priority, run_at, id
                   limit 1
               )
               union all
               select next.lane, next.run_at, h.n + 1
               from heads h
               cross join lateral (
                   select j.lane, j.run_at from jobs j
                   where j.state = 'ready' and j.lane > h.lane and j.lane < $2
                   order by j.lane, j.priority, j.run_at, j.id
                   limit 1
               ) as next
               where h.n < $3
           )
           select case when count(*) > 0 then greatest(extract(epoch from now() - min(run_at)), 0)::float8 end
           from heads"#,
        from,
        to,
        HEADS_MAX,
    )
    .fetch_one(conn)
    .await?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

async fn recent(conn: &mut Connection, queue: Queue, now: DateTime<Utc>) -> Result<Recent, Error> {
    // What is not rolled up yet is not known.
    let from = now - RECENT - Step::Minute.length();
    let row = sqlx::query!(
        r#"select
               (select count(*) from queue_history_buckets where step_s = 60 and at >= $2 and at < $3) as "minutes!",
               coalesce(sum(completed), 0)::bigint as "completed!", coalesce(sum(failed), 0)::bigint as "failed!",
               coalesce(sum(cancelled), 0)::bigint as "cancelled!"
           from queue_history_sums
           where step_s = 60 and at >= $2 and at < $3 and queue = $1 and kind = ''"#,
        queue.as_str(),
        from,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(Recent {
        minutes: u32::try_from(row.minutes).unwrap_or_default(),
        completed: row.completed.unsigned_abs(),
        failed: row.failed.unsigned_abs(),
        cancelled: row.cancelled.unsigned_abs(),
    })
}

async fn blocked(conn: &mut Connection) -> Result<Vec<BlockedLimit>, Error> {
    let rows = sqlx::query!(
        "select name, key, blocked_until from job_limit_buckets
         where blocked_until > now()
         order by blocked_until desc, name, key
         limit $1",
        BLOCKED_MAX,
    )
    .fetch_all(conn)
    .await?;
    let blocked =
        rows.into_iter().map(|row| BlockedLimit { name: row.name, key: row.key, until: row.blocked_until });
    Ok(blocked.collect())
}
