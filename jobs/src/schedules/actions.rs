//! What people do with schedules, one function each whatever the door: command line or HTTP.
//!
//! Those that change something want a connection with an open transaction, to be rolled back on an error. A change
//! first decides what was due before it, by the rules that held until then.

use ::schedules::{
    Change, Definition, Fault, GRACE, Missed, Schedule, TickRow, Timing, check_name, database_now, insert,
    lock, record_manual, update,
};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use db::Connection;
use kernel::ids::{JobId, TenantId};
use queue::{JobRecord, Queue};
use serde_json::{Value, json};

use super::ActionError;
use super::ticks::{check_job, give_up, job_of, settle};
use crate::{Deed, Door, Entry};

/// A schedule with what people want to know of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// It.
    pub schedule: Schedule,
    /// When it ticks; the faults where that cannot be read.
    pub timing: Result<Timing, Vec<Fault>>,
    /// The job of its last run, unless that is gone by now.
    pub last_job: Option<JobRecord>,
}

/// All schedules, by name.
///
/// # Errors
/// [`ActionError`].
pub async fn list(conn: &mut Connection) -> Result<Vec<Shown>, ActionError> {
    let mut shown = Vec::new();
    for schedule in ::schedules::list(conn).await? {
        shown.push(with_last_job(conn, schedule).await?);
    }
    Ok(shown)
}

/// One schedule and its newest `ticks_max` ticks, the newest first.
///
/// # Errors
/// [`ActionError::NotFound`].
pub async fn show(
    conn: &mut Connection,
    name: &str,
    ticks_max: i64,
) -> Result<(Shown, Vec<TickRow>), ActionError> {
    let schedule = ::schedules::get(conn, name).await?.ok_or_else(|| not_found(name))?;
    let ticks = ::schedules::ticks(conn, name, ticks_max).await?;
    Ok((with_last_job(conn, schedule).await?, ticks))
}

async fn with_last_job(conn: &mut Connection, schedule: Schedule) -> Result<Shown, ActionError> {
    let last_job = match schedule.last_job {
        Some(job) => queue::get(conn, TenantId::SYSTEM, job).await?,
        None => None,
    };
    Ok(Shown { timing: schedule.definition.check(), schedule, last_job })
}

/// What a line would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// In plain words.
    pub words: String,
    /// The zone it is read in.
    pub zone: Tz,
    /// The next ticks.
    pub ticks: Vec<DateTime<Utc>>,
}

/// The next `count` ticks that a line would have after an instant.
///
/// # Errors
/// What is wrong with the line or the zone.
pub fn preview(
    cron: &str,
    time_zone: &str,
    after: DateTime<Utc>,
    count: usize,
) -> Result<Preview, ActionError> {
    let timing = Timing::read(cron, time_zone)?;
    let ticks = timing.next_ticks(after).take(count).collect();
    Ok(Preview { words: timing.in_words(), zone: timing.zone, ticks })
}

/// Changes a schedule, or makes it when there is none of this name and line and kind are given.
///
/// # Errors
/// Everything that is wrong with what it would be.
pub async fn change(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    change: &Change,
    door: &Door<'_>,
) -> Result<Schedule, ActionError> {
    let Some(schedule) = lock(conn, name).await? else {
        return create(conn, kinds, name, change, door).await;
    };
    let definition = schedule.definition.with(change);
    let before = state(door, &schedule.definition);
    let schedule = rewrite(conn, kinds, schedule, definition, Some(&door.by())).await?;
    let after = state(door, &schedule.definition);
    record(conn, door, "schedules.change", name, Deed { before: Some(before), after: Some(after) }).await?;
    Ok(schedule)
}

async fn create(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    change: &Change,
    door: &Door<'_>,
) -> Result<Schedule, ActionError> {
    let mut faults: Vec<Fault> = check_name(name).err().into_iter().collect();
    let missing = |field| Fault { field, message: format!("there is no schedule {name:?} yet: give one") };
    if change.cron.is_none() {
        faults.push(missing("cron"));
    }
    if change.kind.is_none() {
        faults.push(missing("kind"));
    }
    let made = Definition {
        cron: String::new(),
        time_zone: "UTC".to_owned(),
        kind: String::new(),
        args: json!({}),
        missed: Missed::Once,
        jitter_ms: 0,
        enabled: true,
    };
    let definition = made.with(change);
    faults.extend(faults_of(kinds, &definition).into_iter().filter(|fault| match fault.field {
        "cron" => change.cron.is_some(),
        "kind" => change.kind.is_some(),
        _ => true,
    }));
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let now = database_now(conn).await?;
    if !insert(conn, name, &definition, None, Some(&door.by()), now).await? {
        return Err(ActionError::Conflict(format!(
            "the schedule {name:?} was made just now; look at it first"
        )));
    }
    let after = state(door, &definition);
    record(conn, door, "schedules.create", name, Deed { before: None, after: Some(after) }).await?;
    ::schedules::get(conn, name).await?.ok_or_else(|| not_found(name))
}

/// Stops a schedule; ticks while it is paused are not missed, they are not wanted.
///
/// # Errors
/// [`ActionError::NotFound`], [`ActionError::Conflict`] when it is paused.
pub async fn pause(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    door: &Door<'_>,
) -> Result<Schedule, ActionError> {
    switch(conn, kinds, name, door, false).await
}

/// Lets a schedule tick on, from now.
///
/// # Errors
/// [`ActionError::NotFound`], [`ActionError::Conflict`] when it is not paused.
pub async fn resume(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    door: &Door<'_>,
) -> Result<Schedule, ActionError> {
    switch(conn, kinds, name, door, true).await
}

async fn switch(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    door: &Door<'_>,
    enabled: bool,
) -> Result<Schedule, ActionError> {
    let schedule = lock(conn, name).await?.ok_or_else(|| not_found(name))?;
    if schedule.definition.enabled == enabled {
        let state = if enabled { "is not paused" } else { "is paused already" };
        return Err(ActionError::Conflict(format!("the schedule {name:?} {state}")));
    }
    let definition = schedule.definition.with(&Change { enabled: Some(enabled), ..Change::default() });
    let schedule = rewrite(conn, kinds, schedule, definition, Some(&door.by())).await?;
    let action = if enabled { "schedules.resume" } else { "schedules.pause" };
    let state = |enabled: bool| Some(json!({ "enabled": enabled }));
    record(conn, door, action, name, Deed { before: state(!enabled), after: state(enabled) }).await?;
    Ok(schedule)
}

/// Makes a schedule what code says again.
///
/// # Errors
/// [`ActionError::NotFound`], [`ActionError::Conflict`] when code says nothing of it.
pub async fn reset(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    door: &Door<'_>,
) -> Result<Schedule, ActionError> {
    let schedule = lock(conn, name).await?.ok_or_else(|| not_found(name))?;
    let declared = schedule.declared.clone().ok_or_else(|| {
        ActionError::Conflict(format!(
            "the schedule {name:?} is none of the program's own; remove it instead"
        ))
    })?;
    let before = state(door, &schedule.definition);
    let schedule = rewrite(conn, kinds, schedule, declared, None).await?;
    let after = state(door, &schedule.definition);
    record(conn, door, "schedules.reset", name, Deed { before: Some(before), after: Some(after) }).await?;
    Ok(schedule)
}

/// Removes a schedule that an operator made.
///
/// # Errors
/// [`ActionError::NotFound`], [`ActionError::Conflict`] when code declares it.
pub async fn remove(conn: &mut Connection, name: &str, door: &Door<'_>) -> Result<(), ActionError> {
    let schedule = lock(conn, name).await?.ok_or_else(|| not_found(name))?;
    if schedule.declared.is_some() {
        return Err(ActionError::Conflict(format!(
            "the schedule {name:?} is one of the program's own and would come back; pause it instead"
        )));
    }
    ::schedules::remove(conn, name).await?;
    let before = state(door, &schedule.definition);
    record(conn, door, "schedules.remove", name, Deed { before: Some(before), after: None }).await
}

/// A job that was asked for by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunNow {
    /// The job.
    pub job: JobId,
    /// The queue to wake after the commit.
    pub queue: Queue,
    /// The instant of its tick.
    pub at: DateTime<Utc>,
}

/// Stores a job of the schedule now, paused or not, beside its ticks.
///
/// # Errors
/// [`ActionError::NotFound`], or why there is no such job.
pub async fn run_now(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    door: &Door<'_>,
) -> Result<RunNow, ActionError> {
    let schedule = lock(conn, name).await?.ok_or_else(|| not_found(name))?;
    let mut at = database_now(conn).await?;
    if at.timestamp_subsec_micros() == 0 {
        // Whole seconds belong to the schedule's own ticks.
        at += TimeDelta::microseconds(1);
    }
    let job = job_of(&schedule, kinds)?;
    let queue = job.queue();
    let job = job.id(JobId::of_tick(name, at)).request_id(door.request_id.clone());
    let job = queue::enqueue(conn, job).await?.id();
    record_manual(conn, name, at, job, &door.by()).await?;
    let after = json!({"jobId": job, "kind": schedule.definition.kind});
    record(conn, door, "schedules.run_now", name, Deed { before: None, after: Some(after) }).await?;
    Ok(RunNow { job, queue, at })
}

/// Declares what code says of a schedule, as a starting scheduler does.
///
/// # Errors
/// [`ActionError`].
pub async fn declare(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    declared: &Definition,
    now: DateTime<Utc>,
) -> Result<(), ActionError> {
    if let Some(schedule) = lock(conn, name).await?
        && schedule.declared.as_ref() != Some(declared)
    {
        decide_before(conn, kinds, &schedule, now, true).await?;
    }
    Ok(::schedules::declare(conn, name, declared, now).await?)
}

/// Writes what a locked schedule is from now on.
async fn rewrite(
    conn: &mut Connection,
    kinds: &'static [Entry],
    mut schedule: Schedule,
    definition: Definition,
    by: Option<&str>,
) -> Result<Schedule, ActionError> {
    let faults = faults_of(kinds, &definition);
    // Whatever is wrong with it, it can be stopped.
    if !faults.is_empty() && definition.enabled {
        return Err(faults.into());
    }
    let now = database_now(conn).await?;
    let timing_changed = schedule.definition.ticks_otherwise_than(&definition);
    decide_before(conn, kinds, &schedule, now, timing_changed).await?;
    let from = if timing_changed { now } else { schedule.ticked_until };
    schedule.definition = definition;
    schedule.edited_by = by.map(str::to_owned);
    schedule.edited_at = by.map(|_| now);
    update(conn, &schedule, from).await?;
    let name = &schedule.name;
    ::schedules::get(conn, name).await?.ok_or_else(|| not_found(name))
}

/// Decides what was due before a change. Ticks that cannot be made into jobs wait for their schedule to be mended, but
/// are given up when it is to tick at other times.
async fn decide_before(
    conn: &mut Connection,
    kinds: &'static [Entry],
    schedule: &Schedule,
    now: DateTime<Utc>,
    timing_changed: bool,
) -> Result<(), ActionError> {
    if !schedule.definition.enabled {
        return Ok(());
    }
    let settled = settle(conn, kinds, schedule, now, GRACE).await?;
    if timing_changed && matches!(settled, super::Ticked::Broken { .. }) {
        give_up(conn, schedule, now).await?;
    }
    Ok(())
}

async fn record(
    conn: &mut Connection,
    door: &Door<'_>,
    action: &str,
    name: &str,
    deed: Deed,
) -> Result<(), ActionError> {
    Ok(door.record(conn, action, name, TenantId::SYSTEM, deed).await?)
}

/// A definition for the audit log: of arguments, which may hold anything, only whether they are the same.
fn state(door: &Door<'_>, definition: &Definition) -> Value {
    json!({
        "cron": definition.cron,
        "timeZone": definition.time_zone,
        "kind": definition.kind,
        "args": audit::digest(door.keyring, &definition.args.to_string()),
        "missed": definition.missed,
        "jitterMs": definition.jitter_ms,
        "enabled": definition.enabled,
    })
}

fn faults_of(kinds: &'static [Entry], definition: &Definition) -> Vec<Fault> {
    let mut faults = definition.check().err().unwrap_or_default();
    let args_are_wrong = faults.iter().any(|fault| fault.field == "args");
    if let Err(fault) = check_job(kinds, &definition.kind, &definition.args)
        && !(args_are_wrong && fault.field == "args")
    {
        faults.push(fault);
    }
    faults
}

fn not_found(name: &str) -> ActionError {
    ActionError::NotFound(name.to_owned())
}
