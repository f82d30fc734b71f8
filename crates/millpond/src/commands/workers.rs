//! `millpond workers …`: the worker processes there are; quieting, resuming and stopping them. They see it within a second.

use clap::{Args, Subcommand};
use config::Settings;
use db::Pool;
use jobs::workers as actions;
use queue::ops::{Asks, WorkerRecord};
use serde_json::{Value, json};
use uuid::Uuid;

use super::jobs::instant;
use crate::cli::Globals;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, reading, settings};

/// What can be done with workers.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersCommand {
    /// Show the worker processes: where they run, what they work, whether they live
    List(WatchArgs),
    /// Have a process claim nothing more; what it runs goes on
    Quiet(WorkerArg),
    /// Have a process claim again
    Resume(WorkerArg),
    /// Have a process drain and end, as SIGTERM does
    Stop(WorkerArg),
}

/// Which process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond workers list --watch
  millpond workers quiet 0193a1b2-…      before taking a machine away
  millpond workers stop 0193a1b2-…

Each start of a process has an id of its own, which `workers list` shows.")]
pub(crate) struct WorkerArg {
    /// The id of the process, or its beginning where that is one alone
    worker: String,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: WorkersCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let output = Output::new(globals.json);
    let result = match command {
        WorkersCommand::List(watch) => list(&database.pool, output, watch).await,
        WorkersCommand::Quiet(worker) => ask(&settings, &database, output, &worker, Asks::Quiet).await,
        WorkersCommand::Resume(worker) => ask(&settings, &database, output, &worker, Asks::Resume).await,
        WorkersCommand::Stop(worker) => ask(&settings, &database, output, &worker, Asks::Stop).await,
    };
    let closed = database.close().await;
    result.and(closed)
}

async fn list(pool: &Pool, output: Output, watch: WatchArgs) -> Result<(), CliError> {
    watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let workers = queue::ops::workers(&mut tx).await?;
            Ok(View { json: workers.iter().map(as_json).collect(), text: as_table(&workers) })
        })
        .await
}

async fn ask(
    settings: &Settings,
    database: &Database,
    output: Output,
    worker: &WorkerArg,
    asks: Asks,
) -> Result<(), CliError> {
    let asker = Asker::new(settings, database).await?;
    let mut tx = db::begin(&database.pool).await?;
    let process = found(&queue::ops::workers(&mut tx).await?, &worker.worker)?;
    actions::ask(&mut tx, &asker.door(), process, asks).await?;
    tx.commit().await?;
    let said = match asks {
        Asks::Quiet => "claims nothing more; what it runs goes on",
        Asks::Resume => "claims again",
        Asks::Stop => "ends when what it runs has ended",
    };
    output.show(&json!({"workerId": process, "asked": asks.as_str()}), || format!("{process} {said}"))
}

/// The one process whose id begins so.
fn found(workers: &[WorkerRecord], text: &str) -> Result<Uuid, CliError> {
    let wanted = text.to_ascii_lowercase();
    let begin: Vec<Uuid> =
        workers.iter().map(|worker| worker.id).filter(|id| id.to_string().starts_with(&wanted)).collect();
    match begin.as_slice() {
        [one] if !wanted.is_empty() => Ok(*one),
        [] | [_] => Err(CliError::NotFound(format!(
            "no worker process has the id {text:?}; `millpond workers list` shows all"
        ))),
        many => {
            Err(CliError::Usage(format!("{} worker processes have ids that begin with {text:?}", many.len())))
        }
    }
}

fn as_json(worker: &WorkerRecord) -> Value {
    json!({
        "workerId": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "queues": worker.queues,
        "inFlight": worker.in_flight,
        "startedAt": instant(worker.started_at),
        "heartbeatAgeS": worker.heartbeat_age.as_secs_f64(),
        "isDraining": worker.draining,
        "asked": worker.asked.as_ref().map(|asked| {
            json!({"what": asked.what.as_str(), "by": asked.by, "at": instant(asked.at)})
        }),
    })
}

fn as_table(workers: &[WorkerRecord]) -> String {
    if workers.is_empty() {
        return "no worker process is registered".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["WORKER", "HOST", "PID", "VERSION", "IN FLIGHT", "SINCE", "HEARTBEAT", "STATE"]);
    for worker in workers {
        let queues = worker.queues.iter().map(|(queue, slots)| {
            let running = worker.in_flight.get(queue).copied().unwrap_or_default();
            let slots = slots.map_or_else(|| "?".to_owned(), |slots| slots.to_string());
            format!("{queue} {running}/{slots}")
        });
        table.add_row([
            worker.id.to_string(),
            worker.host.clone(),
            worker.pid.to_string(),
            worker.version.clone(),
            queues.collect::<Vec<_>>().join(", "),
            instant(worker.started_at),
            format!("{:.0} s ago", worker.heartbeat_age.as_secs_f64()),
            state(worker),
        ]);
    }
    table.trim_fmt()
}

fn state(worker: &WorkerRecord) -> String {
    match &worker.asked {
        _ if worker.draining => "draining".to_owned(),
        Some(asked) => format!("{}, asked by {} at {}", asked.what.as_str(), asked.by, instant(asked.at)),
        None => "working".to_owned(),
    }
}
