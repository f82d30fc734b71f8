//! One line a request, when it has been answered, with what is needed to find and judge it, and its span where traces
//! are recorded. Never a body, a query string or a credential.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use kernel::trace::TraceParent;
use telemetry::span::{self, Kind};
use tracing::Instrument;

use super::context::RequestContext;

/// Opens the request's span, so that everything logged below names the request, and logs its end.
pub async fn log_request(request: Request, next: Next) -> Response {
    let context = RequestContext::current();
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let trace = context.as_ref().map(RequestContext::trace);
    let span = tracing::info_span!(
        "request",
        request.id = RequestContext::current_id(),
        trace.id = trace.map(TraceParent::trace_id),
        trace.span = trace.map(TraceParent::span_id),
        partner.id = tracing::field::Empty,
        user.id = tracing::field::Empty,
        http.method = %request.method(),
        http.path = request.uri().path(),
    );
    let quiet = is_probe(&route);
    let mut recorded = recorded(context.as_ref().filter(|_| !quiet), &route, &request);
    let started = Instant::now();
    let answer = async {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        tell_answer(&mut recorded, context.as_ref(), status);
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

/// The request's span for the collector.
fn recorded(context: Option<&RequestContext>, route: &str, request: &Request) -> span::Span {
    let Some(context) = context else { return span::Span::default() };
    let mut recorded = span::start(Kind::Server, context.trace(), context.parent(), "HTTP");
    recorded.note(|record| {
        let method = request.method().to_string();
        let route = if route.is_empty() { "unmatched" } else { route }.to_owned();
        record
            .name(format!("{method} {route}"))
            .set("http.request.method", span::text(method))
            .set("http.route", span::text(route))
            .set("url.path", span::text(request.uri().path().to_owned()))
            .set("request.id", span::text(context.id().to_owned()));
    });
    recorded
}

/// An answer that is our fault is an error; one that is the caller's is not.
fn tell_answer(recorded: &mut span::Span, context: Option<&RequestContext>, status: u16) {
    recorded.note(|record| {
        let partner = context.and_then(RequestContext::partner);
        record
            .set("http.response.status_code", span::whole(status))
            .set("partner.id", partner.map(|partner| span::text(partner.to_string())));
    });
    match status {
        500.. => recorded.fail(status.to_string()),
        _ => recorded.succeed(),
    }
}

/// Probes come every few seconds and would drown the rest.
fn is_probe(route: &str) -> bool {
    route.starts_with("/health/") || route == "/metrics"
}
