//! What became of each tick.

use std::fmt;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::JobId;

use crate::{Decided, ScheduleError};

/// How long it is kept what became of a tick.
pub const KEPT_DAYS: i32 = 35;
/// Newest ticks of one schedule that are kept.
pub const TICKS_KEPT_MAX: i64 = 10_000;

/// What became of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickOutcome {
    /// It has a job.
    Enqueued,
    /// It came too late, and its schedule's policy said not to run it.
    Missed,
    /// Somebody asked for it.
    Manual,
}

impl TickOutcome {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Missed => "missed",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for TickOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tick, or a span of missed ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickRow {
    /// Its instant; of a span, the first.
    pub tick_at: DateTime<Utc>,
    /// What became of it.
    pub outcome: TickOutcome,
    /// Of a span, the last.
    pub last_at: Option<DateTime<Utc>>,
    /// Of a span, how many; else one.
    pub ticks: u64,
    /// Its job.
    pub job: Option<JobId>,
    /// Who asked for it.
    pub asked_by: Option<String>,
    /// When this was decided.
    pub decided_at: DateTime<Utc>,
}

/// Records what became of a locked schedule's due ticks, moves its watermark to `now` and clears its error. `jobs` are
/// those of `decided.run`, in its order.
///
/// # Errors
/// [`ScheduleError::Database`]; a tick that was decided before is refused here, whoever decided it.
pub async fn record(
    conn: &mut Connection,
    name: &str,
    decided: &Decided,
    jobs: &[JobId],
    now: DateTime<Utc>,
    next_at: Option<DateTime<Utc>>,
) -> Result<(), ScheduleError> {
    let mut rows = Rows::default();
    if let Some(older) = decided.older {
        rows.push(older.first, TickOutcome::Missed, Some(older.last), older.ticks, None);
    }
    for tick in &decided.missed {
        rows.push(*tick, TickOutcome::Missed, None, 1, None);
    }
    for (tick, job) in decided.run.iter().zip(jobs) {
        rows.push(*tick, TickOutcome::Enqueued, None, 1, Some(*job));
    }
    sqlx::query!(
        r#"insert into schedule_ticks (schedule, tick_at, outcome, last_at, ticks, job_id, decided_at)
           select $1, tick_at, outcome, last_at, ticks, job_id, $7
           from unnest($2::timestamptz[], $3::text[], $4::timestamptz[], $5::bigint[], $6::uuid[])
               as t (tick_at, outcome, last_at, ticks, job_id)"#,
        name,
        &rows.ticks_at,
        &rows.outcomes as &[&str],
        &rows.last_at as &[Option<DateTime<Utc>>],
        &rows.ticks,
        &rows.jobs as &[Option<uuid::Uuid>],
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update schedules
         set ticked_until = greatest(ticked_until, $2), next_at = $3, last_tick_at = coalesce($4, last_tick_at),
             last_job_id = coalesce($5, last_job_id), last_run_at = case when $5::uuid is null then last_run_at else $2 end,
             missed_ticks = missed_ticks + $6, error = null, error_at = null
         where name = $1",
        name,
        now,
        next_at,
        decided.run.last().copied(),
        jobs.last().map(|job| job.uuid()),
        i64::try_from(decided.missed_ticks()).unwrap_or(i64::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records a run that somebody asked for, of a locked schedule.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn record_manual(
    conn: &mut Connection,
    name: &str,
    at: DateTime<Utc>,
    job: JobId,
    by: &str,
) -> Result<(), ScheduleError> {
    sqlx::query!(
        "insert into schedule_ticks (schedule, tick_at, outcome, job_id, asked_by, decided_at)
         values ($1, $2, 'manual', $3, $4, $2)",
        name,
        at,
        job.uuid(),
        by,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update schedules set last_job_id = $2, last_run_at = $3, error = null, error_at = null where name = $1",
        name,
        job.uuid(),
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest ticks of a schedule, the newest first.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn ticks(conn: &mut Connection, name: &str, ticks_max: i64) -> Result<Vec<TickRow>, ScheduleError> {
    let rows = sqlx::query!(
        "select tick_at, outcome, last_at, ticks, job_id, asked_by, decided_at
         from schedule_ticks
         where schedule = $1
         order by tick_at desc
         limit $2",
        name,
        ticks_max,
    )
    .fetch_all(conn)
    .await?;
    let rows = rows.into_iter().map(|row| TickRow {
        tick_at: row.tick_at,
        outcome: match row.outcome.as_str() {
            "enqueued" => TickOutcome::Enqueued,
            "manual" => TickOutcome::Manual,
            _ => TickOutcome::Missed,
        },
        last_at: row.last_at,
        ticks: row.ticks.try_into().unwrap_or_default(),
        job: row.job_id.map(JobId::from_uuid),
        asked_by: row.asked_by,
        decided_at: row.decided_at,
    });
    Ok(rows.collect())
}

/// Removes up to `rows_max` ticks that are older than [`KEPT_DAYS`] or beyond their schedule's newest
/// [`TICKS_KEPT_MAX`]; answers how many.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn prune(conn: &mut Connection, rows_max: i64) -> Result<u64, ScheduleError> {
    let removed = sqlx::query!(
        r#"with old as (
               (select schedule, tick_at from schedule_ticks
                where tick_at < now() - make_interval(days => $1)
                order by tick_at
                limit $3)
               union
               (select t.schedule, t.tick_at
                from schedules s
                cross join lateral (
                    select tick_at from schedule_ticks
                    where schedule = s.name
                    order by tick_at desc
                    offset $2
                    limit 1
                ) as last
                cross join lateral (
                    select schedule, tick_at from schedule_ticks
                    where schedule = s.name and tick_at <= last.tick_at
                    order by tick_at
                    limit $3
                ) as t
                limit $3)
           )
           delete from schedule_ticks t using old
           where t.schedule = old.schedule and t.tick_at = old.tick_at"#,
        KEPT_DAYS,
        TICKS_KEPT_MAX,
        rows_max,
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected())
}

#[derive(Default)]
struct Rows {
    ticks_at: Vec<DateTime<Utc>>,
    outcomes: Vec<&'static str>,
    last_at: Vec<Option<DateTime<Utc>>>,
    ticks: Vec<i64>,
    jobs: Vec<Option<uuid::Uuid>>,
}

impl Rows {
    fn push(
        &mut self,
        tick_at: DateTime<Utc>,
        outcome: TickOutcome,
        last_at: Option<DateTime<Utc>>,
        ticks: u64,
        job: Option<JobId>,
    ) {
        self.ticks_at.push(tick_at);
        self.outcomes.push(outcome.as_str());
        self.last_at.push(last_at);
        self.ticks.push(i64::try_from(ticks).unwrap_or(i64::MAX));
        self.jobs.push(job.map(JobId::uuid));
    }
}
