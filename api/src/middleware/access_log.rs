//! One line a request, when it has been answered, with what is needed to find and judge it. Never a body, a query
//! string or a credential.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use kernel::trace::TraceParent;
use tracing::Instrument;

use super::context::RequestContext;

/// Opens the request's span, so that everything logged below names the request, and logs its end.
pub async fn log_request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let trace = RequestContext::current().map(|context| context.trace());
    let span = tracing::info_span!(
        "request",
        request.id = RequestContext::current_id(),
        trace.id = trace.map(TraceParent::trace_id),
        trace.span = trace.map(TraceParent::span_id),
        partner.id = tracing::field::Empty,
        http.method = %request.method(),
        http.path = request.uri().path(),
    );
    let quiet = is_probe(&route);
    let started = Instant::now();
    let answer = async {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        let duration_ms = started.elapsed().as_secs_f64() * 1_000.0;
        if quiet {
            tracing::debug!(http.route = route, http.status = status, duration_ms, "answered");
        } else {
            tracing::info!(http.route = route, http.status = status, duration_ms, "answered");
        }
        response
    };
    answer.instrument(span).await
}

/// Probes come every few seconds and would drown the rest.
fn is_probe(route: &str) -> bool {
    route.starts_with("/health/") || route == "/metrics"
}
