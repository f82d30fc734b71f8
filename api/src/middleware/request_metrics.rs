//! `millpond_http_requests_total` and `millpond_http_request_duration_seconds` by matched route, method and status.
//!
//! Labels come from the routing table and a fixed list, never from the client: a scanner must not be able to make
//! a million time series. The time that a client asked us to wait for a result is not counted.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;

use super::context::RequestContext;

/// Counts and times one request.
pub async fn measure_request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = method_label(request.method());
    let started = Instant::now();
    let response = next.run(request).await;
    let waited = RequestContext::current().map_or(Duration::ZERO, |context| context.waited());
    let status = response.status().as_u16().to_string();
    metrics::counter!("millpond_http_requests_total", "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    metrics::histogram!("millpond_http_request_duration_seconds", "route" => route, "method" => method)
        .record(started.elapsed().saturating_sub(waited));
    response
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}
