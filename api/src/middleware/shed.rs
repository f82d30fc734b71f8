//! Sheds load: above so many requests in flight, further ones are refused at once with 503 `OVERLOADED` instead of
//! queueing for database connections until everybody times out.
//!
//! A request that only waits (`wait`) gives its place back while it waits: it costs memory, not a connection.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::context::RequestContext;
use crate::error::ApiError;

/// Lets the request through if a place is free.
pub async fn shed_load(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Ok(permit) = places.try_acquire_owned() else {
        metrics::counter!("millpond_http_requests_shed_total").increment(1);
        return Err(ApiError::Overloaded);
    };
    let context = RequestContext::current();
    match &context {
        Some(context) => context.hold_place(permit),
        None => drop(permit),
    }
    let response = next.run(request).await;
    if let Some(context) = context {
        context.release_place();
    }
    Ok(response)
}
