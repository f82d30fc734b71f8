//! Schedules for people and for programs.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use jobs::schedules::{Preview, Shown};
use schedules::{Fault, TickOutcome, TickRow};
use serde_json::{Value, json};

use crate::commands::jobs::instant;

/// A schedule for programs.
pub(super) fn as_json(shown: &Shown) -> Value {
    let schedule = &shown.schedule;
    let definition = &schedule.definition;
    let last_run = schedule.last_run_at.map(|at| {
        json!({
            "at": instant(at),
            "tickAt": schedule.last_tick_at.map(instant),
            "jobId": schedule.last_job,
            "status": shown.last_job.as_ref().map(|job| job.status),
        })
    });
    json!({
        "name": schedule.name,
        "cron": definition.cron,
        "words": shown.timing.as_ref().ok().map(|timing| timing.in_words()),
        "timeZone": definition.time_zone,
        "kind": definition.kind,
        "args": definition.args,
        "missed": definition.missed,
        "jitterMs": definition.jitter_ms,
        "isEnabled": definition.enabled,
        "isDeclared": schedule.declared.is_some(),
        "isEdited": schedule.is_edited(),
        "editedBy": schedule.edited_by,
        "editedAt": schedule.edited_at.map(instant),
        "nextAt": schedule.next_at.map(instant),
        "lastRun": last_run,
        "missedTicks": schedule.missed_ticks,
        "error": schedule.error,
    })
}

/// A tick for programs.
pub(super) fn tick_as_json(tick: &TickRow) -> Value {
    json!({
        "tickAt": instant(tick.tick_at),
        "outcome": tick.outcome.as_str(),
        "lastAt": tick.last_at.map(instant),
        "ticks": tick.ticks,
        "jobId": tick.job,
        "askedBy": tick.asked_by,
        "decidedAt": instant(tick.decided_at),
    })
}

/// All schedules for people.
pub(super) fn as_table(schedules: &[Shown]) -> String {
    if schedules.is_empty() {
        return "there is no schedule; the first start of a scheduler stores the program's own".to_owned();
    }
    let mut table = table();
    table.set_header(["NAME", "CRON", "WHEN", "LATE", "STATE", "NEXT", "LAST RUN", "MISSED"]);
    for shown in schedules {
        let schedule = &shown.schedule;
        table.add_row([
            schedule.name.clone(),
            schedule.definition.cron.clone(),
            words(shown),
            schedule.definition.missed.to_string(),
            state(shown),
            schedule.next_at.map_or_else(|| "-".to_owned(), |next| local_of(shown, next)),
            last_run(shown),
            schedule.missed_ticks.to_string(),
        ]);
    }
    table.trim_fmt()
}

/// One schedule for people.
pub(super) fn as_text(shown: &Shown, next: &[DateTime<Utc>], ticks: &[TickRow]) -> String {
    let schedule = &shown.schedule;
    let definition = &schedule.definition;
    let mut text = format!(
        "{}: {}\n  line     {}  ({})\n  job      {} {}\n  late     {}\n  jitter   up to {} ms\n  state    {}\n  last     \
         {}\n  missed   {}\n",
        schedule.name,
        words(shown),
        definition.cron,
        definition.time_zone,
        definition.kind,
        definition.args,
        definition.missed,
        definition.jitter_ms,
        state(shown),
        last_run(shown),
        schedule.missed_ticks,
    );
    if let (Some(by), Some(at)) = (&schedule.edited_by, schedule.edited_at) {
        text.push_str(&format!("  edited   by {by} at {}\n", local_of(shown, at)));
    }
    text.push_str("\nnext\n");
    for tick in next {
        text.push_str(&format!("  {}   {}\n", local_of(shown, *tick), utc(*tick)));
    }
    text.push_str("\nbefore\n");
    for tick in ticks {
        text.push_str(&format!("  {}   {}\n", local_of(shown, tick.tick_at), became(shown, tick)));
    }
    text.trim_end().to_owned()
}

fn became(shown: &Shown, tick: &TickRow) -> String {
    match (tick.outcome, tick.job, tick.last_at) {
        (TickOutcome::Missed, _, Some(last)) => {
            format!("{} ticks missed, the last at {}", tick.ticks, local_of(shown, last))
        }
        (TickOutcome::Missed, ..) => "missed".to_owned(),
        (TickOutcome::Manual, Some(job), _) => {
            format!("{job}, asked for by {}", tick.asked_by.as_deref().unwrap_or("somebody"))
        }
        (_, Some(job), _) => job.to_string(),
        (outcome, None, _) => outcome.to_string(),
    }
}

/// A preview for people.
pub(super) fn preview_as_text(preview: &Preview) -> String {
    let mut table = table();
    table.set_header([preview.zone.name(), "UTC"]);
    for tick in &preview.ticks {
        table.add_row([local(*tick, preview.zone), utc(*tick)]);
    }
    format!("{}\n{}", preview.words, table.trim_fmt())
}

/// The line in plain words, or what is wrong with it.
pub(super) fn words(shown: &Shown) -> String {
    match &shown.timing {
        Ok(timing) => timing.in_words(),
        Err(faults) => {
            let faults: Vec<String> =
                faults.iter().map(|Fault { field, message }| format!("{field}: {message}")).collect();
            faults.join("; ")
        }
    }
}

fn state(shown: &Shown) -> String {
    let schedule = &shown.schedule;
    let mut state = match (&schedule.error, schedule.definition.enabled) {
        (Some(error), true) => format!("broken: {error}"),
        (_, true) => "on".to_owned(),
        (_, false) => "paused".to_owned(),
    };
    if schedule.declared.is_some() && schedule.is_edited() {
        state.push_str(", edited");
    }
    state
}

fn last_run(shown: &Shown) -> String {
    let schedule = &shown.schedule;
    let (Some(at), Some(job)) = (schedule.last_run_at, schedule.last_job) else { return "never".to_owned() };
    let ended = shown.last_job.as_ref().map_or("no longer kept", |record| record.status.as_str());
    format!("{}, {job} {ended}", local_of(shown, at))
}

/// The next ticks of a schedule that ticks.
pub(super) fn next_ticks(shown: &Shown, now: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
    match &shown.timing {
        Ok(timing) if shown.schedule.definition.enabled => timing.next_ticks(now).take(count).collect(),
        _ => Vec::new(),
    }
}

/// An instant in the schedule's zone.
pub(super) fn local_of(shown: &Shown, at: DateTime<Utc>) -> String {
    local(at, shown.timing.as_ref().map_or(Tz::UTC, |timing| timing.zone))
}

/// An instant as walls in the zone show it, with the offset that tells repeated times apart.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %:z").to_string()
}

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
}
