//! A route's time limit. What runs out is answered with 503 `OVERLOADED`: the handler is dropped where it stands,
//! and with it its transaction, so nothing half-done remains. (A body that arrives too slowly is told apart by its
//! reader, as 408.)

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::ApiError;

/// Answers within `limit`.
pub async fn limit_time(
    State(limit): State<Duration>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| {
        metrics::counter!("millpond_http_requests_timed_out_total").increment(1);
        ApiError::Overloaded
    })
}
