//! `millpond queues …`: what stands in the queues; pausing, resuming and draining them. Workers see it with their next
//! claim, which comes within their poll interval.

mod history;

use std::io::IsTerminal;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use config::Settings;
use db::Pool;
use indicatif::{ProgressBar, ProgressDrawTarget};
use jobs::queues as actions;
use queue::{DEPTH_MAX, Depth, Pause, Queue, QueueBound, Scope, Waker};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::{Output, tell};
use crate::runtime::{Asker, Database, settings};

/// How often a drain looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Lines come no more often than this where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What can be done with queues.
#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// Show what stands in the queues, what is paused and what is bounded
    List(WatchArgs),
    /// Show what became of jobs lately, minute by minute or hour by hour
    History(history::HistoryArgs),
    /// Start no more jobs; those that run go on
    Pause(ScopeArgs),
    /// Start jobs again
    Resume(ScopeArgs),
    /// Pause, and wait until none runs
    Drain(ScopeArgs),
    /// Bound how many of its jobs each worker process runs at once
    Concurrency(ConcurrencyArgs),
}

/// A queue, or one kind of its jobs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond queues pause webhooks
  millpond queues drain enrich --kind profiles.fetch
  millpond queues resume enrich --kind profiles.fetch")]
pub(crate) struct ScopeArgs {
    /// enrich, webhooks or maintenance
    queue: Queue,
    /// Only jobs of this kind, such as profiles.fetch
    #[arg(long)]
    kind: Option<String>,
}

/// Arguments of `queues concurrency`.
#[derive(Debug, Args)]
#[command(after_help = "\
Workers see it within a second; those that run more let them end. To have none run, pause the queue.

Examples:
  millpond queues concurrency enrich 10
  millpond queues concurrency enrich none       as many as a process has slots")]
pub(crate) struct ConcurrencyArgs {
    /// enrich, webhooks or maintenance
    queue: Queue,
    /// Jobs at once in each process, or `none`
    #[arg(value_name = "JOBS", value_parser = bound)]
    bound: Bound,
}

/// A bound, or none.
#[derive(Debug, Clone, Copy)]
struct Bound(Option<NonZeroU16>);

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        number => {
            number.parse().map(|jobs| Bound(Some(jobs))).map_err(|_| "1 to 65535, or `none`".to_owned())
        }
    }
}

impl ScopeArgs {
    fn scope(self) -> Scope {
        Scope { queue: self.queue, kind: self.kind }
    }
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: QueuesCommand) -> Result<(), CliError> {
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
    command: QueuesCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    let asker = || Asker::new(settings, database);
    match command {
        QueuesCommand::List(watch) => list(pool, output, watch).await,
        QueuesCommand::Concurrency(arguments) => concurrency(pool, output, &asker().await?, &arguments).await,
        QueuesCommand::History(arguments) => history::run(pool, output, &arguments).await,
        QueuesCommand::Pause(arguments) => pause(pool, output, &asker().await?, &arguments.scope()).await,
        QueuesCommand::Resume(arguments) => resume(pool, output, &asker().await?, &arguments.scope()).await,
        QueuesCommand::Drain(arguments) => drain(pool, output, &asker().await?, &arguments.scope()).await,
    }
}

async fn list(pool: &Pool, output: Output, watch: WatchArgs) -> Result<(), CliError> {
    watch
        .show(output, async || {
            let depths = queue::depths(pool).await?;
            let pauses = queue::pauses(pool).await?;
            let bounds = queue::queue_bounds(&mut pool.acquire().await?).await?;
            let json = depths.iter().map(|depth| as_json(depth, &pauses, &bounds)).collect();
            Ok(View { json, text: as_table(&depths, &pauses, &bounds) })
        })
        .await
}

async fn concurrency(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: &ConcurrencyArgs,
) -> Result<(), CliError> {
    let (queue, Bound(bound)) = (arguments.queue, arguments.bound);
    let mut tx = db::begin(pool).await?;
    actions::set_concurrency(&mut tx, &asker.door(), queue, bound).await?;
    tx.commit().await?;
    output.show(&json!({"queue": queue.as_str(), "concurrencyMax": bound}), || match bound {
        Some(jobs) => format!("each process runs at most {jobs} jobs of the queue {queue} at once"),
        None => format!("each process runs as many jobs of the queue {queue} as it has slots"),
    })
}

async fn stop(pool: &Pool, asker: &Asker, scope: &Scope) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    actions::pause(&mut tx, &asker.door(), scope).await?;
    Ok(tx.commit().await?)
}

async fn pause(pool: &Pool, output: Output, asker: &Asker, scope: &Scope) -> Result<(), CliError> {
    stop(pool, asker, scope).await?;
    let running = queue::running(pool, scope).await?;
    output.show(&state(scope, true, running), || match running {
        0 => format!("{} is paused; none of its jobs run", name(scope)),
        _ => format!("{} is paused; {running} of its jobs still run", name(scope)),
    })
}

async fn resume(pool: &Pool, output: Output, asker: &Asker, scope: &Scope) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    actions::resume(&mut tx, &asker.door(), scope).await?;
    tx.commit().await?;
    let waker = Waker::new();
    waker.wake(scope.queue);
    waker.tell_now(pool).await;
    let still = queue::pauses(pool)
        .await?
        .into_iter()
        .find(|pause| scope.kind.is_some() && pause.queue == scope.queue.as_str() && pause.kind.is_none());
    output.show(&state(scope, still.is_some(), queue::running(pool, scope).await?), || match still {
        None => format!("{} goes on", name(scope)),
        Some(_) => format!("{} would go on, but all of its queue is paused", name(scope)),
    })
}

async fn drain(pool: &Pool, output: Output, asker: &Asker, scope: &Scope) -> Result<(), CliError> {
    stop(pool, asker, scope).await?;
    let mut progress = Progress::new(scope);
    loop {
        // A claim that began before the pause may still come in, so one look at zero is not enough by itself: the
        // pause is committed, and a claim takes milliseconds.
        let running = queue::running(pool, scope).await?;
        if running == 0 && progress.looks > 0 {
            break;
        }
        progress.show(running);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    progress.finish();
    output.show(&state(scope, true, 0), || format!("{} is drained: paused, and none runs", name(scope)))
}

/// How many still run: a spinner at a terminal, now and then a line elsewhere.
struct Progress {
    name: String,
    bar: ProgressBar,
    at_terminal: bool,
    last_line: Option<Instant>,
    looks: u32,
}

impl Progress {
    fn new(scope: &Scope) -> Self {
        let at_terminal = std::io::stderr().is_terminal();
        let target = if at_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        Self { name: name(scope), bar, at_terminal, last_line: None, looks: 0 }
    }

    fn show(&mut self, running: i64) {
        self.looks += 1;
        let text = format!("{} is paused; {running} of its jobs still run …", self.name);
        if self.at_terminal {
            self.bar.set_message(text);
            self.bar.tick();
        } else if running > 0 && self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            tell(&text);
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn name(scope: &Scope) -> String {
    match &scope.kind {
        None => format!("the queue {}", scope.queue),
        Some(kind) => format!("{kind} in the queue {}", scope.queue),
    }
}

fn state(scope: &Scope, is_paused: bool, running: i64) -> Value {
    json!({ "queue": scope.queue.as_str(), "kind": scope.kind, "isPaused": is_paused, "running": running })
}

fn as_json(depth: &Depth, pauses: &[Pause], bounds: &[QueueBound]) -> Value {
    let pauses: Vec<Value> = of(depth, pauses)
        .map(|pause| {
            json!({
                "kind": pause.kind,
                "by": pause.by,
                "since": pause.since.to_rfc3339_opts(SecondsFormat::Millis, true),
                "running": pause.running,
            })
        })
        .collect();
    json!({
        "queue": depth.queue.as_str(),
        "ready": depth.ready,
        "scheduled": depth.scheduled,
        "running": depth.running,
        // Counted up to this many.
        "countedMax": DEPTH_MAX,
        "pauses": pauses,
        "concurrencyMax": bound_of(depth, bounds),
    })
}

fn as_table(depths: &[Depth], pauses: &[Pause], bounds: &[QueueBound]) -> String {
    let counted =
        |jobs: i64| if jobs >= DEPTH_MAX { format!("{DEPTH_MAX} or more") } else { jobs.to_string() };
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["QUEUE", "READY", "SCHEDULED", "RUNNING", "EACH AT MOST", "PAUSED"]);
    for depth in depths {
        let paused: Vec<String> = of(depth, pauses)
            .map(|pause| {
                let what = pause.kind.as_deref().unwrap_or("all of it");
                format!("{what}, by {} since {}", pause.by, pause.since.format("%Y-%m-%d %H:%M"))
            })
            .collect();
        table.add_row([
            depth.queue.to_string(),
            counted(depth.ready),
            counted(depth.scheduled),
            depth.running.to_string(),
            bound_of(depth, bounds).map_or_else(|| "-".to_owned(), |jobs| jobs.to_string()),
            if paused.is_empty() { "-".to_owned() } else { paused.join("; ") },
        ]);
    }
    table.trim_fmt()
}

fn of<'a>(depth: &Depth, pauses: &'a [Pause]) -> impl Iterator<Item = &'a Pause> {
    let queue = depth.queue.as_str();
    pauses.iter().filter(move |pause| pause.queue == queue)
}

fn bound_of(depth: &Depth, bounds: &[QueueBound]) -> Option<i32> {
    let of = bounds.iter().find(|bound| bound.queue == depth.queue.as_str());
    of.map(|bound| bound.concurrency_max)
}
