//! `GET /api/v1/ops/jobs/{id}`: everything that is known of one job.

use axum::Json;
use axum::extract::State;
use kernel::ids::JobId;
use queue::ops::{Awaited, Event, EventKind, JobDetail, detail};
use queue::{BatchRecord, Explanation};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use webhooks::{Delivery, RecordedAttempt, list_attempts, list_of_job};

use super::OpsJob;
use crate::error::{ApiError, ErrorBody};
use crate::extract::path_id::PathId;
use crate::extract::person::Viewer;
use crate::routes::body::Data;
use crate::routes::instant;
use crate::routes::ops::owners::Owners;
use crate::state::ApiState;

/// Everything that is known of one job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobDetailView {
    /// Its id.
    #[schema(example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: String,
    /// Who owns it: a partner's code, or `system`.
    #[schema(example = "techcombank")]
    owner: String,
    /// Whose share of the workers it uses.
    #[schema(example = "techcombank")]
    share: String,
    /// Its kind.
    #[schema(example = "profiles.enrich")]
    kind: String,
    /// Its queue.
    #[schema(example = "enrich")]
    queue: String,
    /// Where it stands.
    #[schema(example = "ready")]
    state: &'static str,
    /// As its owner sees it.
    #[schema(example = "queued")]
    status: &'static str,
    /// Its arguments; those that are kept from sight are blotted out.
    args: Value,
    /// What it gave, when completed.
    result: Option<Value>,
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
    /// Its unique key.
    unique_key: Option<String>,
    /// The request that asked for it.
    request_id: Option<String>,
    /// The trace that it is in.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    /// Whether somebody cancelled it and its worker is told.
    cancel_requested: bool,
    /// When it fails instead of running (again), while it is live.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// How far it is, while it is live and says so.
    progress: Option<DetailProgress>,
    /// Who runs it.
    worker: Option<String>,
    /// Why it failed or was cancelled.
    error: Option<DetailError>,
    /// Every attempt that failed, the oldest first.
    attempt_errors: Vec<AttemptErrorView>,
    /// What happened to it, the oldest first.
    timeline: Vec<EventView>,
    /// Why it does not run, the first reason first, while it is live.
    blockers: Vec<BlockerView>,
    /// When it ends, while it is live and somebody can tell.
    eta: Option<DetailEta>,
    /// What it waits for, what waits for it, and what else its request asked for.
    lineage: Lineage,
    /// Callbacks that tell of it.
    deliveries: Vec<DeliveryView>,
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetailProgress {
    #[schema(example = 40)]
    done: u64,
    total: Option<u64>,
    note: Option<String>,
}

/// Why a job failed or was cancelled.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetailError {
    #[schema(example = "VENDOR_UNAVAILABLE")]
    code: String,
    #[schema(example = "the profile service did not answer")]
    message: String,
}

/// A failed attempt with its causes.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptErrorView {
    /// Its number, where one is known.
    attempt: Option<i16>,
    /// When it failed.
    #[schema(format = DateTime)]
    at: String,
    /// The process that ran it.
    worker: Option<String>,
    /// For programs.
    #[schema(example = "VENDOR_UNAVAILABLE")]
    code: String,
    /// For people.
    #[schema(example = "the profile service did not answer")]
    message: String,
    /// The causes, outermost first.
    #[schema(example = json!(["the vendor answered 503"]))]
    chain: Vec<String>,
}

/// Something that happened to a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// `stored`, `started`, `failed`, `taken_back`, `claimed` or `ended`.
    #[schema(example = "claimed")]
    what: &'static str,
    /// The attempt it concerns.
    attempt: Option<i16>,
    /// The process it concerns.
    worker: Option<String>,
    /// What was said.
    message: Option<String>,
}

/// A reason why a job does not run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockerView {
    /// For programs.
    #[schema(example = "limit")]
    because: String,
    /// For people.
    #[schema(example = "the limit meter.calls is used up until 09:31:00")]
    message: String,
    /// When it clears, where somebody can tell.
    #[schema(format = DateTime)]
    clears_at: Option<String>,
    /// Whether that is an estimate.
    is_estimated: bool,
}

/// When a job ends.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetailEta {
    /// Hardly before.
    #[schema(format = DateTime)]
    earliest: String,
    /// Most likely.
    #[schema(format = DateTime)]
    likely: String,
    /// Hardly after.
    #[schema(format = DateTime)]
    latest: String,
}

/// A job among others.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// The job that it waits for.
    waits_for_job: Option<OpsJob>,
    /// Whether it shares that one's end instead of running after it.
    shares_end: bool,
    /// The batch that it waits for.
    waits_for_batch: Option<BatchView>,
    /// Jobs that wait for its end, some fifty at the most.
    waiters: Vec<OpsJob>,
    /// The batch that it is a child of.
    batch: Option<BatchView>,
    /// Other jobs of its request, some fifty at the most.
    of_request: Vec<OpsJob>,
}

/// A batch and how far it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchView {
    #[schema(example = "bat_01jd8x4xkre9a8y9tbn2p5q3mw")]
    batch_id: String,
    #[schema(example = 500)]
    total: i32,
    #[schema(example = 480)]
    completed: i32,
    #[schema(example = 12)]
    failed: i32,
    #[schema(example = 0)]
    cancelled: i32,
    #[schema(example = 8)]
    pending: i32,
    cancelled_by: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    finished_at: Option<String>,
}

impl From<BatchRecord> for BatchView {
    fn from(batch: BatchRecord) -> Self {
        Self {
            batch_id: batch.id.to_string(),
            total: batch.total,
            completed: batch.completed,
            failed: batch.failed,
            cancelled: batch.cancelled,
            pending: batch.pending,
            cancelled_by: batch.cancelled_by,
            created_at: instant(batch.created_at),
            finished_at: batch.finished_at.map(instant),
        }
    }
}

/// A callback and its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// Its id, which the receiver sees as `webhook-id`.
    #[schema(example = "dlv_01jd8x4xkre9a8y9tbn2p5q3mw")]
    delivery_id: String,
    /// Where it goes.
    #[schema(example = "https://partner.example.com/callback")]
    url: String,
    /// `pending`, `delivered` or `failed`.
    #[schema(example = "delivered")]
    status: &'static str,
    /// When it was asked for.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Every attempt, the oldest first.
    attempts: Vec<DeliveryAttemptView>,
}

/// An attempt at a callback.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryAttemptView {
    #[schema(example = 1)]
    number: i32,
    #[schema(format = DateTime)]
    sent_at: String,
    #[schema(example = 84)]
    duration_ms: i32,
    response_status: Option<i16>,
    error: Option<String>,
}

impl From<RecordedAttempt> for DeliveryAttemptView {
    fn from(attempt: RecordedAttempt) -> Self {
        Self {
            number: attempt.number,
            sent_at: instant(attempt.sent_at),
            duration_ms: attempt.duration_ms,
            response_status: attempt.response_status,
            error: attempt.error,
        }
    }
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let (at, word) = (instant(event.at), event.what.as_str());
        let (attempt, worker, message) = match event.what {
            EventKind::Stored | EventKind::Started => (None, None, None),
            EventKind::Failed { attempt, worker, code, message } => {
                (attempt, worker, Some(format!("{code}: {message}")))
            }
            EventKind::TakenBack { attempt, worker, message } => (attempt, worker, Some(message)),
            EventKind::Claimed { attempt, worker } => (Some(attempt), Some(worker), None),
            EventKind::Ended { state } => (None, None, Some(state.to_string())),
        };
        Self { at, what: word, attempt, worker: worker.map(|worker| worker.to_string()), message }
    }
}

impl JobDetailView {
    fn of(
        job: JobDetail,
        explanation: Option<Explanation>,
        deliveries: Vec<DeliveryView>,
        owners: &Owners,
    ) -> Self {
        let explanation = explanation.filter(|_| !job.state.has_ended());
        let eta = explanation.as_ref().and_then(|explanation| explanation.eta);
        let lineage = lineage(&job, owners);
        let record = job.record;
        Self {
            job_id: record.id.to_string(),
            owner: owners.name(record.tenant),
            share: owners.name(job.share),
            trace_id: record.trace().trace_id().to_string(),
            status: record.status.as_str(),
            kind: record.kind,
            queue: record.queue,
            state: job.state.as_str(),
            args: record.args,
            result: record.result,
            attempts: record.attempts,
            attempts_max: record.attempts_max,
            taken_back: record.taken_back,
            priority: job.priority,
            key: job.key,
            unique_key: job.unique_key,
            request_id: record.request_id,
            cancel_requested: job.cancel_requested,
            deadline_at: job.deadline_at.map(instant),
            progress: record.progress.map(|progress| DetailProgress {
                done: progress.done,
                total: progress.total,
                note: progress.note,
            }),
            worker: job.holder.map(|holder| holder.process.to_string()),
            error: record.failure.map(|failure| DetailError {
                code: failure.code.to_string(),
                message: failure.message.to_string(),
            }),
            attempt_errors: record.errors.into_iter().map(AttemptErrorView::from).collect(),
            timeline: job.timeline.into_iter().map(EventView::from).collect(),
            blockers: explanation.into_iter().flat_map(|one| one.blockers).map(BlockerView::from).collect(),
            eta: eta.map(|eta| DetailEta {
                earliest: instant(eta.earliest),
                likely: instant(eta.likely),
                latest: instant(eta.latest),
            }),
            lineage,
            deliveries,
        }
    }
}

impl From<queue::AttemptError> for AttemptErrorView {
    fn from(error: queue::AttemptError) -> Self {
        Self {
            attempt: error.attempt,
            at: instant(error.at),
            worker: error.worker.map(|worker| worker.to_string()),
            code: error.code,
            message: error.message,
            chain: error.chain,
        }
    }
}

impl From<queue::Blocker> for BlockerView {
    fn from(blocker: queue::Blocker) -> Self {
        Self {
            because: blocker.because.code().to_owned(),
            message: blocker.because.to_string(),
            clears_at: blocker.clears_at.map(instant),
            is_estimated: blocker.is_estimated,
        }
    }
}

fn lineage(job: &JobDetail, owners: &Owners) -> Lineage {
    let views = |jobs: &[queue::FoundJob]| jobs.iter().cloned().map(|job| OpsJob::of(job, owners)).collect();
    let (waits_for_job, shares_end, waits_for_batch) = match &job.waits_for {
        Some(Awaited::Job { job, shares_end }) => {
            (Some(OpsJob::of((**job).clone(), owners)), *shares_end, None)
        }
        Some(Awaited::Batch(batch)) => (None, false, Some((**batch).clone().into())),
        None => (None, false, None),
    };
    Lineage {
        waits_for_job,
        shares_end,
        waits_for_batch,
        waiters: views(&job.waiters),
        batch: job.batch.clone().map(BatchView::from),
        of_request: views(&job.of_request),
    }
}

/// Show a job
#[utoipa::path(
    get, path = "/api/v1/ops/jobs/{id}", tag = "Jobs for operators", operation_id = "showJob",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(("id" = String, Path, description = "the job's id", example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "everything that is known of it", body = Data<JobDetailView>),
        (status = 400, description = "the id is not valid", body = ErrorBody),
        (status = 404, description = "no such job", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    PathId(id): PathId<JobId>,
) -> Result<Json<Data<JobDetailView>>, ApiError> {
    let mut conn = crate::routes::ops::reading(&state).await?;
    let owners = Owners::load(&mut conn).await?;
    let job = detail(&mut conn, &owners.ids(), id).await?.ok_or(ApiError::NotFound("job"))?;
    let mut deliveries = Vec::new();
    for delivery in list_of_job(&mut conn, job.record.tenant, id).await? {
        let attempts = list_attempts(&mut conn, job.record.tenant, delivery.id).await?;
        deliveries.push(delivery_view(delivery, attempts));
    }
    drop(conn);
    let explanation = match job.state.has_ended() {
        true => None,
        false => state.estimator().explain(job.record.tenant, id).await?,
    };
    Ok(Data::of(JobDetailView::of(job, explanation, deliveries, &owners)))
}

fn delivery_view(delivery: Delivery, attempts: Vec<RecordedAttempt>) -> DeliveryView {
    DeliveryView {
        delivery_id: delivery.id.to_string(),
        url: delivery.url,
        status: delivery.status.as_str(),
        created_at: instant(delivery.created_at),
        ended_at: delivery.ended_at.map(instant),
        attempts: attempts.into_iter().map(DeliveryAttemptView::from).collect(),
    }
}
