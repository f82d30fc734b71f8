//! Jobs as partners see them: those they asked for, never those that serve us (deliveries, crawls).

pub mod cancel;
pub mod list;
pub mod show;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use db::Connection;
use http::HeaderValue;
use jobs::profiles::Enrich;
use kernel::ids::{JobId, TenantId};
use queue::{Eta, Job, JobRecord, JobStatus};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::instant;
use super::profiles::profile::{EnrichResult, Profile};
use crate::error::ApiError;
use crate::estimate;
use crate::middleware::context::RequestContext;
use crate::state::ApiState;

/// The kinds that partners ask for. Jobs of other kinds are not theirs to see, though they may own them.
pub const PARTNER_KINDS: [&str; 1] = [Enrich::KIND];

/// Polling less often than this helps nobody: jobs end in seconds.
const RETRY_AFTER_S_MAX: u64 = 10;

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "jobId": "job_01jd8x4xkre9a8y9tbn2p5q3mw",
    "kind": "profiles.enrich",
    "status": "processing",
    "createdAt": "2026-01-31T08:30:00.000Z",
    "estimatedTime": 6,
    "eta": "2026-01-31T08:30:10.000Z",
    "etaRange": {"earliest": "2026-01-31T08:30:07.500Z", "latest": "2026-01-31T08:30:14.000Z"},
    "attempts": 1,
    "attemptsMax": 10,
    "errors": []
}))]
pub struct JobView {
    /// Its id.
    #[schema(value_type = String, example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: JobId,
    /// What it does, e.g. `profiles.enrich`.
    #[schema(example = "profiles.enrich")]
    kind: String,
    /// `queued`, `processing`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = String)]
    status: JobStatus,
    /// When it was stored.
    #[schema(format = DateTime)]
    created_at: String,
    /// While it has not ended: whole seconds until the result, most likely: from its place in the queue, limits, and how
    /// long such jobs took lately. Absent when nobody can tell, because its queue is paused or nobody works it.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_time: Option<u64>,
    /// While it has not ended: when that will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    eta: Option<String>,
    /// While it has not ended, of a job that is asked for by its id: nine of ten jobs end between these.
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_range: Option<EtaRange>,
    /// While it has not ended: how far it is, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    /// Attempts begun.
    #[schema(example = 1)]
    attempts: i16,
    /// Attempts allowed.
    #[schema(example = 8)]
    attempts_max: i16,
    /// Every attempt that failed, the oldest first.
    errors: Vec<AttemptView>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// When completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EnrichResult>)]
    result: Option<Value>,
    /// When failed or cancelled: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
}

/// Between when and when a job ends.
#[derive(Debug, Serialize, ToSchema)]
struct EtaRange {
    /// Hardly before.
    #[schema(format = DateTime)]
    earliest: String,
    /// Hardly after.
    #[schema(format = DateTime)]
    latest: String,
}

/// What is known of a job's end.
#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    remaining: Option<Duration>,
    eta: Option<Eta>,
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressView {
    /// Steps done.
    #[schema(example = 40)]
    done: u64,
    /// Steps in all, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// In words, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// One failed attempt.
#[derive(Debug, Serialize, ToSchema)]
struct AttemptView {
    /// Its number, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<i16>,
    /// When it failed.
    #[schema(format = DateTime)]
    at: String,
    /// For programs.
    #[schema(example = "VENDOR_UNAVAILABLE")]
    code: String,
    /// For people.
    message: String,
}

/// Why a job failed or was cancelled.
#[derive(Debug, Serialize, ToSchema)]
struct FailureView {
    /// For programs: `NOT_FOUND`, `CRAWL_TIMEOUT`, `VENDOR_UNAVAILABLE`, `CANCELLED` or `INTERNAL_ERROR`.
    #[schema(example = "NOT_FOUND")]
    code: String,
    /// For people.
    #[schema(example = "the profile service did not answer")]
    message: String,
}

/// One job in S0's wrapper.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobBody {
    /// Always true: the question was answered, however the job ended.
    success: bool,
    data: JobView,
}

/// The end of a job as its callback tells it, plus `success`.
#[derive(Debug, Serialize)]
pub struct FinalBody {
    /// Whether the job completed.
    success: bool,
    #[serde(flatten)]
    callback: Map<String, Value>,
}

/// The end of a job as its callback tells it, plus `success`.
#[derive(Debug, ToSchema)]
#[schema(as = FinalBody, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of `FinalBody`.
pub struct FinalBodySchema {
    /// Whether the job completed. The callback is the same without it.
    success: bool,
    /// The job's id.
    #[schema(example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: String,
    /// `completed`, `failed` or `cancelled`.
    #[schema(example = "completed")]
    status: String,
    /// When completed.
    #[schema(required = false, nullable = false)]
    profile: Profile,
    /// When completed: true if the vendor did not answer and this is an older crawl; else absent.
    #[schema(required = false, nullable = false)]
    stale: bool,
    /// When failed or cancelled: why.
    #[schema(required = false, nullable = false)]
    error: FailureView,
}

impl FinalBody {
    /// The body of an ended job.
    pub fn of(job: &JobRecord) -> Self {
        Self { success: job.status == JobStatus::Completed, callback: jobs::callback::body(job) }
    }
}

impl JobView {
    /// The job as its owner sees it: no causes of errors, no arguments.
    fn of(job: JobRecord, expected: Expected, now: DateTime<Utc>) -> Self {
        let live = !job.status.has_ended();
        let Expected { remaining, eta } = if live { expected } else { Expected::default() };
        let errors = job.errors.into_iter().map(|error| AttemptView {
            attempt: error.attempt,
            at: instant(error.at),
            code: error.code,
            message: error.message,
        });
        let failure = job.failure.map(|failure| FailureView {
            code: failure.code.to_string(),
            message: failure.message.to_string(),
        });
        Self {
            job_id: job.id,
            kind: job.kind,
            status: job.status,
            created_at: instant(job.created_at),
            estimated_time: remaining.map(estimate::seconds),
            eta: remaining.map(|remaining| instant(eta.map_or(now, |eta| eta.seen_at) + remaining)),
            eta_range: eta
                .map(|eta| EtaRange { earliest: instant(eta.earliest), latest: instant(eta.latest) }),
            progress: job.progress.map(|progress| ProgressView {
                done: progress.done,
                total: progress.total,
                note: progress.note,
            }),
            attempts: job.attempts,
            attempts_max: job.attempts_max,
            errors: errors.collect(),
            finished_at: job.finished_at.map(instant),
            result: job.result.filter(|_| job.status == JobStatus::Completed),
            error: failure.filter(|_| !live),
        }
    }
}

/// Where a job is polled.
pub fn location(job: JobId) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(&format!("/api/v1/jobs/{job}")).map_err(ApiError::internal)
}

/// After how many seconds polling a job makes sense that will take so many more.
pub fn retry_after_s(remaining_s: u64) -> u64 {
    remaining_s.clamp(1, RETRY_AFTER_S_MAX)
}

/// Waits until the job has ended, for at most `wait` and the longest wait there is, without taking a place among
/// the requests in flight. Ends early, as if in vain, when the process is to stop.
pub async fn until_ended(state: &ApiState, tenant: TenantId, job: JobId, wait: Duration) -> bool {
    let context = RequestContext::current();
    if let Some(context) = &context {
        context.release_place();
    }
    let wait = wait.min(state.wait_max());
    let began = Instant::now();
    let ended = tokio::select! {
        () = state.stop().cancelled() => false,
        ended = state.watcher().until_ended(tenant, job, wait) => ended,
    };
    if let Some(context) = &context {
        context.note_wait(began.elapsed());
    }
    ended
}

/// A job that the tenant asked for. Other tenants' jobs and internal ones are as absent as those that never were.
async fn own_job(conn: &mut Connection, tenant: TenantId, id: JobId) -> Result<JobRecord, ApiError> {
    let found = queue::get(conn, tenant, id).await?;
    found.filter(|job| PARTNER_KINDS.contains(&job.kind.as_str())).ok_or(ApiError::NotFound("job"))
}

/// One job as a body.
async fn job_body(state: &ApiState, job: JobRecord) -> JobBody {
    let live = !job.status.has_ended();
    let eta = if live { estimate::of_live(state, job.tenant, job.id).await } else { None };
    let expected = Expected { remaining: eta.map(|eta| eta.remaining()), eta };
    JobBody { success: true, data: JobView::of(job, expected, kernel::clock::now()) }
}
