//! `millpond overview`: the whole at a glance.

use std::time::Duration;

use clap::Args;
use config::Settings;
use db::Pool;
use queue::DEPTH_MAX;
use queue::ops::{Overview, QueueOverview};
use serde_json::{Value, json};

use super::jobs::instant;
use crate::cli::Globals;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Database, reading, settings};

/// Arguments of `overview`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond overview --watch
  millpond overview --json")]
pub(crate) struct OverviewArgs {
    #[command(flatten)]
    watch: WatchArgs,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, arguments: OverviewArgs) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let result = show(&settings, &database.pool, Output::new(globals.json), arguments.watch).await;
    let closed = database.close().await;
    result.and(closed)
}

async fn show(settings: &Settings, pool: &Pool, output: Output, watch: WatchArgs) -> Result<(), CliError> {
    let lease = Duration::from_millis(settings.queue.lease_ms);
    watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let overview = queue::ops::overview(&mut tx, lease).await?;
            Ok(View { json: as_json(&overview), text: as_text(&overview) })
        })
        .await
}

fn as_json(overview: &Overview) -> Value {
    let blocked: Vec<Value> = overview
        .blocked
        .iter()
        .map(|limit| json!({"name": limit.name, "key": limit.key, "until": instant(limit.until)}))
        .collect();
    json!({
        "readAt": instant(overview.at),
        "queues": overview.queues.iter().map(queue_as_json).collect::<Vec<_>>(),
        "deadLastHour": overview.dead_last_hour,
        "deadLastDay": overview.dead_last_day,
        "workersAlive": overview.workers_alive,
        "workersQuiet": overview.workers_quiet,
        "blockedLimits": blocked,
    })
}

fn queue_as_json(queue: &QueueOverview) -> Value {
    json!({
        "queue": queue.depth.queue.as_str(),
        "ready": queue.depth.ready,
        "scheduled": queue.depth.scheduled,
        "running": queue.depth.running,
        "waiting": queue.depth.waiting,
        "parked": queue.depth.parked,
        "countedMax": DEPTH_MAX,
        "oldestReadyS": queue.oldest_ready.map(|age| age.as_secs_f64()),
        "paused": queue.paused.as_ref().map(|(by, since)| json!({"by": by, "since": instant(*since)})),
        "pausedKinds": queue.paused_kinds,
        "processes": queue.processes,
        "slots": queue.slots,
        "concurrencyMax": queue.concurrency_max,
        "perSecond": queue.recent.per_second(),
        "failedShare": queue.recent.failed_share(),
    })
}

fn as_text(overview: &Overview) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "QUEUE",
        "READY",
        "OLDEST",
        "SCHEDULED",
        "RUNNING",
        "SLOTS",
        "ENDED/S",
        "FAILED",
        "PAUSED",
    ]);
    let counted =
        |jobs: i64| if jobs >= DEPTH_MAX { format!("{DEPTH_MAX} or more") } else { jobs.to_string() };
    let unknown = || "-".to_owned();
    for queue in &overview.queues {
        let paused = match (&queue.paused, queue.paused_kinds.as_slice()) {
            (Some((by, since)), _) => format!("by {by} since {}", instant(*since)),
            (None, []) => unknown(),
            (None, kinds) => kinds.join(", "),
        };
        table.add_row([
            queue.depth.queue.to_string(),
            counted(queue.depth.ready),
            queue.oldest_ready.map_or_else(unknown, |age| format!("{:.1} s", age.as_secs_f64())),
            counted(queue.depth.scheduled),
            queue.depth.running.to_string(),
            format!("{} in {}", queue.slots, queue.processes),
            queue.recent.per_second().map_or_else(unknown, |rate| format!("{rate:.1}")),
            queue.recent.failed_share().map_or_else(unknown, |part| format!("{:.1} %", part * 100.0)),
            paused,
        ]);
    }
    let mut text = format!(
        "{}\n\nworkers alive: {} ({} of them claim nothing)\nfailed for good: {} within an hour, {} within a day",
        table.trim_fmt(),
        overview.workers_alive,
        overview.workers_quiet,
        overview.dead_last_hour,
        overview.dead_last_day
    );
    for limit in &overview.blocked {
        text.push_str(&format!("\nblocked: {} {} until {}", limit.name, limit.key, instant(limit.until)));
    }
    text
}
