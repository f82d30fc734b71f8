//! `GET /api/v1/ops/jobs/count`: how many jobs match.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{JobFilter, JobFilterParams};
use crate::error::{ApiError, ErrorBody};
use crate::extract::person::Viewer;
use crate::extract::query::Query;
use crate::routes::body::Data;
use crate::state::ApiState;

/// How many jobs match.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountView {
    /// So many.
    #[schema(example = 12)]
    pub(in crate::routes::ops) count: u64,
    /// Beyond 10,000, or where counting would look at too much: not counted, but estimated.
    pub(in crate::routes::ops) is_estimated: bool,
}

/// Count jobs
///
/// Exactly up to 10,000, estimated beyond.
#[utoipa::path(
    get, path = "/api/v1/ops/jobs/count", tag = "Jobs for operators", operation_id = "countJobs",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(JobFilterParams),
    responses(
        (status = 200, description = "how many match", body = Data<CountView>),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn count(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    Query(filter): Query<JobFilter>,
) -> Result<Json<Data<CountView>>, ApiError> {
    let mut conn = crate::routes::ops::reading(&state).await?;
    let (search, _) = filter.resolve(&mut conn).await?;
    let count = queue::count(&mut conn, &search).await?;
    Ok(Data::of(CountView { count: count.count, is_estimated: count.is_estimated }))
}
