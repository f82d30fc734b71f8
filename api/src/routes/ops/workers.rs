//! `/api/v1/ops/workers`: the processes that run jobs; quieting, resuming and stopping one.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jobs::workers;
use queue::ops::{Asked, Asks, WorkerRecord};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::{ListParams, Listed, Listing};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::NoBody;
use crate::extract::path_id::PathId;
use crate::extract::person::{Operator, Viewer, door};
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::state::ApiState;

/// One start of a worker process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its incarnation: every start has its own.
    #[schema(example = "01937a82-7678-7292-8fe6-9a588556c3b4")]
    id: String,
    /// The machine's name.
    #[schema(example = "worker-1")]
    host: String,
    /// The process id on that machine.
    #[schema(example = 4711)]
    pid: i32,
    /// Its version.
    #[schema(example = "0.1.0")]
    version: String,
    /// The queues it works, with its slots for each; null: it does not say.
    queues: BTreeMap<String, Option<i32>>,
    /// Jobs that it runs, by queue.
    in_flight: BTreeMap<String, i64>,
    /// When it started.
    #[schema(format = DateTime)]
    started_at: String,
    /// How long ago its last sign of life was, in seconds.
    #[schema(example = 1.2)]
    heartbeat_age_s: f64,
    /// Whether it is ending.
    draining: bool,
    /// `quiet` (claims nothing more) or `stop` (drains and ends); null: nothing.
    asked: Option<&'static str>,
    /// By whom.
    asked_by: Option<String>,
}

impl Listed for WorkerView {
    const NAME: &'static str = "workers";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "host",
        "pid",
        "version",
        "queues",
        "inFlight",
        "startedAt",
        "heartbeatAgeS",
        "draining",
        "asked",
        "askedBy",
    ];
}

impl From<WorkerRecord> for WorkerView {
    fn from(worker: WorkerRecord) -> Self {
        Self {
            id: worker.id.to_string(),
            host: worker.host,
            pid: worker.pid,
            version: worker.version,
            queues: worker.queues,
            in_flight: worker.in_flight,
            started_at: instant(worker.started_at),
            heartbeat_age_s: worker.heartbeat_age.as_secs_f64(),
            draining: worker.draining,
            asked: worker.asked.as_ref().map(|asked| asked.what.as_str()),
            asked_by: worker.asked.map(|asked| asked.by),
        }
    }
}

/// List workers
#[utoipa::path(
    get, path = "/api/v1/ops/workers", tag = "Workers", operation_id = "listWorkers",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams),
    responses(
        (status = 200, description = "every worker process", content(
            (List<WorkerView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<WorkerView>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let workers = queue::ops::workers(&mut conn).await?;
    listing.answer(workers.into_iter().map(WorkerView::from).collect())
}

/// What is asked of a worker now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerAsked {
    /// Its incarnation.
    #[schema(example = "01937a82-7678-7292-8fe6-9a588556c3b4")]
    id: String,
    /// `quiet` or `stop`; null: nothing.
    asked: Option<&'static str>,
}

async fn ask(
    state: &ApiState,
    me: &identity::Session,
    id: Uuid,
    asks: Asks,
) -> Result<Json<Data<WorkerAsked>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let asked: Option<Asked> = workers::ask(&mut tx, &door(state, me), id, asks).await?;
    tx.commit().await?;
    Ok(Data::of(WorkerAsked { id: id.to_string(), asked: asked.map(|asked| asked.what.as_str()) }))
}

/// Quiet a worker
///
/// It claims nothing more, within a second, and goes on with what it runs.
#[utoipa::path(
    post, path = "/api/v1/ops/workers/{id}/quiet", tag = "Workers", operation_id = "quietWorker",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("id" = String, Path, description = "its incarnation, a UUID", example = "01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10")),
    responses(
        (status = 200, description = "it is asked", body = Data<WorkerAsked>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such process", body = ErrorBody),
        (status = 409, description = "it was told to stop", body = ErrorBody)))]
pub async fn quiet(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathId(id): PathId<Uuid>,
    NoBody: NoBody,
) -> Result<Json<Data<WorkerAsked>>, ApiError> {
    ask(&state, &me, id, Asks::Quiet).await
}

/// Resume a worker
///
/// One that was quieted claims again.
#[utoipa::path(
    post, path = "/api/v1/ops/workers/{id}/resume", tag = "Workers", operation_id = "resumeWorker",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("id" = String, Path, description = "its incarnation, a UUID", example = "01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10")),
    responses(
        (status = 200, description = "nothing is asked of it any more", body = Data<WorkerAsked>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such process", body = ErrorBody),
        (status = 409, description = "it was told to stop", body = ErrorBody)))]
pub async fn resume(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathId(id): PathId<Uuid>,
    NoBody: NoBody,
) -> Result<Json<Data<WorkerAsked>>, ApiError> {
    ask(&state, &me, id, Asks::Resume).await
}

/// Stop a worker
///
/// It drains and ends, as when it is terminated. Nothing takes that back.
#[utoipa::path(
    post, path = "/api/v1/ops/workers/{id}/stop", tag = "Workers", operation_id = "stopWorker",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("id" = String, Path, description = "its incarnation, a UUID", example = "01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10")),
    responses(
        (status = 200, description = "it is told", body = Data<WorkerAsked>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such process", body = ErrorBody)))]
pub async fn stop(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathId(id): PathId<Uuid>,
    NoBody: NoBody,
) -> Result<Json<Data<WorkerAsked>>, ApiError> {
    ask(&state, &me, id, Asks::Stop).await
}
