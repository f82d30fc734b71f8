//! `millpond dead …`: jobs that failed, in groups and one by one, and another life for many of them at a rate.

use std::io::IsTerminal;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use config::Settings;
use db::Pool;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jobs::ops::{BulkRequest, BulkStarted, start_bulk};
use kernel::ids::{JobId, TenantId};
use queue::bulk::{BulkAction, BulkState};
use queue::{DeadFilter, DeadGroup, DeadJob, DeadLetters, JobSearch, JobStatus, Queue, Waker};
use serde_json::{Value, json};

use super::jobs::{Names, instant};
use super::partners;
use crate::cli::Globals;
use crate::error::CliError;
use crate::output::{Output, tell};
use crate::runtime::{Asker, Database, Signals, settings};

/// Most rows shown at once.
const LIMIT_MAX: u16 = 1_000;
/// Lines come no more often than this where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often the progress of a redrive is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What can be done with dead jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Show what failed, grouped by kind, code and message, the largest group first
    List(ListArgs),
    /// Show dead jobs one by one, the last that failed first; `jobs show ID` shows all of one
    Show(ListArgs),
    /// Move dead jobs back to work, with all their attempts
    Redrive(RedriveArgs),
}

/// Which dead jobs.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// A kind, such as webhooks.deliver; may be given several times
    #[arg(long)]
    kind: Vec<String>,
    /// The code of their error
    #[arg(long)]
    code: Option<String>,
    /// enrich, webhooks or maintenance
    #[arg(long)]
    queue: Option<Queue>,
    /// A partner's code or id
    #[arg(long)]
    partner: Option<String>,
    /// Failed at or after this time, such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Failed before this time
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
    /// This job; may be given several times
    #[arg(long)]
    job: Vec<JobId>,
}

/// Arguments of `dead list` and `dead show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond dead list
  millpond dead list --since 2026-11-21T09:00:00Z --json
  millpond dead show --kind webhooks.deliver --code NOT_DELIVERED --limit 20")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=i64::from(LIMIT_MAX)))]
    limit: u16,
}

/// Arguments of `dead redrive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond dead redrive --kind webhooks.deliver --code NOT_DELIVERED --rate 50/s
  millpond dead redrive --partner techcombank --since 2026-11-21T09:00:00Z --rate 600/m
  millpond dead redrive --all --at-once

A worker carries it out, as a job of its own that goes on whatever becomes of this command; jobs that fail again are not
taken a second time.")]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// All dead jobs, when nothing narrows them down
    #[arg(long)]
    all: bool,
    /// How many may become ready in a second, minute or hour: 50/s, 600/m, 1000/h
    #[arg(long, default_value = "50/s", conflicts_with = "at_once")]
    rate: Rate,
    /// All become ready now
    #[arg(long)]
    at_once: bool,
}

/// A rate as people write it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// Jobs in a second.
    per_s: f64,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a number of jobs per s, m or h, such as 50/s";
        let (jobs, unit) = text.split_once('/').ok_or(EXPECTED)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(EXPECTED.to_owned()),
        };
        match jobs.trim().parse::<u32>() {
            Ok(jobs) if jobs > 0 => Ok(Self { per_s: f64::from(jobs) / seconds }),
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

impl FilterArgs {
    async fn filter(&self, pool: &Pool) -> Result<DeadFilter, CliError> {
        let tenant = match &self.partner {
            Some(partner) => {
                let mut conn = pool.acquire().await?;
                Some(TenantId::from(partners::find(&mut conn, partner).await?.id))
            }
            None => None,
        };
        Ok(DeadFilter {
            tenant,
            kinds: self.kind.clone(),
            queue: self.queue.map(|queue| queue.to_string()),
            code: self.code.clone(),
            finished_from: self.since,
            finished_before: self.before,
            ids: self.job.clone(),
            ..DeadFilter::default()
        })
    }
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: DeadCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let result = act(&settings, &database, Output::new(globals.json), command).await;
    let closed = database.close().await;
    result.and(closed)
}

async fn act(
    settings: &Settings,
    database: &Database,
    output: Output,
    command: DeadCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    match command {
        DeadCommand::List(arguments) => list(pool, output, arguments).await,
        DeadCommand::Show(arguments) => show(pool, output, arguments).await,
        DeadCommand::Redrive(arguments) => {
            redrive(pool, output, &Asker::new(settings, database).await?, arguments).await
        }
    }
}

async fn list(pool: &Pool, output: Output, arguments: ListArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    let mut conn = pool.acquire().await?;
    let letters = queue::dead_letters(&mut conn, &filter, usize::from(arguments.limit)).await?;
    let json = json!({
        "counted": letters.counted,
        "isCapped": letters.is_capped,
        "groups": letters.groups.iter().map(group_as_json).collect::<Vec<_>>(),
    });
    output.show(&json, || groups_as_table(&letters))
}

async fn show(pool: &Pool, output: Output, arguments: ListArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    let names = Names::load(pool).await?;
    let mut conn = pool.acquire().await?;
    let jobs = queue::dead_jobs(&mut conn, &filter, arguments.limit.into()).await?;
    let json: Vec<Value> = jobs.iter().map(|job| job_as_json(job, &names)).collect();
    output.show(&json, || jobs_as_table(&jobs, &names))
}

async fn redrive(pool: &Pool, output: Output, asker: &Asker, arguments: RedriveArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    if filter == DeadFilter::default() && !arguments.all {
        return Err(CliError::Usage(
            "say which dead jobs to redrive: --kind, --code, --queue, --partner, --since, --before or --job; or --all"
                .to_owned(),
        ));
    }
    let rate_per_s = (!arguments.at_once).then_some(arguments.rate.per_s);
    let request = BulkRequest { action: BulkAction::Redrive, filter: JobSearch::from(&filter), rate_per_s };
    let mut signals = Signals::listen()?;
    let mut tx = db::begin(pool).await?;
    let started = start_bulk(&mut tx, &asker.door(), request).await?;
    tx.commit().await?;
    let waker = Waker::new();
    waker.wake(started.queue);
    waker.tell_now(pool).await;
    let state = tokio::select! {
        state = followed(pool, &started) => state?,
        () = signals.asked() => {
            let job = started.job;
            tell(&format!("it goes on without this command: millpond jobs show {job}, millpond jobs cancel {job}"));
            return Err(CliError::Interrupted);
        }
    };
    let json = json!({
        "jobId": started.job,
        "moved": state.changed,
        "keyTaken": state.key_taken,
        "gone": state.gone,
        "before": started.filter.finished_before,
        "pacedUntil": state.next_at.map(instant),
    });
    output.show(&json, || outcome(&state))
}

/// Waits for the end of the job that carries a redrive out, and shows how far it is.
async fn followed(pool: &Pool, started: &BulkStarted) -> Result<BulkState, CliError> {
    let mut progress = Progress::new(started.matched.count);
    loop {
        let mut conn = pool.acquire().await?;
        let job = queue::get(&mut conn, TenantId::SYSTEM, started.job).await?;
        let state = queue::bulk::state(&mut conn, started.job).await?;
        drop(conn);
        progress.show(&state);
        match job.as_ref().map(|job| job.status) {
            Some(JobStatus::Queued | JobStatus::Processing) => tokio::time::sleep(LOOK_EVERY).await,
            Some(JobStatus::Completed) => {
                progress.finish();
                return Ok(state);
            }
            ended => {
                progress.finish();
                let how = ended.map_or("gone", JobStatus::as_str);
                let (job, moved) = (started.job, state.changed);
                return Err(CliError::Conflict(format!("{job} is {how}; {moved} jobs were moved before")));
            }
        }
    }
}

/// What it came to, for people.
fn outcome(state: &BulkState) -> String {
    let mut text = match (state.changed, state.next_at) {
        (0, _) => "no dead job was moved back to work".to_owned(),
        (moved, Some(next_at)) => format!("{moved} jobs run again, the last from {}", instant(next_at)),
        (moved, None) => format!("{moved} jobs run again"),
    };
    if state.key_taken > 0 {
        text.push_str(&format!("; {} stay dead, since other jobs do the same work already", state.key_taken));
    }
    text
}

/// How far a redrive is: a bar at a terminal, now and then a line elsewhere.
struct Progress {
    bar: ProgressBar,
    at_terminal: bool,
    last_line: Instant,
}

impl Progress {
    fn new(expected: u64) -> Self {
        let at_terminal = std::io::stderr().is_terminal();
        let target = if at_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(expected), target);
        if let Ok(style) = ProgressStyle::with_template("redriving [{bar:40}] {pos}/{len}  {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, at_terminal, last_line: Instant::now() }
    }

    fn show(&mut self, state: &BulkState) {
        let done = state.met();
        // More than were counted beforehand.
        if self.bar.length().is_some_and(|expected| expected < done) {
            self.bar.set_length(done);
        }
        self.bar.set_position(done);
        if !self.at_terminal && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            tell(&format!("{} jobs moved back to work …", state.changed));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn group_as_json(group: &DeadGroup) -> Value {
    json!({
        "kind": group.kind,
        "code": group.code,
        "message": group.message,
        "jobs": group.jobs,
        "firstAt": instant(group.first_at),
        "lastAt": instant(group.last_at),
        "sampleJobIds": group.samples,
    })
}

fn job_as_json(job: &DeadJob, names: &Names) -> Value {
    json!({
        "jobId": job.id,
        "owner": names.of(job.tenant),
        "kind": job.kind,
        "queue": job.queue,
        "attempts": job.attempts,
        "takenBack": job.taken_back,
        "createdAt": instant(job.created_at),
        "finishedAt": instant(job.finished_at),
        "error": job.failure,
    })
}

fn groups_as_table(letters: &DeadLetters) -> String {
    if letters.groups.is_empty() {
        return "no job is dead".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["JOBS", "KIND", "CODE", "MESSAGE", "FIRST", "LAST", "NEWEST"]);
    let at_least = if letters.is_capped { "≥" } else { "" };
    for group in &letters.groups {
        table.add_row([
            format!("{at_least}{}", group.jobs),
            group.kind.clone(),
            group.code.clone(),
            group.message.clone(),
            instant(group.first_at),
            instant(group.last_at),
            group.samples.first().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    let table = table.trim_fmt();
    match letters.is_capped {
        true => format!("{table}\nonly the {} jobs that failed last were counted", letters.counted),
        false => table,
    }
}

fn jobs_as_table(jobs: &[DeadJob], names: &Names) -> String {
    if jobs.is_empty() {
        return "no such job is dead".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["JOB", "OWNER", "KIND", "ATTEMPTS", "FAILED", "ERROR"]);
    for job in jobs {
        let failure = job.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message));
        table.add_row([
            job.id.to_string(),
            names.of(job.tenant),
            job.kind.clone(),
            job.attempts.to_string(),
            instant(job.finished_at),
            failure.unwrap_or_default(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_jobs_per_second_minute_or_hour() {
        for (text, per_s) in [("50/s", 50.0), ("600/m", 10.0), (" 1 / h", 1.0 / 3_600.0)] {
            assert_eq!(text.parse(), Ok(Rate { per_s }), "{text}");
        }
        for text in ["", "50", "50/d", "0/s", "-1/s", "x/s", "50/"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
