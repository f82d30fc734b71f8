//! Spans in OTLP's words (<https://opentelemetry.io/docs/specs/otlp/>): the messages are those of the specification, as
//! `opentelemetry-proto` generates them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use prost::Message;
use uuid::Uuid;

use crate::VERSION;
use crate::redaction::redact;
use crate::span::{End, Kind, Record, Value};

/// Longer texts are cut; each character may take four bytes.
const TEXT_CHARS_MAX: usize = 256;
/// The sampled flag of the W3C Trace Context recommendation, which is all that is sent.
const SAMPLED: u32 = 1;
/// What the error of a span is called that nobody ended: its request was given up, its attempt stopped.
const BROKEN_OFF: &str = "broken_off";

/// Who sends spans.
#[derive(Debug)]
pub(super) struct Origin {
    /// This start of this process.
    pub(super) instance: Uuid,
    resource: Resource,
    scope: InstrumentationScope,
}

impl Origin {
    pub(super) fn new(service_name: &str) -> Self {
        let instance = Uuid::new_v4();
        let attributes = vec![
            attribute("service.name", Wire::StringValue(service_name.to_owned())),
            attribute("service.version", Wire::StringValue(VERSION.to_owned())),
            attribute("service.instance.id", Wire::StringValue(instance.to_string())),
        ];
        Self {
            instance,
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope {
                name: "millpond".to_owned(),
                version: VERSION.to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// The body of a request for the collector.
    pub(super) fn encode(&self, spans: impl Iterator<Item = Record>) -> Vec<u8> {
        let spans = ScopeSpans {
            scope: Some(self.scope.clone()),
            spans: spans.map(span).collect(),
            ..ScopeSpans::default()
        };
        let spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![spans],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
    }
}

fn span(record: Record) -> Span {
    let began_ns = record.began_at.timestamp_nanos_opt().and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
    let took_ns = u64::try_from(record.took.as_nanos()).unwrap_or(u64::MAX);
    let error = match record.end {
        End::Well => None,
        End::Failed(error) => Some(error),
        End::Open => Some(BROKEN_OFF.into()),
    };
    let mut attributes: Vec<_> =
        record.attributes.into_iter().map(|(key, value)| attribute(key, wire(value))).collect();
    let code = if error.is_some() { StatusCode::Error } else { StatusCode::Unset };
    attributes.extend(error.map(|error| attribute("error.type", Wire::StringValue(text(&error)))));
    Span {
        trace_id: record.trace.trace_bytes().to_vec(),
        span_id: record.trace.span_bytes().to_vec(),
        parent_span_id: record.parent.map(|parent| parent.span_bytes().to_vec()).unwrap_or_default(),
        // A server's parent is elsewhere, and so is that of work that was stored: another process may have done that.
        flags: SAMPLED
            | SpanFlags::ContextHasIsRemoteMask as u32
            | match record.kind {
                Kind::Server | Kind::Consumer => SpanFlags::ContextIsRemoteMask as u32,
                Kind::Client | Kind::Producer => 0,
            },
        name: text(&record.name),
        kind: match record.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        }
        .into(),
        start_time_unix_nano: began_ns,
        end_time_unix_nano: began_ns.saturating_add(took_ns),
        attributes,
        status: Some(Status { code: code.into(), message: String::new() }),
        ..Span::default()
    }
}

fn wire(value: Value) -> Wire {
    match value {
        Value::Text(words) => Wire::StringValue(text(&words)),
        Value::Whole(number) => Wire::IntValue(number),
    }
}

/// Words as they may leave the house.
fn text(words: &str) -> String {
    redact(words).chars().take(TEXT_CHARS_MAX).collect()
}

fn attribute(key: &str, value: Wire) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
