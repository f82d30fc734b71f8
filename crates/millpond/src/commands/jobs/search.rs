//! `millpond jobs list` and `jobs count`: looking through jobs of all partners, live and finished.

use chrono::{DateTime, Utc};
use clap::Args;
use db::{Connection, Pool, keyset};
use kernel::ids::{BatchId, JobId};
use queue::{ArgIs, Found, FoundJob, JobSearch, JobState, JobStatus, Order, Queue, SearchCursor};
use serde_json::{Value, json};

use super::{Names, instant};
use crate::commands::tenants;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::reading;

/// Most jobs shown at once.
const LIMIT_MAX: i64 = queue::PAGE_MAX as i64;
/// Cursors of another version of this list are refused.
const CURSOR_VERSION: u8 = 1;

/// Which jobs.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SearchArgs {
    /// queued, processing, completed, failed or cancelled; may be given several times
    #[arg(long)]
    status: Vec<JobStatus>,
    /// scheduled, waiting, parked, ready, running, completed, failed or cancelled; may be given several times
    #[arg(long)]
    state: Vec<JobState>,
    /// A kind, such as profiles.enrich; may be given several times
    #[arg(long)]
    kind: Vec<String>,
    /// enrich, webhooks or maintenance; may be given several times
    #[arg(long)]
    queue: Vec<Queue>,
    /// A partner's code or id, or `system`
    #[arg(long)]
    partner: Option<String>,
    /// The job's key, by which limits and fairness tell jobs of a kind apart
    #[arg(long)]
    key: Option<String>,
    /// The request that led to it
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// The batch that it is a child of
    #[arg(long)]
    batch: Option<BatchId>,
    /// The code of its error
    #[arg(long)]
    code: Option<String>,
    /// The signature of its error: the message as `dead list` shows it
    #[arg(long, value_name = "MESSAGE")]
    signature: Option<String>,
    /// Stored at or after this time, such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Stored before this time
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
    /// Ended at or after this time
    #[arg(long, value_name = "TIME")]
    finished_since: Option<DateTime<Utc>>,
    /// Ended before this time
    #[arg(long, value_name = "TIME")]
    finished_before: Option<DateTime<Utc>>,
    /// This job; may be given several times
    #[arg(long)]
    job: Vec<JobId>,
    /// An argument's value; only with --kind and a range of time. The path's parts are joined by dots
    #[arg(long, value_name = "PATH=VALUE", value_parser = argument)]
    arg: Option<ArgIs>,
}

/// Arguments of `jobs list`.
#[derive(Debug, Args)]
#[command(after_help = "\
One call looks at some 10,000 jobs at the most; when that was not enough to fill the page it says so (\"partial\"), and
--after goes on where it stopped.

Examples:
  millpond jobs list --status failed --partner techcombank
  millpond jobs list --state running --watch
  millpond jobs list --request my-own-id --json
  millpond jobs list --code NOT_DELIVERED --finished-since 2026-11-21T09:00:00Z
  millpond jobs list --kind profiles.fetch --since 2026-11-21T09:00:00Z --arg profile=https://www.tiktok.com/@amy")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    search: SearchArgs,
    /// The oldest first
    #[arg(long)]
    oldest: bool,
    /// How many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=LIMIT_MAX))]
    limit: i64,
    /// The next page: what the one before it showed as `next`
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Arguments of `jobs count`.
#[derive(Debug, Args)]
#[command(after_help = "\
Counted exactly up to 10,000, estimated beyond; the answer says which.

Examples:
  millpond jobs count --status failed --finished-since 2026-11-21T09:00:00Z
  millpond jobs count --state ready --kind profiles.enrich --watch")]
pub(crate) struct CountArgs {
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

fn argument(text: &str) -> Result<ArgIs, String> {
    let (path, value) = text.split_once('=').ok_or("expected PATH=VALUE, such as profile=https://…")?;
    let path: Vec<String> = path.split('.').map(ToOwned::to_owned).collect();
    match path.iter().any(String::is_empty) {
        true => Err("a part of the path is empty".to_owned()),
        false => Ok(ArgIs { path, value: value.to_owned() }),
    }
}

impl SearchArgs {
    pub(super) async fn search(&self, conn: &mut Connection) -> Result<JobSearch, CliError> {
        let tenant = match &self.partner {
            Some(partner) => Some(tenants::found(conn, partner).await?),
            None => None,
        };
        Ok(JobSearch {
            states: self.state.clone(),
            statuses: self.status.clone(),
            kinds: self.kind.clone(),
            queues: self.queue.iter().map(ToString::to_string).collect(),
            tenant,
            key: self.key.clone(),
            request_id: self.request.clone(),
            batch: self.batch,
            code: self.code.clone(),
            signature: self.signature.clone(),
            created_from: self.since,
            created_before: self.before,
            finished_from: self.finished_since,
            finished_before: self.finished_before,
            ids: self.job.clone(),
            arg: self.arg.clone(),
        })
    }
}

/// Shows a page of jobs.
pub(super) async fn list(pool: &Pool, output: Output, arguments: &ListArgs) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let order = if arguments.oldest { Order::Oldest } else { Order::Newest };
    let limit = usize::try_from(arguments.limit).unwrap_or_default();
    let after = arguments.after.as_deref().map(cursor).transpose()?;
    arguments
        .watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let search = arguments.search.search(&mut tx).await?;
            let found = queue::search(&mut tx, &search, order, after.as_ref(), limit).await?;
            page(&found, &names)
        })
        .await
}

/// Shows how many jobs match.
pub(super) async fn count(pool: &Pool, output: Output, arguments: &CountArgs) -> Result<(), CliError> {
    arguments
        .watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let search = arguments.search.search(&mut tx).await?;
            let count = queue::count(&mut tx, &search).await?;
            let about = if count.is_estimated { "about " } else { "" };
            Ok(View {
                json: json!({"count": count.count, "isEstimated": count.is_estimated}),
                text: format!("{about}{}", count.count),
            })
        })
        .await
}

fn cursor(text: &str) -> Result<SearchCursor, CliError> {
    keyset::decode(CURSOR_VERSION, text).map_err(|error| CliError::Usage(error.to_string()))
}

fn page(found: &Found, names: &Names) -> Result<View, CliError> {
    let next = found.next.as_ref().map(|next| keyset::encode(CURSOR_VERSION, next)).transpose();
    let next = next.map_err(|error| CliError::part("making a cursor", error))?;
    let items: Vec<Value> = found.jobs.iter().map(|job| as_json(job, names)).collect();
    let json = json!({
        "items": items,
        "next": next,
        "partial": found.partial,
        "sortedBy": found.sorted_by,
        "looked": found.looked,
    });
    let mut text = as_table(&found.jobs, names);
    match (&next, found.partial) {
        (Some(next), true) => text.push_str(&format!(
            "\n{} jobs were looked at, and there may be more: --after {next}",
            found.looked
        )),
        (Some(next), false) => text.push_str(&format!("\nthere are more: --after {next}")),
        (None, _) => {}
    }
    Ok(View { json, text })
}

/// A job as it is found.
pub(super) fn as_json(job: &FoundJob, names: &Names) -> Value {
    json!({
        "jobId": job.id,
        "owner": names.of(job.tenant),
        "kind": job.kind,
        "queue": job.queue,
        "state": job.state,
        "status": job.status,
        "attempts": job.attempts,
        "attemptsMax": job.attempts_max,
        "takenBack": job.taken_back,
        "key": job.key,
        "batchId": job.batch,
        "requestId": job.request_id,
        "createdAt": instant(job.created_at),
        "startedAt": job.started_at.map(instant),
        "runAt": job.run_at.map(instant),
        "finishedAt": job.finished_at.map(instant),
        "error": job.failure,
    })
}

pub(super) fn as_table(jobs: &[FoundJob], names: &Names) -> String {
    if jobs.is_empty() {
        return "no such job".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["JOB", "OWNER", "KIND", "STATE", "ATTEMPTS", "CREATED", "ENDED", "ERROR"]);
    for job in jobs {
        let failure = job.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.message));
        table.add_row([
            job.id.to_string(),
            names.of(job.tenant),
            job.kind.clone(),
            job.state.to_string(),
            format!("{}/{}", job.attempts, job.attempts_max),
            instant(job.created_at),
            job.finished_at.map_or_else(|| "-".to_owned(), instant),
            failure.unwrap_or_default(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_path_and_a_value() {
        let is = |path: &[&str], value: &str| ArgIs {
            path: path.iter().map(ToString::to_string).collect(),
            value: value.to_owned(),
        };
        assert_eq!(argument("profile=a=b"), Ok(is(&["profile"], "a=b")));
        assert_eq!(argument("a.0.b="), Ok(is(&["a", "0", "b"], "")));
        for text in ["", "a", "=b", "a.=b", ".a=b"] {
            assert!(argument(text).is_err(), "{text}");
        }
    }
}
