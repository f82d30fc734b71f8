//! `POST /api/v1/jobs/{id}/cancel`: call a job off.
//!
//! A job without a worker is cancelled in this transaction; a running one is told to stop and ends within a
//! heartbeat. Cancelling a cancelled job again is the same answer, so a repeat after a lost answer is safe.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use kernel::ids::JobId;
use queue::Cancelled;

use super::{JobBody, job_body, own_job};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::NoBody;
use crate::extract::partner::{Partner, door};
use crate::extract::path_id::PathId;
use crate::state::ApiState;

/// Cancel a job
///
/// The callback, if one was asked for, is told of the cancellation like of any other end.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "Jobs", operation_id = "cancelJob",
    security(("partnerId" = [], "apiKey" = [])),
    params(("id" = String, Path, description = "the job's id", example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "the job is cancelled", body = JobBody),
        (status = 202, description = "the job runs and is told to stop; poll it", body = JobBody),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such job of this partner", body = ErrorBody),
        (status = 409, description = "the job has ended otherwise", body = ErrorBody)))]
pub async fn cancel(
    State(state): State<ApiState>,
    Partner(partner): Partner,
    PathId(id): PathId<JobId>,
    NoBody: NoBody,
) -> Result<(StatusCode, Json<JobBody>), ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    own_job(&mut tx, partner.tenant, id).await?;
    let cancelled = jobs::job::cancel(&mut tx, &door(&state, &partner), partner.tenant, id).await?;
    tx.commit().await?;

    let status = match cancelled.outcome {
        Cancelled::Now { released } => {
            state.waker().wake_all(released);
            state.waker().job_ended();
            StatusCode::OK
        }
        Cancelled::Asked => {
            state.waker().cancel();
            StatusCode::ACCEPTED
        }
        Cancelled::NotLive => StatusCode::OK,
    };
    Ok((status, Json(job_body(&state, cancelled.job).await)))
}
