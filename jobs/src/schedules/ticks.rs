//! A schedule's due ticks become jobs.
//!
//! Guarantee: in the caller's transaction, every tick up to `now` is decided exactly once: stored as one job, whose id
//! derives from the tick, or recorded as missed. If the transaction does not commit, nothing of it has happened. A
//! schedule that cannot be made into a job keeps its ticks until it can, and hinders no other.

use std::error::Error;
use std::time::Duration;

use ::schedules::{Decided, Due, ROWS_MAX, Schedule, due_between, lock_due, note_error, record};
use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;
use kernel::ids::JobId;
use kernel::trace::TraceParent;
use queue::{NewJob, Queue};
use serde_json::Value;

use super::ActionError;
use crate::{Entry, new_job};

/// What became of a schedule's due ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ticked {
    /// Nothing is due by now, or somebody else is at it.
    Nothing,
    /// They are decided.
    Decided {
        /// What runs and what was missed.
        decided: Decided,
        /// The jobs of what runs, in its order.
        jobs: Vec<JobId>,
        /// The queue to wake after the commit.
        queue: Option<Queue>,
    },
    /// They cannot be made into jobs, and stay due.
    Broken {
        /// Why.
        error: String,
        /// Whether that was not known.
        is_news: bool,
    },
}

/// Decides the ticks of one schedule that are due at `now`. Later than `grace` is missed.
///
/// # Errors
/// [`ActionError`]; the transaction is to be given up.
pub async fn tick(
    conn: &mut Connection,
    kinds: &'static [Entry],
    name: &str,
    now: DateTime<Utc>,
    grace: Duration,
) -> Result<Ticked, ActionError> {
    match lock_due(conn, name, now).await? {
        Some(schedule) => settle(conn, kinds, &schedule, now, grace).await,
        None => Ok(Ticked::Nothing),
    }
}

/// Decides the ticks of a locked schedule.
pub(super) async fn settle(
    conn: &mut Connection,
    kinds: &'static [Entry],
    schedule: &Schedule,
    now: DateTime<Utc>,
    grace: Duration,
) -> Result<Ticked, ActionError> {
    let definition = &schedule.definition;
    let made = definition
        .check()
        .map_err(ActionError::from)
        .and_then(|timing| Ok((timing, job_of(schedule, kinds)?)));
    let (timing, job) = match made {
        Ok(made) => made,
        Err(error) => {
            let error = with_causes(&error);
            let is_news = note_error(conn, &schedule.name, &error, now).await?;
            return Ok(Ticked::Broken { error, is_news });
        }
    };
    let looked_at = definition.missed.looked_at(grace);
    let due = due_between(&timing.line, timing.zone, schedule.ticked_until, now, looked_at);
    let decided = definition.missed.decide(due, now, grace);
    let jobs: Vec<NewJob> =
        decided.run.iter().map(|tick| job_of_tick(schedule, job.clone(), *tick, now)).collect();
    let queue = jobs.first().map(NewJob::queue);
    let jobs: Vec<JobId> =
        queue::enqueue_many(conn, jobs).await?.into_iter().map(|stored| stored.id()).collect();
    let next_at = timing.next_after(now.max(schedule.ticked_until));
    record(conn, &schedule.name, &decided, &jobs, now, next_at).await?;
    Ok(Ticked::Decided { decided, jobs, queue })
}

/// Records a locked schedule's due ticks as missed, because they cannot be made into jobs and their line is to change.
pub(super) async fn give_up(
    conn: &mut Connection,
    schedule: &Schedule,
    now: DateTime<Utc>,
) -> Result<(), ActionError> {
    let Ok(timing) = schedule.definition.check() else { return Ok(()) };
    let due = due_between(&timing.line, timing.zone, schedule.ticked_until, now, ROWS_MAX);
    let Due { newest: missed, older } = due;
    let decided = Decided { run: Vec::new(), missed, older };
    Ok(record(conn, &schedule.name, &decided, &[], now, None).await?)
}

/// A job of the schedule, whose tick is still to be set.
pub(super) fn job_of(schedule: &Schedule, kinds: &'static [Entry]) -> Result<NewJob, ActionError> {
    let definition = &schedule.definition;
    Ok(new_job(kinds, &definition.kind, definition.args.clone())?)
}

/// The job of one tick: its id says which, and which trace it begins; it runs after the tick's share of jitter.
fn job_of_tick(schedule: &Schedule, job: NewJob, tick: DateTime<Utc>, now: DateTime<Utc>) -> NewJob {
    let id = JobId::of_tick(&schedule.name, tick);
    let begins = tick + schedule.definition.jitter_of(id.uuid());
    let delay = (begins - now).max(TimeDelta::zero()).to_std().unwrap_or_default();
    job.id(id).delay(delay).traceparent(Some(TraceParent::of(id.uuid())))
}

/// What is wrong with a schedule, in one line.
pub(super) fn with_causes(error: &ActionError) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said.push_str(": ");
            said.push_str(&cause_said);
        }
        next = cause.source();
    }
    said
}

/// What a definition's kind and arguments are checked by, before it is stored.
pub(super) fn check_job(kinds: &'static [Entry], kind: &str, args: &Value) -> Result<(), ::schedules::Fault> {
    let Err(error) = new_job(kinds, kind, args.clone()) else { return Ok(()) };
    let field = if matches!(error, crate::NotAJob::Args { .. }) { "args" } else { "kind" };
    Err(::schedules::Fault { field, message: with_causes(&ActionError::from(error)) })
}
