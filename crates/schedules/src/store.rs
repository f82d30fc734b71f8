//! The table of schedules.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::JobId;
use serde_json::Value;

use crate::{Definition, Missed, ScheduleError};

/// Most schedules that there may be.
pub const SCHEDULES_MAX: i64 = 1_000;

/// A schedule and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What it is, edits included.
    pub definition: Definition,
    /// What code says; `None` when an operator made it.
    pub declared: Option<Definition>,
    /// Who edited it last.
    pub edited_by: Option<String>,
    /// When.
    pub edited_at: Option<DateTime<Utc>>,
    /// Every tick up to here was decided.
    pub ticked_until: DateTime<Utc>,
    /// The first tick after that, while it is enabled.
    pub next_at: Option<DateTime<Utc>>,
    /// The last tick that became a job.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// The job of that tick, or of a later run by hand.
    pub last_job: Option<JobId>,
    /// When that job was stored.
    pub last_run_at: Option<DateTime<Utc>>,
    /// Ticks missed since it exists.
    pub missed_ticks: u64,
    /// Why its ticks cannot be made into jobs, while they cannot.
    pub error: Option<String>,
    /// Since when.
    pub error_at: Option<DateTime<Utc>>,
}

impl Schedule {
    /// Whether it differs from what code says, or code says nothing.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.declared.as_ref() != Some(&self.definition)
    }
}

/// The columns of a schedule, as its queries select them.
#[derive(Debug)]
struct Row {
    name: String,
    cron: String,
    time_zone: String,
    kind: String,
    args: Value,
    missed: String,
    jitter_ms: i32,
    enabled: bool,
    declared: Option<Value>,
    edited_by: Option<String>,
    edited_at: Option<DateTime<Utc>>,
    ticked_until: DateTime<Utc>,
    next_at: Option<DateTime<Utc>>,
    last_tick_at: Option<DateTime<Utc>>,
    last_job_id: Option<uuid::Uuid>,
    last_run_at: Option<DateTime<Utc>>,
    missed_ticks: i64,
    error: Option<String>,
    error_at: Option<DateTime<Utc>>,
}

/// Reads whole schedules: what follows `from schedules`, and its arguments.
macro_rules! schedules {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            "select name, cron, time_zone, kind, args, missed, jitter_ms, enabled, declared, edited_by, edited_at,
                 ticked_until, next_at, last_tick_at, last_job_id, last_run_at, missed_ticks, error, error_at
             from schedules " + $which
            $(, $argument)*
        )
    };
}

impl From<Row> for Schedule {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            definition: Definition {
                cron: row.cron,
                time_zone: row.time_zone,
                kind: row.kind,
                args: row.args,
                // Only what was read is written; anything else runs nothing that is late.
                missed: row.missed.parse().unwrap_or(Missed::Skip),
                jitter_ms: row.jitter_ms.try_into().unwrap_or_default(),
                enabled: row.enabled,
            },
            declared: row.declared.and_then(|declared| serde_json::from_value(declared).ok()),
            edited_by: row.edited_by,
            edited_at: row.edited_at,
            ticked_until: row.ticked_until,
            next_at: row.next_at,
            last_tick_at: row.last_tick_at,
            last_job: row.last_job_id.map(JobId::from_uuid),
            last_run_at: row.last_run_at,
            missed_ticks: row.missed_ticks.try_into().unwrap_or_default(),
            error: row.error,
            error_at: row.error_at,
        }
    }
}

/// The database's clock, read now and not when the transaction began.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn database_now(conn: &mut Connection) -> Result<DateTime<Utc>, ScheduleError> {
    Ok(sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(conn).await?)
}

/// The schedules that have ticks to decide, and when the next of the others has one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueSchedules {
    /// Their names, the longest overdue first.
    pub names: Vec<String>,
    /// The earliest tick of all that are not due.
    pub next_at: Option<DateTime<Utc>>,
}

/// What is due at `now`.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn due(conn: &mut Connection, now: DateTime<Utc>) -> Result<DueSchedules, ScheduleError> {
    let rows = sqlx::query!(
        r#"select name, next_at as "next_at!" from schedules
           where enabled and next_at is not null
           order by next_at
           limit $1"#,
        SCHEDULES_MAX,
    )
    .fetch_all(conn)
    .await?;
    let next_at = rows.iter().map(|row| row.next_at).find(|next_at| *next_at > now);
    let due = rows.into_iter().take_while(|row| row.next_at <= now);
    Ok(DueSchedules { names: due.map(|row| row.name).collect(), next_at })
}

/// Locks a schedule that has ticks to decide, for the rest of the transaction; `None` when it has none by now, or
/// somebody else is at it.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn lock_due(
    conn: &mut Connection,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<Schedule>, ScheduleError> {
    let row = schedules!(
        "where name = $1 and enabled and next_at <= $2
           for update skip locked",
        name,
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Schedule::from))
}

/// Locks a schedule for the rest of the transaction, waiting for whoever is at it.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn lock(conn: &mut Connection, name: &str) -> Result<Option<Schedule>, ScheduleError> {
    let row = schedules!(
        "where name = $1
           for update",
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Schedule::from))
}

/// One schedule.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn get(conn: &mut Connection, name: &str) -> Result<Option<Schedule>, ScheduleError> {
    let row = schedules!("where name = $1", name,).fetch_optional(conn).await?;
    Ok(row.map(Schedule::from))
}

/// All schedules, by name.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn list(conn: &mut Connection) -> Result<Vec<Schedule>, ScheduleError> {
    let rows = schedules!(
        "order by name
           limit $1",
        SCHEDULES_MAX,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Schedule::from).collect())
}

/// Stores a new schedule that ticks after `now`; answers `false` when there is one of this name. Check it before.
///
/// # Errors
/// [`ScheduleError::TooMany`], [`ScheduleError::Database`].
pub async fn insert(
    conn: &mut Connection,
    name: &str,
    definition: &Definition,
    declared: Option<&Definition>,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<bool, ScheduleError> {
    let count =
        sqlx::query_scalar!(r#"select count(*) as "n!" from schedules"#).fetch_one(&mut *conn).await?;
    if count >= SCHEDULES_MAX {
        return Err(ScheduleError::TooMany { max: SCHEDULES_MAX });
    }
    let stored = sqlx::query!(
        "insert into schedules (
             name, cron, time_zone, kind, args, missed, jitter_ms, enabled, declared, declared_at, edited_by, edited_at,
             ticked_until, next_at
         )
         values (
             $1, $2, $3, $4, $5, $6, $7, $8, $9, case when $9::json is not null then $11::timestamptz end, $10,
             case when $10::text is not null then $11 end, $11, $12
         )
         on conflict do nothing",
        name,
        definition.cron,
        definition.time_zone,
        definition.kind,
        definition.args,
        definition.missed.to_string(),
        i32::try_from(definition.jitter_ms).unwrap_or(i32::MAX),
        definition.enabled,
        declared.map(as_json),
        by,
        now,
        next_of(definition, now),
    )
    .execute(conn)
    .await?;
    Ok(stored.rows_affected() > 0)
}

/// Writes a locked schedule's definition, what code says of it, and who edited it. Its ticks are decided
/// up to `from`. Whatever was wrong with it is looked at anew.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn update(
    conn: &mut Connection,
    schedule: &Schedule,
    from: DateTime<Utc>,
) -> Result<(), ScheduleError> {
    let definition = &schedule.definition;
    sqlx::query!(
        "update schedules
         set cron = $2, time_zone = $3, kind = $4, args = $5, missed = $6, jitter_ms = $7, enabled = $8, declared = $9,
             edited_by = $10, edited_at = $11, ticked_until = greatest(ticked_until, $12::timestamptz), next_at = $13,
             error = null, error_at = null
         where name = $1",
        schedule.name,
        definition.cron,
        definition.time_zone,
        definition.kind,
        definition.args,
        definition.missed.to_string(),
        i32::try_from(definition.jitter_ms).unwrap_or(i32::MAX),
        definition.enabled,
        schedule.declared.as_ref().map(as_json),
        schedule.edited_by,
        schedule.edited_at,
        from,
        next_of(definition, from.max(schedule.ticked_until)),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a schedule; what became of its ticks stays until it is old.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn remove(conn: &mut Connection, name: &str) -> Result<(), ScheduleError> {
    sqlx::query!("delete from schedules where name = $1", name).execute(conn).await?;
    Ok(())
}

/// Notes why a locked schedule's ticks cannot be made into jobs; answers whether that is news. Its ticks stay due.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn note_error(
    conn: &mut Connection,
    name: &str,
    error: &str,
    now: DateTime<Utc>,
) -> Result<bool, ScheduleError> {
    let noted = sqlx::query!(
        "update schedules set error = $2, error_at = $3 where name = $1 and error is distinct from $2",
        name,
        error,
        now,
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() > 0)
}

fn as_json(definition: &Definition) -> Value {
    serde_json::to_value(definition).unwrap_or_default()
}

/// When a definition ticks next; `None` when it does not.
fn next_of(definition: &Definition, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let timing = definition.enabled.then(|| definition.check().ok())??;
    timing.next_after(after)
}
