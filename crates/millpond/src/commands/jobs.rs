//! `millpond jobs …`: looking at jobs of all partners, trying failed ones again, calling live ones off.

pub(super) mod bulk;
mod search;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use config::Settings;
use db::{Connection, Pool};
use jobs::job as actions;
use kernel::ids::{JobId, TenantId};
use queue::{Cancelled, JobRecord, JobStatus, Waker};
use serde_json::{Value, json};
use webhooks::Delivery;

use super::{explain, partners};
use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, settings};

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Show jobs, the newest first
    List(search::ListArgs),
    /// Say how many jobs there are
    Count(search::CountArgs),
    /// Show one job with its attempts, errors and callbacks
    Show(JobArg),
    /// Say why a job is not running, what clears when, and when it ends
    Explain(JobArg),
    /// Show how estimates of when jobs end came true
    Estimates,
    /// Try a failed or cancelled job again, with all its attempts
    Retry(JobArg),
    /// Call a job off that has not ended
    Cancel(JobArg),
    /// Try again, or call off, all jobs that a search finds
    #[command(subcommand)]
    Bulk(bulk::BulkCommand),
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct JobArg {
    /// The job's id (job_…)
    job: JobId,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: JobsCommand) -> Result<(), CliError> {
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
    command: JobsCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    let asker = || Asker::new(settings, database);
    match command {
        JobsCommand::List(arguments) => search::list(pool, output, &arguments).await,
        JobsCommand::Count(arguments) => search::count(pool, output, &arguments).await,
        JobsCommand::Bulk(command) if command.only_looks() => bulk::preview(pool, output, &command).await,
        JobsCommand::Bulk(command) => bulk::run(pool, output, &asker().await?, &command).await,
        JobsCommand::Show(JobArg { job }) => show(pool, output, job).await,
        JobsCommand::Explain(JobArg { job }) => explain::explain(pool, output, job).await,
        JobsCommand::Estimates => explain::estimates(pool, output).await,
        JobsCommand::Retry(JobArg { job }) => retry(pool, output, &asker().await?, job).await,
        JobsCommand::Cancel(JobArg { job }) => cancel(pool, output, &asker().await?, job).await,
    }
}

async fn show(pool: &Pool, output: Output, id: JobId) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let mut conn = pool.acquire().await?;
    let job = found(&mut conn, &names, id).await?;
    let json = job_with_deliveries(&mut conn, &job, &names).await?;
    output.show(&json, || as_outline(&json, 0))
}

/// Everything about a job, for people and programs.
pub(super) async fn job_with_deliveries(
    conn: &mut Connection,
    job: &JobRecord,
    names: &Names,
) -> Result<Value, CliError> {
    let mut json = as_json(job, names);
    json["args"] = job.args.clone();
    json["progress"] = job.progress.as_ref().map_or(
        Value::Null,
        |progress| json!({"done": progress.done, "total": progress.total, "note": progress.note}),
    );
    json["result"] = job.result.clone().unwrap_or_default();
    json["errors"] = json!(job.errors);
    let mut deliveries = Vec::new();
    for delivery in webhooks::list_of_job(&mut *conn, job.tenant, job.id).await? {
        let attempts = webhooks::list_attempts(&mut *conn, job.tenant, delivery.id).await?;
        deliveries.push(delivery_as_json(&delivery, &attempts));
    }
    json["deliveries"] = deliveries.into();
    Ok(json)
}

async fn retry(pool: &Pool, output: Output, asker: &Asker, id: JobId) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let mut tx = db::begin(pool).await?;
    let job = found(&mut tx, &names, id).await?;
    let queue = actions::retry(&mut tx, &asker.door(), job.tenant, id).await?;
    tx.commit().await?;
    let waker = Waker::new();
    waker.wake_all(queue);
    waker.tell_now(pool).await;
    output.show(&json!({"jobId": id, "status": JobStatus::Queued}), || format!("{id} will be tried again"))
}

async fn cancel(pool: &Pool, output: Output, asker: &Asker, id: JobId) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let mut tx = db::begin(pool).await?;
    let job = found(&mut tx, &names, id).await?;
    let cancelled = actions::cancel(&mut tx, &asker.door(), job.tenant, id).await?;
    tx.commit().await?;
    let waker = Waker::new();
    let (status, said) = match cancelled.outcome {
        Cancelled::Now { released } => {
            waker.wake_all(released);
            waker.job_ended();
            (JobStatus::Cancelled, "is cancelled")
        }
        Cancelled::Asked => {
            waker.cancel();
            (JobStatus::Processing, "is running; its worker will stop it within seconds")
        }
        Cancelled::NotLive => (JobStatus::Cancelled, "was cancelled already"),
    };
    waker.tell_now(pool).await;
    output.show(&json!({"jobId": id, "status": status}), || format!("{id} {said}"))
}

/// Who owns jobs: every partner, and the system.
pub(super) struct Names(Vec<(TenantId, String)>);

impl Names {
    pub(super) async fn load(pool: &Pool) -> Result<Self, CliError> {
        let partners = partners::all(pool).await?;
        let mut names: Vec<_> =
            partners.into_iter().map(|partner| (TenantId::from(partner.id), partner.code)).collect();
        names.push((TenantId::SYSTEM, "system".to_owned()));
        Ok(Self(names))
    }

    pub(super) fn of(&self, tenant: TenantId) -> String {
        let known = self.0.iter().find(|(known, _)| *known == tenant);
        known.map_or_else(|| tenant.to_string(), |(_, name)| name.clone())
    }

    fn tenants(&self) -> Vec<TenantId> {
        self.0.iter().map(|(tenant, _)| *tenant).collect()
    }
}

pub(super) async fn found(conn: &mut Connection, names: &Names, id: JobId) -> Result<JobRecord, CliError> {
    let job = queue::find(conn, &names.tenants(), id).await?;
    job.ok_or_else(|| {
        CliError::NotFound(format!("no job has the id {id}; `millpond jobs list` shows the newest"))
    })
}

fn as_json(job: &JobRecord, names: &Names) -> Value {
    json!({
        "jobId": job.id,
        "owner": names.of(job.tenant),
        "kind": job.kind,
        "queue": job.queue,
        "status": job.status,
        "attempts": job.attempts,
        "attemptsMax": job.attempts_max,
        "takenBack": job.taken_back,
        "createdAt": instant(job.created_at),
        "startedAt": job.started_at.map(instant),
        "runAt": job.run_at.map(instant),
        "finishedAt": job.finished_at.map(instant),
        "requestId": job.request_id,
        "traceId": job.trace().trace_id(),
        "error": job.failure,
    })
}

fn delivery_as_json(delivery: &Delivery, attempts: &[webhooks::RecordedAttempt]) -> Value {
    let attempts: Vec<Value> = attempts
        .iter()
        .map(|attempt| {
            json!({
                "attempt": attempt.number,
                "sentAt": instant(attempt.sent_at),
                "durationMs": attempt.duration_ms,
                "responseStatus": attempt.response_status,
                "responseBody": attempt.response_body,
                "error": attempt.error,
            })
        })
        .collect();
    json!({
        "deliveryId": delivery.id,
        "url": delivery.url,
        "status": delivery.status,
        "createdAt": instant(delivery.created_at),
        "endedAt": delivery.ended_at.map(instant),
        "attempts": attempts,
    })
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// JSON as an outline for people: a name and a value a line, what is inside indented, what is empty left out.
pub(super) fn as_outline(value: &Value, depth: usize) -> String {
    const INDENT: &str = "  ";
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &Value| match value {
        Value::Null => {}
        Value::Object(inner) if inner.is_empty() => {}
        Value::Array(inner) if inner.is_empty() => {}
        Value::Object(_) | Value::Array(_) => {
            lines.push(format!("{}{name}:", INDENT.repeat(depth)));
            lines.push(as_outline(value, depth + 1));
        }
        Value::String(text) => lines.push(format!("{}{name}: {text}", INDENT.repeat(depth))),
        other => lines.push(format!("{}{name}: {other}", INDENT.repeat(depth))),
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| line(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| line(&(n + 1).to_string(), item))
        }
        other => line("", other),
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_indents_what_is_inside_and_leaves_out_what_is_empty() {
        let value = json!({"a": 1, "b": null, "c": {"d": "x", "e": []}, "f": [{"g": true}]});
        assert_eq!(as_outline(&value, 0), "a: 1\nc:\n  d: x\nf:\n  1:\n    g: true");
    }
}
