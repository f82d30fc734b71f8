//! From lines of level ERROR to events: the message, its fields, and whose request or job it was, from the spans around.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use sentry::Client;
use sentry::protocol::{Event as Report, Level as Severity, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::JobScope;

/// Fields by which reports can be searched; others are only shown.
const TAGS: [&str; 7] =
    ["request.id", "trace.id", "job.id", "job.kind", "job.attempt", "partner.id", "error.code"];

/// Reports what is logged as an error.
pub(crate) struct Reporter(Arc<Client>);

impl Reporter {
    pub(super) const fn new(client: Arc<Client>) -> Self {
        Self(client)
    }
}

/// Fields as words, by name.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Reporter {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Fields>() {
                // From the innermost outwards: the nearest says it best.
                for (name, value) in &around.0 {
                    fields.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        for (name, value) in JobScope::current().iter().flat_map(JobScope::fields) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            fields.0.entry(name).or_insert(text);
        }
        event.record(&mut fields);
        self.0.capture_event(report(event, fields), None);
    }
}

fn report(event: &Event<'_>, mut fields: Fields) -> Report<'static> {
    let mut report = Report {
        level: Severity::Error,
        message: fields.0.remove("message"),
        logger: Some(event.metadata().target().to_owned()),
        platform: "native".into(),
        ..Report::default()
    };
    for (name, value) in fields.0 {
        if TAGS.contains(&name) {
            report.tags.insert(name.to_owned(), value);
        } else {
            report.extra.insert(name.to_owned(), Value::from(value));
        }
    }
    report
}
