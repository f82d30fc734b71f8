//! `/api/v1/ops/queues`: what stands in them; pause, resume, drain, and how much of them each process works at once.
//! Workers see a change within a second.

use std::num::NonZeroU16;

use axum::extract::{FromRequestParts, Path, State};
use axum::response::Response;
use axum::{Json, RequestPartsExt};
use db::Connection;
use http::request::Parts;
use jobs::queues;
use queue::{Queue, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use super::overview::QueueGlance;
use super::owners::name;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem};
use crate::extract::person::{Operator, Viewer, door};
use crate::routes::body::{Data, List};
use crate::state::ApiState;

impl Listed for QueueGlance {
    const NAME: &'static str = "queues";
    const ID: &'static str = "name";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "ready",
        "scheduled",
        "running",
        "oldestReadyS",
        "pausedBy",
        "pausedAt",
        "pausedKinds",
        "processes",
        "slots",
        "concurrencyMax",
        "perSecond",
        "failedShare",
    ];
}

/// The queue in the path.
pub struct QueueName(Queue);

impl<S: Send + Sync> FromRequestParts<S> for QueueName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Path(text) = parts.extract::<Path<String>>().await.map_err(|_| ApiError::NotFound("queue"))?;
        text.parse().map(Self).map_err(|_| ApiError::NotFound("queue"))
    }
}

/// List queues
#[utoipa::path(
    get, path = "/api/v1/ops/queues", tag = "Queues", operation_id = "listQueues",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams),
    responses(
        (status = 200, description = "every queue", content(
            (List<QueueGlance> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<QueueGlance>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let overview = queue::ops::overview(&mut conn, state.lease()).await?;
    listing.answer(overview.queues.into_iter().map(QueueGlance::from).collect())
}

/// All of a queue, or one kind of its jobs.
#[derive(Debug, ToSchema)]
#[schema(as = QueueScope, rename_all = "camelCase", example = json!({"kind": "profiles.fetch"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct QueueScopeSchema {
    /// Only jobs of this kind.
    #[schema(
        required = false,
        nullable = false,
        example = "profiles.fetch",
        min_length = 1,
        max_length = 200
    )]
    kind: String,
}

struct Kind(Option<String>);

impl FromFields for Kind {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self(fields.optional("kind", name)))
    }
}

/// Where a queue, or a kind of it, stands after a change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueState {
    /// The queue.
    #[schema(example = "enrich")]
    queue: String,
    /// The kind, unless it is about all of it.
    kind: Option<String>,
    /// Whether its jobs are claimed no more.
    is_paused: bool,
    /// Jobs of it that still run; a pause with none is drained.
    #[schema(example = 6)]
    running: i64,
}

impl QueueState {
    /// As it is in the transaction that changed it: nothing can fail between its commit and the answer.
    async fn read(conn: &mut Connection, scope: Scope) -> Result<Self, ApiError> {
        let running = queue::running(&mut *conn, &scope).await?;
        let is_paused = queue::pauses(conn).await?.into_iter().any(|pause| {
            pause.queue == scope.queue.as_str() && (pause.kind.is_none() || pause.kind == scope.kind)
        });
        Ok(Self { queue: scope.queue.to_string(), kind: scope.kind, is_paused, running })
    }
}

/// Pause a queue
///
/// No more of its jobs are started; those that run go on. To drain it, pause it and ask until `running` is 0: pausing
/// what is paused changes nothing.
#[utoipa::path(
    post, path = "/api/v1/ops/queues/{queue}/pause", tag = "Queues", operation_id = "pauseQueue",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("queue" = String, Path, description = "the queue", example = "enrich")),
    request_body = QueueScopeSchema,
    responses(
        (status = 200, description = "paused", body = Data<QueueState>),
        (status = 400, description = "the body is not valid, or the queue has no such kind", body = ErrorBody),
        (status = 404, description = "no such queue", body = ErrorBody)))]
pub async fn pause(
    State(state): State<ApiState>,
    Operator(me): Operator,
    QueueName(queue): QueueName,
    body: JsonBody,
) -> Result<Json<Data<QueueState>>, ApiError> {
    let Kind(kind) = body.fields.finish(Kind::read)?;
    let scope = Scope { queue, kind };
    let mut tx = db::begin(state.pool()).await?;
    queues::pause(&mut tx, &door(&state, &me), &scope).await?;
    let view = QueueState::read(&mut tx, scope).await?;
    tx.commit().await?;
    Ok(Data::of(view))
}

/// Resume a queue
#[utoipa::path(
    post, path = "/api/v1/ops/queues/{queue}/resume", tag = "Queues", operation_id = "resumeQueue",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("queue" = String, Path, description = "the queue", example = "enrich")),
    request_body = QueueScopeSchema,
    responses(
        (status = 200, description = "its jobs are started again, unless all of its queue is paused", body = Data<QueueState>),
        (status = 400, description = "the body is not valid", body = ErrorBody),
        (status = 404, description = "no such queue", body = ErrorBody),
        (status = 409, description = "it is not paused", body = ErrorBody)))]
pub async fn resume(
    State(state): State<ApiState>,
    Operator(me): Operator,
    QueueName(queue): QueueName,
    body: JsonBody,
) -> Result<Json<Data<QueueState>>, ApiError> {
    let Kind(kind) = body.fields.finish(Kind::read)?;
    let scope = Scope { queue, kind };
    let mut tx = db::begin(state.pool()).await?;
    queues::resume(&mut tx, &door(&state, &me), &scope).await?;
    let view = QueueState::read(&mut tx, scope).await?;
    tx.commit().await?;
    state.waker().wake(queue);
    Ok(Data::of(view))
}

/// How many jobs of a queue each process runs at once.
#[derive(Debug, ToSchema)]
#[schema(as = QueueConcurrency, rename_all = "camelCase", example = json!({"max": 16}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct QueueConcurrencySchema {
    /// So many at the most, and never more than the process has slots; null: as many as it has slots. To stop a queue,
    /// pause it.
    #[schema(minimum = 1, maximum = 65_535, required = true)]
    max: Option<u16>,
}

struct Concurrency(Option<NonZeroU16>);

impl FromFields for Concurrency {
    fn read(fields: &mut Fields) -> Option<Self> {
        let max = fields.required("max", |value| match value {
            serde_json::Value::Null => Ok(None),
            value => {
                whole(value, 1, u16::MAX.into()).map(|max| u16::try_from(max).ok().and_then(NonZeroU16::new))
            }
        });
        Some(Self(max?))
    }
}

/// A whole number of a body.
pub(super) fn whole(value: &serde_json::Value, min: i64, max: i64) -> Result<i64, Problem> {
    value
        .as_i64()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Problem::invalid(format!("must be a whole number from {min} to {max}")))
}

/// What a queue's bound is after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConcurrencyView {
    /// The queue.
    #[schema(example = "enrich")]
    queue: String,
    /// How many of its jobs each process runs at once at the most; null: as many as it has slots.
    max: Option<u16>,
}

/// Bound a queue
///
/// How many jobs of the queue each worker process runs at once; jobs that run are not stopped.
#[utoipa::path(
    put, path = "/api/v1/ops/queues/{queue}/concurrency", tag = "Queues", operation_id = "setQueueConcurrency",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("queue" = String, Path, description = "the queue", example = "enrich")),
    request_body = QueueConcurrencySchema,
    responses(
        (status = 200, description = "the bound", body = Data<ConcurrencyView>),
        (status = 400, description = "the body is not valid", body = ErrorBody),
        (status = 404, description = "no such queue", body = ErrorBody)))]
pub async fn set_concurrency(
    State(state): State<ApiState>,
    Operator(me): Operator,
    QueueName(queue): QueueName,
    body: JsonBody,
) -> Result<Json<Data<ConcurrencyView>>, ApiError> {
    let Concurrency(max) = body.fields.finish(Concurrency::read)?;
    let mut tx = db::begin(state.pool()).await?;
    queues::set_concurrency(&mut tx, &door(&state, &me), queue, max).await?;
    tx.commit().await?;
    Ok(Data::of(ConcurrencyView { queue: queue.to_string(), max: max.map(NonZeroU16::get) }))
}
