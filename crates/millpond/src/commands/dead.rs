//! `millpond dead …`: jobs that failed, in groups and one by one, and another life for many of them at a rate.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use config::Settings;
use db::Pool;
use jobs::ops::BulkRequest;
use kernel::ids::JobId;
use queue::bulk::BulkAction;
use queue::{DeadFilter, DeadGroup, DeadJob, DeadLetters, JobSearch, Queue};
use serde_json::{Value, json};

use super::jobs::{Names, bulk::start, instant};
use super::tenants;
use super::watching::{View, WatchArgs};
use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, reading, settings};

/// Most rows shown at once.
const LIMIT_MAX: u16 = 1_000;

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
    /// The signature of their error: the message as `dead list` shows it
    #[arg(long, value_name = "MESSAGE")]
    signature: Option<String>,
    /// enrich, webhooks or maintenance
    #[arg(long)]
    queue: Option<Queue>,
    /// A partner's code or id, or `system`
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
    #[command(flatten)]
    watch: WatchArgs,
}

/// Arguments of `dead redrive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond dead redrive --kind webhooks.deliver --code NOT_DELIVERED --rate 50/s
  millpond dead redrive --signature 'the meter answered … with 503' --rate 50/s
  millpond dead redrive --partner techcombank --since 2026-11-21T09:00:00Z --rate 600/m
  millpond dead redrive --all --at-once

A job of the system moves them, so a worker must run; the command follows it and may be interrupted. Jobs that fail again are
not taken a second time. `jobs bulk retry --preview` says what it would touch.")]
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
    /// Do not wait until all are moved
    #[arg(long)]
    detach: bool,
}

/// A rate as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    jobs: u32,
    per_s: u32,
}

impl Rate {
    /// Jobs in a second.
    pub(crate) fn per_second(self) -> f64 {
        f64::from(self.jobs) / f64::from(self.per_s)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a number of jobs per s, m or h, such as 50/s";
        let (jobs, unit) = text.split_once('/').ok_or(EXPECTED)?;
        let per_s = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(EXPECTED.to_owned()),
        };
        match jobs.trim().parse() {
            Ok(jobs) if jobs > 0 => Ok(Self { jobs, per_s }),
            _ => Err(EXPECTED.to_owned()),
        }
    }
}

impl FilterArgs {
    async fn filter(&self, pool: &Pool) -> Result<DeadFilter, CliError> {
        let tenant = match &self.partner {
            Some(partner) => Some(tenants::found(&mut pool.acquire().await?, partner).await?),
            None => None,
        };
        Ok(DeadFilter {
            tenant,
            kinds: self.kind.clone(),
            queue: self.queue.map(|queue| queue.to_string()),
            code: self.code.clone(),
            signature: self.signature.clone(),
            finished_from: self.since,
            finished_before: self.before,
            ids: self.job.clone(),
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
            let asker = Asker::new(settings, database).await?;
            redrive(pool, output, &asker, arguments).await
        }
    }
}

async fn list(pool: &Pool, output: Output, arguments: ListArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    arguments
        .watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let letters = queue::dead_letters(&mut tx, &filter, usize::from(arguments.limit)).await?;
            let json = json!({
                "counted": letters.counted,
                "isCapped": letters.is_capped,
                "groups": letters.groups.iter().map(group_as_json).collect::<Vec<_>>(),
            });
            Ok(View { json, text: groups_as_table(&letters) })
        })
        .await
}

async fn show(pool: &Pool, output: Output, arguments: ListArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    let names = Names::load(pool).await?;
    arguments
        .watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let jobs = queue::dead_jobs(&mut tx, &filter, arguments.limit.into()).await?;
            let json = jobs.iter().map(|job| job_as_json(job, &names)).collect();
            Ok(View { json, text: jobs_as_table(&jobs, &names) })
        })
        .await
}

async fn redrive(pool: &Pool, output: Output, asker: &Asker, arguments: RedriveArgs) -> Result<(), CliError> {
    let filter = arguments.filter.filter(pool).await?;
    if filter == DeadFilter::default() && !arguments.all {
        return Err(CliError::Usage(
            "say which dead jobs to redrive: --kind, --code, --signature, --queue, --partner, --since, --before or \
             --job; or --all"
                .to_owned(),
        ));
    }
    let rate_per_s = (!arguments.at_once).then(|| arguments.rate.per_second());
    let request = BulkRequest { action: BulkAction::Redrive, filter: JobSearch::from(&filter), rate_per_s };
    start(pool, output, asker, request, arguments.detach).await
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
        for (text, jobs, per_s) in [("50/s", 50, 1), ("600/m", 600, 60), (" 1 / h", 1, 3_600)] {
            assert_eq!(text.parse(), Ok(Rate { jobs, per_s }), "{text}");
        }
        assert!((Rate { jobs: 600, per_s: 60 }.per_second() - 10.0).abs() < f64::EPSILON);
        for text in ["", "50", "50/d", "0/s", "-1/s", "x/s", "50/"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
