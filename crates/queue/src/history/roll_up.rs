//! Rolling up what ended into minutes, and minutes into hours.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::{Connection, Pool};

use super::{LATENESS, MINUTES_KEPT, Step, TENANTS_MAX, WAITED_FOR};
use crate::{Error, Queue, lane::lanes_of, maintenance::interval, upkeep::MARK};

/// Minutes rolled up in one transaction.
const CHUNK_MINUTES_MAX: i64 = 10;
/// Rows removed in one transaction.
const DROPPED_ROWS_MAX: i64 = 10_000;
/// How long looking through new pages may wait for a cleaning of the table: less than it takes for that to be cancelled.
const LOCK_WAIT_MS_MAX: u32 = 100;

/// What one transaction rolled up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolledUp {
    /// Minutes.
    pub minutes: u32,
    /// Hours.
    pub hours: u32,
    /// Jobs that ended in those minutes.
    pub jobs: u64,
}

impl RolledUp {
    /// Whether there may be more to do at once.
    #[must_use]
    pub const fn did_something(self) -> bool {
        self.minutes > 0 || self.hours > 0
    }
}

/// Rolls up the next few minutes that are complete, and the hours that are complete with them. To be called in a
/// transaction, and again until it did nothing. Two at once wait for each other, and the second goes on where the first
/// ended.
///
/// # Errors
/// [`Error::Database`]; then nothing of it is done.
pub async fn roll_up(conn: &mut Connection) -> Result<RolledUp, Error> {
    let progress = sqlx::query!(
        r#"select minutes_until, hours_until, date_trunc('hour', now() - $1::interval, 'UTC') + interval '1 hour' as "oldest!"
           from queue_history_progress
           for update"#,
        interval(MINUTES_KEPT),
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut rolled_up = RolledUp::default();
    let mut minutes_until = progress.minutes_until;
    let mut hours_until = progress.hours_until;
    // What is known of hours before an absence comes first: then minutes may be left out.
    rolled_up.hours += roll_up_hours(conn, &mut hours_until, minutes_until).await?;
    if minutes_until < progress.oldest {
        // Older minutes would be dropped at once. They begin with an hour, so that hours stay whole.
        minutes_until = progress.oldest;
        hours_until = hours_until.max(progress.oldest);
    }
    let complete = complete_until(conn, minutes_until).await?;
    if complete > minutes_until {
        let jobs = sqlx::query_scalar!(
            r#"select queue_history_minutes($1, $2, $3) as "jobs!""#,
            minutes_until,
            complete,
            TENANTS_MAX,
        )
        .fetch_one(&mut *conn)
        .await?;
        rolled_up.jobs = u64::try_from(jobs).unwrap_or_default();
        rolled_up.minutes = u32::try_from((complete - minutes_until).num_minutes()).unwrap_or_default();
        minutes_until = complete;
        rolled_up.hours += roll_up_hours(conn, &mut hours_until, minutes_until).await?;
    }
    sqlx::query!(
        "update queue_history_progress set minutes_until = $1, hours_until = $2",
        minutes_until,
        hours_until,
    )
    .execute(conn)
    .await?;
    Ok(rolled_up)
}

/// The end of the minutes after `from` that are complete, of the first few.
async fn complete_until(conn: &mut Connection, from: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let until = sqlx::query_scalar!(
        r#"select date_trunc(
                   'minute',
                   least(
                       $1::timestamptz + make_interval(mins => $2),
                       now() - $3::interval,
                       greatest(
                           now() - $4::interval,
                           (select coalesce(min(xact_start), now()) from pg_stat_activity
                            where datname = current_database() and backend_type = 'client backend'
                              and pid <> pg_backend_pid() and query not like $5)
                       )
                   )
               ) as "until!""#,
        from,
        i32::try_from(CHUNK_MINUTES_MAX).unwrap_or_default(),
        interval(LATENESS),
        interval(WAITED_FOR),
        // Our own cleaning ends no job.
        format!("/* {MARK} %"),
    )
    .fetch_one(conn)
    .await?;
    Ok(until)
}

async fn roll_up_hours(
    conn: &mut Connection,
    hours_until: &mut DateTime<Utc>,
    minutes_until: DateTime<Utc>,
) -> Result<u32, Error> {
    let mut hours = 0;
    while *hours_until + Step::Hour.length() <= minutes_until {
        sqlx::query!("select queue_history_hour($1, $2)", *hours_until, TENANTS_MAX)
            .fetch_one(&mut *conn)
            .await?;
        *hours_until += Step::Hour.length();
        hours += 1;
    }
    Ok(hours)
}

/// Records what stands in the queues now, as this minute's sample, unless there is one.
///
/// # Errors
/// [`Error::Database`].
pub async fn sample_depths(conn: &mut Connection) -> Result<(), Error> {
    for queue in Queue::ALL {
        let (from, to) = lanes_of(queue);
        sqlx::query!(
            "insert into queue_history_depths
             select 60, date_trunc('minute', now()), $1, kind, ready, scheduled, running, is_capped, oldest_ready_s
             from queue_depth_sample($1, $2, $3)
             on conflict do nothing",
            queue.as_str(),
            from,
            to,
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Removes some buckets whose time is over; answers how many rows that were. To be called until it is none.
///
/// # Errors
/// [`Error::Database`].
pub async fn drop_old(conn: &mut Connection) -> Result<u64, Error> {
    let mut dropped = 0;
    for step in [Step::Minute, Step::Hour] {
        let (seconds, kept) = (step.seconds(), interval(step.kept()));
        let rows = sqlx::query!(
            "with old as (
                 select step_s, at, queue, kind, tenant_id from queue_history
                 where step_s = $1 and at < now() - $2::interval
                 order by step_s, at
                 limit $3
             )
             delete from queue_history h using old
             where h.step_s = $1 and (h.at, h.queue, h.kind, h.tenant_id) = (old.at, old.queue, old.kind, old.tenant_id)",
            seconds,
            kept,
            DROPPED_ROWS_MAX,
        )
        .execute(&mut *conn)
        .await?;
        dropped += rows.rows_affected();
        let sums = sqlx::query!(
            "with old as (
                 select queue, kind, at from queue_history_sums
                 where step_s = $1 and at < now() - $2::interval
                 limit $3
             )
             delete from queue_history_sums s using old
             where s.step_s = $1 and (s.queue, s.kind, s.at) = (old.queue, old.kind, old.at)",
            seconds,
            kept,
            DROPPED_ROWS_MAX,
        )
        .execute(&mut *conn)
        .await?;
        dropped += sums.rows_affected();
        let samples = sqlx::query!(
            "with old as (
                 select at, queue, kind from queue_history_depths
                 where step_s = $1 and at < now() - $2::interval
                 order by step_s, at
                 limit $3
             )
             delete from queue_history_depths d using old
             where d.step_s = $1 and (d.at, d.queue, d.kind) = (old.at, old.queue, old.kind)",
            seconds,
            kept,
            DROPPED_ROWS_MAX,
        )
        .execute(&mut *conn)
        .await?;
        dropped += samples.rows_affected();
        let buckets = sqlx::query!(
            "delete from queue_history_buckets where step_s = $1 and at < now() - $2::interval",
            seconds,
            kept,
        )
        .execute(&mut *conn)
        .await?;
        dropped += buckets.rows_affected();
    }
    Ok(dropped)
}

/// Has the index of pages look through those pages of history that are new, so that rolling up a minute and asking for what
/// ended within a time read that time; without it every page since the table was cleaned last is read. Gives way to a cleaning under way: it does the
/// same.
///
/// # Errors
/// [`Error::Database`].
pub async fn summarize_new_pages(pool: &Pool) -> Result<(), Error> {
    let mut tx = db::begin(pool).await?;
    sqlx::query!(
        "select set_config('lock_timeout', $1, true)",
        Duration::from_millis(LOCK_WAIT_MS_MAX.into()).as_millis().to_string()
    )
    .fetch_one(&mut *tx)
    .await?;
    let summarized = sqlx::query!(
        r#"select brin_summarize_new_values(i.indexrelid)
           from pg_partition_tree('jobs_finished_time') t
           join pg_index i on i.indexrelid = t.relid
           where t.isleaf and i.indrelid in (
               select to_regclass(name) from unnest(array[
                   'jobs_finished_overflow',
                   'jobs_finished_' || to_char(now() at time zone 'UTC', 'IYYY"w"IW'),
                   'jobs_finished_' || to_char((now() - interval '2 hours') at time zone 'UTC', 'IYYY"w"IW')
               ]) as name
           )"#,
    )
    .fetch_all(&mut *tx)
    .await;
    match summarized.map_err(Error::from) {
        Ok(_) => Ok(tx.commit().await?),
        Err(error) if error.is_locked() => Ok(tx.rollback().await?),
        Err(error) => Err(error),
    }
}
