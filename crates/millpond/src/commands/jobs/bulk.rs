//! `millpond jobs bulk …`: calling off, or trying again, everything that a search finds. A job of the system does it, chunk by
//! chunk; the command follows it, and may be interrupted.

use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand};
use db::Pool;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jobs::ops::{BulkPreview, BulkRequest, BulkStarted, preview_bulk, start_bulk};
use kernel::ids::TenantId;
use queue::bulk::{BulkAction, BulkState};
use queue::{JobRecord, JobSearch, JobStatus, Waker};
use serde_json::{Value, json};

use super::search::{SearchArgs, as_json, as_table};
use super::{Names, as_outline};
use crate::commands::dead::Rate;
use crate::error::CliError;
use crate::output::{Output, tell};
use crate::runtime::{Asker, Signals, reading};

/// How often it looks how far the job is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What can be done with many jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum BulkCommand {
    /// Try failed jobs again, with all their attempts; cancelled ones with --status cancelled
    Retry(BulkArgs),
    /// Call live jobs off
    Cancel(BulkArgs),
}

/// Arguments of `jobs bulk …`.
#[derive(Debug, Args)]
#[command(after_help = "\
Look first: --preview says what it would touch, and changes nothing. Jobs that fail again are not taken a second time.

Examples:
  millpond jobs bulk retry --kind webhooks.deliver --code NOT_DELIVERED --preview
  millpond jobs bulk retry --kind webhooks.deliver --code NOT_DELIVERED --rate 50/s
  millpond jobs bulk cancel --partner acme --kind profiles.enrich --at-once --detach")]
pub(crate) struct BulkArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// All of them, when nothing narrows them down
    #[arg(long)]
    all: bool,
    /// Say what it would touch, and change nothing
    #[arg(long)]
    preview: bool,
    /// How many may be changed in a second, minute or hour: 50/s, 600/m, 1000/h
    #[arg(long, default_value = "50/s", conflicts_with = "at_once")]
    rate: Rate,
    /// As fast as it goes
    #[arg(long)]
    at_once: bool,
    /// Do not wait for its end
    #[arg(long)]
    detach: bool,
}

impl BulkCommand {
    /// Whether nothing is changed.
    pub(super) const fn only_looks(&self) -> bool {
        let (Self::Retry(arguments) | Self::Cancel(arguments)) = self;
        arguments.preview
    }
}

/// Shows what a bulk change would touch.
pub(super) async fn preview(pool: &Pool, output: Output, command: &BulkCommand) -> Result<(), CliError> {
    let (action, arguments) = parts(command);
    let names = Names::load(pool).await?;
    let mut tx = reading(pool).await?;
    let search = arguments.search.search(&mut tx).await?;
    let preview = preview_bulk(&mut tx, action, search).await?;
    output.show(&preview_as_json(&preview, &names), || preview_as_text(&preview, &names))
}

/// Starts a bulk change and follows it.
pub(super) async fn run(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    command: &BulkCommand,
) -> Result<(), CliError> {
    let (action, arguments) = parts(command);
    let filter = arguments.search.search(&mut *db::begin(pool).await?).await?;
    if filter == JobSearch::default() && !arguments.all {
        return Err(CliError::Usage(
            "say which jobs: --kind, --code, --partner, --since and the like; or --all".to_owned(),
        ));
    }
    let rate_per_s = (!arguments.at_once).then(|| arguments.rate.per_second());
    start(pool, output, asker, BulkRequest { action, filter, rate_per_s }, arguments.detach).await
}

const fn parts(command: &BulkCommand) -> (BulkAction, &BulkArgs) {
    match command {
        BulkCommand::Retry(arguments) => (BulkAction::Redrive, arguments),
        BulkCommand::Cancel(arguments) => (BulkAction::Cancel, arguments),
    }
}

/// Starts a bulk change, and follows it unless it is to be left alone.
pub(in crate::commands) async fn start(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    request: BulkRequest,
    detach: bool,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let started = start_bulk(&mut tx, &asker.door(), request).await?;
    tx.commit().await?;
    let waker = Waker::new();
    waker.wake(started.queue);
    waker.tell_now(pool).await;
    if detach {
        let json = as_outcome(&started, None);
        return output
            .show(&json, || format!("{} does it; `millpond jobs show {0}` says how far it is", started.job));
    }
    let ended = follow(pool, &started).await?;
    // One that was cancelled or failed has no result, but has changed what it had come to.
    let done = queue::bulk::state(&mut pool.acquire().await?, started.job).await?;
    let mut json = as_outcome(&started, Some(&ended));
    if json["result"].is_null() {
        let BulkState { changed, asked, key_taken, gone, .. } = done;
        json["result"] = json!({ "changed": changed, "asked": asked, "keyTaken": key_taken, "gone": gone });
    }
    output.show(&json, || outcome(&done))?;
    match ended.status {
        JobStatus::Completed => Ok(()),
        status => Err(CliError::Conflict(format!(
            "{} is {status}: what it changed stays so; the same command does the rest",
            started.job
        ))),
    }
}

/// Waits for the job's end, and shows how far it is.
async fn follow(pool: &Pool, started: &BulkStarted) -> Result<JobRecord, CliError> {
    let mut signals = Signals::listen()?;
    let is_seen = std::io::stderr().is_terminal();
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(started.matched.count), target);
    if let Ok(style) = ProgressStyle::with_template("[{bar:40}] {pos}/{len}  {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    loop {
        let job = queue::get(&mut pool.acquire().await?, TenantId::SYSTEM, started.job).await?;
        let job = job.ok_or_else(|| CliError::NotFound(format!("{} is gone", started.job)))?;
        if job.status.has_ended() {
            bar.finish_and_clear();
            return Ok(job);
        }
        if let Some(progress) = &job.progress {
            bar.set_length(progress.total.unwrap_or_default().max(progress.done));
            bar.set_position(progress.done);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = signals.asked() => {
                bar.finish_and_clear();
                tell(&format!(
                    "{0} goes on without this command; `millpond jobs cancel {0}` stops it between two chunks",
                    started.job
                ));
                return Err(CliError::Interrupted);
            }
        }
    }
}

fn as_outcome(started: &BulkStarted, ended: Option<&JobRecord>) -> Value {
    json!({
        "jobId": started.job,
        "matched": started.matched.count,
        "isEstimated": started.matched.is_estimated,
        "filter": started.filter,
        "status": ended.map_or(JobStatus::Queued, |job| job.status),
        "result": ended.and_then(|job| job.result.clone()),
        "error": ended.and_then(|job| job.failure.clone()),
    })
}

fn outcome(done: &BulkState) -> String {
    let mut text = format!("{} jobs were changed", done.changed);
    for (count, words) in [
        (done.asked, "were told to stop"),
        (done.key_taken, "stay, since other jobs do the same work already"),
        (done.gone, "had changed by themselves meanwhile"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {words}"));
        }
    }
    text
}

fn preview_as_json(preview: &BulkPreview, names: &Names) -> Value {
    let groups = &preview.groups;
    let signatures: Vec<Value> = groups
        .signatures
        .iter()
        .map(|((code, message), jobs)| json!({"code": code, "message": message, "jobs": jobs}))
        .collect();
    let owners: serde_json::Map<String, Value> =
        groups.tenants.iter().map(|(tenant, jobs)| (names.of(*tenant), (*jobs).into())).collect();
    json!({
        "filter": preview.filter,
        "matched": preview.matched.count,
        "isEstimated": preview.matched.is_estimated,
        "lookedAt": preview.looked_at,
        "partial": preview.is_partial,
        "kinds": groups.kinds,
        "queues": groups.queues,
        "owners": owners,
        "signatures": signatures,
        "samples": preview.samples.iter().map(|job| as_json(job, names)).collect::<Vec<_>>(),
    })
}

fn preview_as_text(preview: &BulkPreview, names: &Names) -> String {
    let mut json = preview_as_json(preview, names);
    let about = if preview.matched.is_estimated { "about " } else { "" };
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|name, _| !["filter", "matched", "isEstimated", "samples"].contains(&name.as_str()));
    }
    format!(
        "{about}{} jobs would be changed\n{}\n\n{}",
        preview.matched.count,
        as_outline(&json, 0),
        as_table(&preview.samples, names)
    )
}
