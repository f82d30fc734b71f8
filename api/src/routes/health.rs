//! Probes: is the process alive, can it serve, what has it counted. They need no credentials, take no place among
//! the requests in flight, and answer within two seconds.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::state::ApiState;

const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always true.
    success: bool,
    data: HealthData,
}

/// In which respect.
#[derive(Debug, Serialize, ToSchema)]
struct HealthData {
    /// `live` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

impl Health {
    fn is(status: &'static str) -> Json<Self> {
        Json(Self { success: true, data: HealthData { status } })
    }
}

/// Whether the process answers at all. Restart it when this fails.
#[utoipa::path(get, path = "/health/live", tag = "Health", operation_id = "isLive",
    responses((status = 200, description = "the process answers", body = Health)))]
pub async fn live() -> Json<Health> {
    Health::is("live")
}

/// Whether the process can serve: the database answers and has every migration of this build. Send no traffic when
/// this fails.
#[utoipa::path(get, path = "/health/ready", tag = "Health", operation_id = "isReady",
    responses(
        (status = 200, description = "requests can be served", body = Health),
        (status = 503, description = "the database cannot be reached or is not migrated, or the process is \
                                      about to stop", body = ErrorBody)))]
pub async fn ready(State(state): State<ApiState>) -> Result<Json<Health>, ApiError> {
    if state.stop().is_cancelled() {
        return Err(ApiError::NotReady("the process is about to stop"));
    }
    match tokio::time::timeout(READY_TIMEOUT, db::migrations_applied(state.pool())).await {
        Ok(Ok(true)) => Ok(Health::is("ready")),
        Ok(Ok(false)) => Err(ApiError::NotReady("the database lacks migrations of this build")),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            Err(ApiError::NotReady("the database cannot be used"))
        }
        Err(_) => Err(ApiError::NotReady("the database did not answer in time")),
    }
}

/// The process' metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "Health", operation_id = "metrics",
    responses((status = 200, description = "metrics", body = String, content_type = "text/plain")))]
pub async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.render_metrics())
}
