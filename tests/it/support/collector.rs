//! An OpenTelemetry collector as far as a test needs one: it takes spans as OTLP over HTTP and keeps them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A span as it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    pub trace: String,
    pub id: String,
    /// None: it is the first of its trace.
    pub parent: Option<String>,
    pub name: String,
    pub is_error: bool,
    pub began_ns: u64,
    pub ended_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// What is said of whoever sent it.
    pub resource: BTreeMap<String, String>,
}

/// A running collector; it stops when it is dropped.
pub struct Collector {
    url: String,
    received: Arc<Received>,
    _stop: DropGuard,
}

#[derive(Default)]
struct Received {
    spans: Mutex<Vec<ReceivedSpan>>,
    headers: Mutex<Vec<HeaderMap>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let received = Arc::<Received>::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(received.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let serving = axum::serve(listener, router);
            let _ = serving.with_graceful_shutdown(stopped.cancelled_owned()).await;
        });
        Self { url, received, _stop: stop.drop_guard() }
    }

    /// What a process needs to send all its traces here.
    pub fn variables(&self) -> [(&'static str, &str); 3] {
        [
            ("MILLPOND_TRACE__ENDPOINT", self.url.as_str()),
            ("MILLPOND_TRACE__HEADERS", "authorization=Bearer collectors-token"),
            ("MILLPOND_TRACE__SAMPLE_RATIO", "1"),
        ]
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.received.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The headers of every request so far.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.received.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(State(received): State<Arc<Received>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let spans = request.resource_spans.into_iter().flat_map(|group| {
        let resource = attributes(group.resource.map(|resource| resource.attributes).unwrap_or_default());
        let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| read(span, &resource)).collect::<Vec<_>>()
    });
    received.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
    received.headers.lock().unwrap_or_else(PoisonError::into_inner).push(headers);
    StatusCode::OK
}

fn read(span: Span, resource: &BTreeMap<String, String>) -> ReceivedSpan {
    ReceivedSpan {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: Some(hex(&span.parent_span_id)).filter(|parent| !parent.is_empty()),
        name: span.name,
        is_error: span.status.is_some_and(|status| status.code == SpanStatus::Error as i32),
        began_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        resource: resource.clone(),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, words(pair.value))).collect()
}

fn words(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
