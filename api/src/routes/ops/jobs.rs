//! `/api/v1/ops/jobs`: finding jobs among millions, looking at one, trying it again, calling it off.

pub mod bulk;
pub mod count;
pub mod detail;
pub mod filter;
pub mod list;
pub mod one;

use queue::FoundJob;
use serde::Serialize;
use utoipa::ToSchema;

use super::listing::Listed;
use super::owners::Owners;
use crate::routes::instant;

/// A job in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpsJob {
    /// Its id.
    #[schema(example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: String,
    /// Who owns it: a partner's code, or `system`.
    #[schema(example = "techcombank")]
    owner: String,
    /// Its kind.
    #[schema(example = "profiles.enrich")]
    kind: String,
    /// Its queue.
    #[schema(example = "enrich")]
    queue: String,
    /// `scheduled`, `waiting`, `parked`, `ready`, `running`, `completed`, `failed` or `cancelled`.
    #[schema(example = "ready")]
    state: &'static str,
    /// As its owner sees it: `queued`, `processing`, `completed`, `failed` or `cancelled`.
    #[schema(example = "queued")]
    status: &'static str,
    /// Attempts begun.
    #[schema(example = 1)]
    attempts: i16,
    /// Attempts allowed.
    #[schema(example = 8)]
    attempts_max: i16,
    /// How often it was taken back from a dead worker.
    #[schema(example = 0)]
    taken_back: i16,
    /// Lower runs first.
    #[schema(example = 0)]
    priority: i16,
    /// Its key.
    key: Option<String>,
    /// The batch that it is a child of.
    batch_id: Option<String>,
    /// The request that asked for it.
    request_id: Option<String>,
    /// The code of its error.
    error_code: Option<String>,
    /// The message of its error.
    error_message: Option<String>,
    /// When it was stored.
    #[schema(format = DateTime)]
    created_at: String,
    /// When its first attempt began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When the next attempt may begin, while it is live.
    #[schema(format = DateTime)]
    run_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    finished_at: Option<String>,
}

impl Listed for OpsJob {
    const NAME: &'static str = "jobs";
    const ID: &'static str = "jobId";
    const COLUMNS: &'static [&'static str] = &[
        "jobId",
        "owner",
        "kind",
        "queue",
        "state",
        "status",
        "attempts",
        "attemptsMax",
        "takenBack",
        "priority",
        "key",
        "batchId",
        "requestId",
        "errorCode",
        "errorMessage",
        "createdAt",
        "startedAt",
        "runAt",
        "finishedAt",
    ];
}

impl OpsJob {
    pub(super) fn of(job: FoundJob, owners: &Owners) -> Self {
        let (error_code, error_message) =
            job.failure.map(|failure| (failure.code.to_string(), failure.message.to_string())).unzip();
        Self {
            job_id: job.id.to_string(),
            owner: owners.name(job.tenant),
            kind: job.kind,
            queue: job.queue,
            state: job.state.as_str(),
            status: job.status.as_str(),
            attempts: job.attempts,
            attempts_max: job.attempts_max,
            taken_back: job.taken_back,
            priority: job.priority,
            key: job.key,
            batch_id: job.batch.map(|batch| batch.to_string()),
            request_id: job.request_id,
            error_code,
            error_message,
            created_at: instant(job.created_at),
            started_at: job.started_at.map(instant),
            run_at: job.run_at.map(instant),
            finished_at: job.finished_at.map(instant),
        }
    }
}
