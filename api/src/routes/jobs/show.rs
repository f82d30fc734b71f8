//! `GET /api/v1/jobs/{id}`: poll a job, or wait for its end.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use kernel::ids::JobId;

use super::{JobBody, RETRY_AFTER_S_MAX, job_body, own_job, retry_after_s, until_ended};
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, number_in};
use crate::extract::partner::Partner;
use crate::extract::path_id::PathId;
use crate::extract::prefer::WAIT_S_MAX;
use crate::extract::query::Query;
use crate::state::ApiState;

/// How to look.
#[derive(Debug)]
pub struct Look {
    wait: Option<Duration>,
}

impl FromFields for Look {
    fn read(fields: &mut Fields) -> Option<Self> {
        let wait = fields.optional("wait", |value| number_in(value, 0..=WAIT_S_MAX));
        Some(Self { wait: wait.filter(|wait| *wait > 0).map(|wait| Duration::from_secs(wait.into())) })
    }
}

/// Poll a job
///
/// With `wait=N` the answer comes when the job ends, or after N seconds with where it stands then. A held poll counts
/// once against the rate limit.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "Jobs", operation_id = "getJob",
    security(("partnerId" = [], "apiKey" = [])),
    params(
        ("id" = String, Path, description = "the job's id", example = "job_01jd8x4xkre9a8y9tbn2p5q3mw"),
        ("wait" = Option<u32>, Query, minimum = 0, maximum = 25,
            description = "seconds to wait for the job's end"),
    ),
    responses(
        (status = 200, description = "the job; that it failed is told in `data`", body = JobBody, headers(
            ("Retry-After" = u64, description = "while it has not ended: seconds after which to poll again"))),
        (status = 400, description = "the id or a parameter is not valid", body = ErrorBody),
        (status = 404, description = "no such job of this partner", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Partner(partner): Partner,
    PathId(id): PathId<JobId>,
    Query(look): Query<Look>,
) -> Result<Response, ApiError> {
    // The connection goes back before waiting: a thousand who wait must not hold twenty connections.
    let mut job = own_job(&mut state.pool().acquire().await?, partner.tenant, id).await?;
    if let Some(wait) = look.wait.filter(|_| !job.status.has_ended()) {
        until_ended(&state, partner.tenant, id, wait).await;
        job = own_job(&mut state.pool().acquire().await?, partner.tenant, id).await?;
    }
    let body = job_body(&state, job).await;
    let retry_after = body
        .data
        .finished_at
        .is_none()
        .then(|| body.data.estimated_time.unwrap_or(RETRY_AFTER_S_MAX))
        .map(|remaining| [(header::RETRY_AFTER, HeaderValue::from(retry_after_s(remaining)))]);
    let mut response = Json(body).into_response();
    response.headers_mut().extend(retry_after.into_iter().flatten());
    Ok(response)
}
