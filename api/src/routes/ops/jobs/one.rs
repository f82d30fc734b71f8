//! `POST /api/v1/ops/jobs/{id}/retry` and `/cancel`: another life for one job, or none.

use axum::Json;
use axum::extract::State;
use jobs::job;
use kernel::ids::{JobId, TenantId};
use queue::Cancelled;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::extract::body::NoBody;
use crate::extract::path_id::PathId;
use crate::extract::person::{Operator, door};
use crate::routes::body::Data;
use crate::routes::ops::owners::Owners;
use crate::state::ApiState;

/// What became of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSteered {
    /// The job.
    #[schema(example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: String,
    /// `ready`, `cancelled`, or `cancelling` (its worker is told).
    #[schema(example = "ready")]
    state: &'static str,
}

/// Who owns a job.
async fn owner(conn: &mut db::Connection, id: JobId) -> Result<TenantId, ApiError> {
    let owners = Owners::load(conn).await?;
    let job = queue::find(conn, &owners.ids(), id).await?;
    job.map(|job| job.tenant).ok_or(ApiError::NotFound("job"))
}

/// Try a job again
///
/// One that failed or was cancelled, with all its attempts anew; its history of errors stays.
#[utoipa::path(
    post, path = "/api/v1/ops/jobs/{id}/retry", tag = "Jobs for operators", operation_id = "retryJob",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("id" = String, Path, description = "the job's id", example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "it is ready", body = Data<JobSteered>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such job", body = ErrorBody),
        (status = 409, description = "it neither failed nor was cancelled, or another does its work", body = ErrorBody)))]
pub async fn retry(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathId(id): PathId<JobId>,
    NoBody: NoBody,
) -> Result<Json<Data<JobSteered>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let owner = owner(&mut tx, id).await?;
    let queue = job::retry(&mut tx, &door(&state, &me), owner, id).await?;
    tx.commit().await?;
    state.waker().wake_all(queue);
    Ok(Data::of(JobSteered { job_id: id.to_string(), state: "ready" }))
}

/// Call a job off
///
/// One that runs is told to stop, and ends within a heartbeat.
#[utoipa::path(
    post, path = "/api/v1/ops/jobs/{id}/cancel", tag = "Jobs for operators", operation_id = "callJobOff",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("id" = String, Path, description = "the job's id", example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "it is cancelled, or its worker is told", body = Data<JobSteered>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such job", body = ErrorBody),
        (status = 409, description = "it has ended otherwise", body = ErrorBody)))]
pub async fn cancel(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathId(id): PathId<JobId>,
    NoBody: NoBody,
) -> Result<Json<Data<JobSteered>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let owner = owner(&mut tx, id).await?;
    let cancelled = job::cancel(&mut tx, &door(&state, &me), owner, id).await?;
    tx.commit().await?;
    let reached = match cancelled.outcome {
        Cancelled::Now { released } => {
            state.waker().wake_all(released);
            state.waker().job_ended();
            "cancelled"
        }
        Cancelled::Asked => {
            state.waker().cancel();
            "cancelling"
        }
        Cancelled::NotLive => "cancelled",
    };
    Ok(Data::of(JobSteered { job_id: id.to_string(), state: reached }))
}
