//! `millpond requests …`: what became of one request, by its id alone.

use clap::{Args, Subcommand};
use db::Pool;
use queue::JobRecord;
use serde_json::{Value, json};

use super::jobs::{Names, as_outline, job_with_deliveries};
use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Database, settings};

/// Jobs of one request shown at the most.
const JOBS_MAX: i64 = 1_000;

/// What can be asked about requests.
#[derive(Debug, Subcommand)]
pub(crate) enum RequestsCommand {
    /// Show every job that a request led to, with attempts, errors and callbacks
    Show(RequestArg),
}

/// Which request.
#[derive(Debug, Args)]
#[command(after_help = "\
The id is the X-Request-Id that came with the answer; it stands in error bodies too. The same id, and the trace ids shown
here, stand in the log lines of every process, in the calls to vendors, in callbacks, and on spans.

Examples:
  millpond requests show req_01jd8x4xkre9a8y9tbn2p5q3mw
  millpond requests show my-own-id --json")]
pub(crate) struct RequestArg {
    /// The request's id
    request_id: String,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: RequestsCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let RequestsCommand::Show(RequestArg { request_id }) = command;
    let result = show(&database.pool, Output::new(globals.json), &request_id).await;
    let closed = database.close().await;
    result.and(closed)
}

async fn show(pool: &Pool, output: Output, request_id: &str) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let mut conn = pool.acquire().await?;
    let jobs: Vec<JobRecord> = queue::of_request(&mut conn, request_id, JOBS_MAX).await?;
    if jobs.is_empty() {
        return Err(CliError::NotFound(format!(
            "no job was stored for the request {request_id:?}; a request that stored none is in the API's log only, and \
             jobs that ended are kept for queue.retention_days"
        )));
    }
    let mut shown = Vec::with_capacity(jobs.len());
    for job in &jobs {
        shown.push(job_with_deliveries(&mut conn, job, &names).await?);
    }
    let json: Value = json!({"requestId": request_id, "jobs": shown});
    output.show(&json, || as_outline(&json, 0))
}
