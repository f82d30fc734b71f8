//! `millpond queues history`: what became of jobs, minute by minute or hour by hour.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use db::Pool;
use queue::Queue;
use queue::history::{DepthPoint, Durations, History, HistoryFilter, Point, Step};
use serde_json::{Value, json};

use crate::commands::duration::Span;
use crate::commands::jobs::instant;
use crate::commands::tenants;
use crate::error::CliError;
use crate::output::Output;

/// Rows of the table, about.
const ROWS_MAX: u32 = 24;
/// Lengths of a table's rows, of which the shortest is taken that leaves few enough.
const ROUND: [u64; 11] = [60, 300, 600, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 7 * 86_400];

/// Arguments of `queues history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Minutes are kept for 2 days, hours for 90. The table adds them up to rows of a round length; --json gives every bucket.
A minute is there some 15 to 75 seconds after its end. Waits are from being stored to the first attempt, runs from there
to the end; p95 is right within a factor of two.

Examples:
  millpond queues history
  millpond queues history --queue enrich --since 30d
  millpond queues history --kind webhooks.deliver --partner acme --since 6h --json")]
pub(crate) struct HistoryArgs {
    /// enrich, webhooks or maintenance
    #[arg(long)]
    queue: Option<Queue>,
    /// A kind, such as profiles.fetch
    #[arg(long)]
    kind: Option<String>,
    /// A partner's code or id
    #[arg(long)]
    partner: Option<String>,
    /// How far back: 90m, 6h, 30d
    #[arg(long, value_name = "TIME", default_value = "2h")]
    since: Span,
    /// Minutes or hours [default: minutes up to 2 days back, else hours]
    #[arg(long, value_name = "LENGTH")]
    step: Option<StepArg>,
}

/// The length of a bucket, as it is given.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StepArg {
    Minute,
    Hour,
}

/// Shows history.
pub(super) async fn run(pool: &Pool, output: Output, arguments: &HistoryArgs) -> Result<(), CliError> {
    let mut conn = pool.acquire().await?;
    let tenant = match &arguments.partner {
        Some(partner) => Some(tenants::found(&mut conn, partner).await?),
        None => None,
    };
    let now = schedules::database_now(&mut conn).await?;
    let step = match arguments.step {
        Some(StepArg::Minute) => Step::Minute,
        Some(StepArg::Hour) => Step::Hour,
        None if arguments.since.0 <= Step::Minute.kept() => Step::Minute,
        None => Step::Hour,
    };
    let since = arguments.since.0.min(step.kept());
    let filter = HistoryFilter {
        queue: arguments.queue,
        kind: arguments.kind.clone(),
        tenant,
        from: now - chrono::TimeDelta::from_std(since).unwrap_or_default(),
        to: now,
        step,
    };
    let history = queue::history::history(&mut conn, &filter).await?;
    let json = json!({
        "stepSeconds": step.length().as_secs(),
        "points": history.points.iter().map(as_json).collect::<Vec<_>>(),
    });
    output.show(&json, || as_table(&history, since))
}

fn as_json(point: &Point) -> Value {
    let durations = |durations: &Durations| {
        let ms = |duration: Option<Duration>| duration.map(|duration| duration.as_millis());
        json!({
            "jobs": durations.count,
            "meanMs": ms(durations.mean()),
            "p50Ms": ms(durations.quantile(0.5)),
            "p95Ms": ms(durations.quantile(0.95)),
            "maxMs": ms((durations.count > 0).then_some(durations.max)),
        })
    };
    json!({
        "at": instant(point.at),
        "completed": point.completed,
        "failed": point.failed,
        "cancelled": point.cancelled,
        "attempts": point.attempts,
        "takenBack": point.taken_back,
        "wait": durations(&point.waits),
        "run": durations(&point.runs),
        "depth": point.depth.as_ref().map(depth_as_json),
    })
}

fn depth_as_json(depth: &DepthPoint) -> Value {
    json!({
        "ready": depth.ready,
        "scheduled": depth.scheduled,
        "running": depth.running,
        "isCapped": depth.is_capped,
        "oldestReadySeconds": depth.oldest_ready.map(|age| age.as_secs()),
    })
}

fn as_table(history: &History, since: Duration) -> String {
    if history.points.is_empty() {
        return "nothing is known of that time: history is rolled up every minute by a scheduler and workers of the queue \
                maintenance"
            .to_owned();
    }
    let wanted = since.as_secs() / u64::from(ROWS_MAX);
    let length = ROUND.into_iter().find(|length| *length >= wanted).unwrap_or(ROUND[ROUND.len() - 1]);
    let rows = history.coarser(Duration::from_secs(length));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "FROM (UTC)",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "WAIT P50",
        "P95",
        "RUN P50",
        "P95",
        "READY",
    ]);
    for point in &rows.points {
        table.add_row([
            from(point.at),
            point.completed.to_string(),
            point.failed.to_string(),
            point.cancelled.to_string(),
            told(point.waits.quantile(0.5)),
            told(point.waits.quantile(0.95)),
            told(point.runs.quantile(0.5)),
            told(point.runs.quantile(0.95)),
            point.depth.map_or_else(|| "-".to_owned(), ready),
        ]);
    }
    table.trim_fmt()
}

fn from(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

fn ready(depth: DepthPoint) -> String {
    if depth.is_capped { format!("{} or more", depth.ready) } else { depth.ready.to_string() }
}

/// A duration at a glance.
fn told(duration: Option<Duration>) -> String {
    match duration {
        None => "-".to_owned(),
        Some(duration) if duration < Duration::from_secs(1) => format!("{} ms", duration.as_millis()),
        Some(duration) if duration < Duration::from_secs(120) => format!("{:.1} s", duration.as_secs_f64()),
        Some(duration) if duration < Duration::from_secs(7_200) => format!("{} min", duration.as_secs() / 60),
        Some(duration) => format!("{} h", duration.as_secs() / 3_600),
    }
}
