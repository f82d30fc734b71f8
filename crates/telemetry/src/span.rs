//! Spans for a collector of traces, under the ids that the work carries anyway: those of log lines, of `traceparent`
//! headers and of stored jobs.
//!
//! Guarantees: a span of a trace that is not recorded, or in a process that sends none, costs a look at two flags and
//! holds nothing; what [`Span::note`] is given is not run for it. Ending a span never waits: what cannot be kept is dropped and
//! counted. What is said of a span is made fit for others before it leaves (see [`crate::redaction`]) and cut to a length.
//!
//! Names and attributes are OpenTelemetry's where it has them. Never a body, a query string or a credential.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use kernel::trace::TraceParent;

use crate::traces;

/// What part a span has in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Stores work for others.
    Producer,
    /// Does work that was stored.
    Consumer,
}

/// One thing said of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(Cow<'static, str>),
    /// A number.
    Whole(i64),
}

/// What is known of a span.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "otlp"),
    expect(dead_code, reason = "read by the exporter, which this build leaves out")
)]
pub struct Record {
    pub(crate) kind: Kind,
    pub(crate) name: Cow<'static, str>,
    pub(crate) trace: TraceParent,
    pub(crate) parent: Option<TraceParent>,
    pub(crate) began_at: DateTime<Utc>,
    pub(crate) took: Duration,
    began: Instant,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) end: End,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Nobody said: it was broken off.
    Open,
    Well,
    /// In this kind of error.
    Failed(Cow<'static, str>),
}

/// A span under way, if its trace is recorded. It ends when it is dropped; without [`succeed`](Self::succeed) or
/// [`fail`](Self::fail) before, it counts as broken off.
#[derive(Debug, Default)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Box<Record>>);

/// Begins the span that `trace` names, under `parent`.
pub fn start(kind: Kind, trace: TraceParent, parent: Option<TraceParent>, name: &'static str) -> Span {
    if !trace.is_sampled() || !traces::are_wanted() {
        return Span(None);
    }
    let mut record = record(kind, trace, name);
    record.parent = parent;
    Span(Some(Box::new(record)))
}

/// What is known of a span at its beginning.
pub(crate) fn record(kind: Kind, trace: TraceParent, name: &'static str) -> Record {
    Record {
        kind,
        name: Cow::Borrowed(name),
        trace,
        parent: None,
        began_at: kernel::clock::now(),
        began: Instant::now(),
        took: Duration::ZERO,
        attributes: Vec::new(),
        end: End::Open,
    }
}

impl Span {
    /// Says something of the span, if it is recorded.
    pub fn note(&mut self, say: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.0 {
            say(record);
        }
    }

    /// It went well, so far.
    pub fn succeed(&mut self) {
        self.note(|record| record.end = End::Well);
    }

    /// It failed, with this word for the kind of failure.
    pub fn fail(&mut self, error_type: impl Into<Cow<'static, str>>) {
        self.note(|record| record.end = End::Failed(error_type.into()));
    }
}

impl Record {
    /// Names the span; few names in all, so that spans can be counted by them.
    pub fn name(&mut self, name: impl Into<Cow<'static, str>>) -> &mut Self {
        self.name = name.into();
        self
    }

    /// Says `key` of it; a value that is not there is not said.
    pub fn set(&mut self, key: &'static str, value: impl Into<Option<Value>>) -> &mut Self {
        self.attributes.extend(value.into().map(|value| (key, value)));
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.0.take() {
            record.took = record.began.elapsed();
            traces::offer(*record);
        }
    }
}

/// A text as a value.
pub fn text(text: impl Into<Cow<'static, str>>) -> Value {
    Value::Text(text.into())
}

/// A number as a value.
pub fn whole(number: impl Into<i64>) -> Value {
    Value::Whole(number.into())
}
