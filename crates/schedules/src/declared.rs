//! Schedules that code declares, and what operators made of them.
//!
//! A starting scheduler declares what its code says: new schedules are stored, those that nobody edited follow, and
//! of edited ones only the fields that were not edited follow. While it runs it refreshes its declarations. One that no
//! process has refreshed for [`EXPIRES`] has left the code of all versions that run: it is removed, or, if it was
//! edited, stays as the operator's own. So processes of two versions during an upgrade remove nothing of each other.

use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;

use crate::store::{insert, lock, update};
use crate::{Definition, ScheduleError};

/// How long a declaration holds that nobody refreshes.
pub const EXPIRES: TimeDelta = TimeDelta::hours(1);

/// Declares one schedule, in a transaction. Ticks that were due before the change of a line are to be decided before.
///
/// # Errors
/// [`ScheduleError`].
pub async fn declare(
    conn: &mut Connection,
    name: &str,
    declared: &Definition,
    now: DateTime<Utc>,
) -> Result<(), ScheduleError> {
    let Some(mut schedule) = lock(conn, name).await? else {
        insert(conn, name, declared, Some(declared), None, now).await?;
        return Ok(());
    };
    if schedule.declared.as_ref() != Some(declared) {
        let edits = match &schedule.declared {
            Some(before) => before.changes_in(&schedule.definition),
            // An operator made it first.
            None => declared.changes_in(&schedule.definition),
        };
        let merged = declared.with(&edits);
        let timing_changed = schedule.definition.ticks_otherwise_than(&merged);
        let from = if timing_changed { now } else { schedule.ticked_until };
        schedule.definition = merged;
        schedule.declared = Some(declared.clone());
        update(conn, &schedule, from).await?;
    }
    refresh(conn, &[name.to_owned()], now).await
}

/// Says that code still declares these.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn refresh(
    conn: &mut Connection,
    names: &[String],
    now: DateTime<Utc>,
) -> Result<(), ScheduleError> {
    sqlx::query!(
        "update schedules set declared_at = greatest(declared_at, $2) where name = any($1) and declared is not null",
        names,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends declarations that nobody has refreshed for [`EXPIRES`]; answers the names of schedules that are gone by it.
///
/// # Errors
/// [`ScheduleError::Database`].
pub async fn expire(conn: &mut Connection, now: DateTime<Utc>) -> Result<Vec<String>, ScheduleError> {
    let old = sqlx::query_scalar!(
        "select name from schedules where declared is not null and declared_at < $1 order by name for update skip locked",
        now - EXPIRES,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut gone = Vec::new();
    for name in old {
        let Some(mut schedule) = lock(conn, &name).await? else { continue };
        if schedule.is_edited() {
            schedule.declared = None;
            let ticked_until = schedule.ticked_until;
            update(conn, &schedule, ticked_until).await?;
        } else {
            crate::remove(conn, &name).await?;
            gone.push(name);
        }
    }
    Ok(gone)
}
