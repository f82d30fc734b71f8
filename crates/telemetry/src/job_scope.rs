//! Which job a task works on, in its log lines and error reports.
//!
//! A span would say the same; but a span's fields are written out when it begins, and most jobs log nothing. What is kept
//! here is a few words in the task, written out when a line is.

use std::fmt::{self, Write as _};

use kernel::{ids::JobId, trace::TraceParent};
use serde_json::{Value, json};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::Format;

tokio::task_local! {
    static CURRENT: JobScope;
}

/// One attempt at a job.
#[derive(Debug, Clone)]
pub struct JobScope {
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: &'static str,
    /// The attempt's number.
    pub attempt: i16,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The attempt's own span.
    pub trace: TraceParent,
}

impl JobScope {
    /// Does the work as that attempt: whatever it logs says so.
    pub fn around<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// The attempt that this task works on, if it does on one.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// As its fields are called in log lines.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = vec![
            ("job.id", json!(self.job.to_string())),
            ("job.kind", json!(self.kind)),
            ("job.attempt", json!(self.attempt)),
            ("trace.id", json!(self.trace.trace_id())),
            ("trace.span", json!(self.trace.span_id())),
        ];
        if let Some(request_id) = &self.request_id {
            fields.push(("request.id", json!(request_id)));
        }
        fields
    }

    /// The line with the job as its outermost span.
    fn in_json(&self, line: &str) -> Option<String> {
        let mut object: Value = serde_json::from_str(line).ok()?;
        let mut span: serde_json::Map<String, Value> =
            self.fields().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        span.insert("name".to_owned(), json!("job"));
        let spans = object.as_object_mut()?.entry("spans").or_insert_with(|| json!([]));
        spans.as_array_mut()?.insert(0, span.into());
        Some(format!("{object}\n"))
    }

    fn in_text(&self, line: &str) -> Option<String> {
        let mut text = line.trim_end_matches('\n').to_owned();
        for (name, value) in self.fields() {
            write!(text, " {name}={value}").ok()?;
        }
        text.push('\n');
        Some(text)
    }
}

/// Writes events as `inner` does, with the job that their task works on.
pub(crate) struct WithJob<E> {
    pub(crate) inner: E,
    pub(crate) format: Format,
}

impl<S, N, E> FormatEvent<S, N> for WithJob<E>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    E: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(job) = JobScope::current() else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let with_job = match self.format {
            Format::Json => job.in_json(&line),
            Format::Pretty => job.in_text(&line),
        };
        // Rather a line without its job than none.
        writer.write_str(with_job.as_deref().unwrap_or(&line))
    }
}
