//! Logs: one line an event on stderr, and panics among them.

use std::io;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::job_scope::WithJob;
use crate::redaction::Net;
use crate::reports::Reporter;
use crate::{TelemetryError, redaction};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, the spans' fields included.
    Json,
    /// Text for people.
    Pretty,
}

impl FromStr for Format {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            other => Err(TelemetryError::Format(other.to_owned())),
        }
    }
}

/// Starts logging to stderr and makes panics part of the log. Once a process; a second call changes nothing and is
/// an error.
pub(crate) fn init(format: Format, filter: &str, reports: Option<Reporter>) -> Result<(), TelemetryError> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    redaction::prepare();
    let subscriber = subscriber(format, filter, io::stderr, reports)?;
    if STARTED.swap(true, Ordering::SeqCst) {
        return Err(TelemetryError::AlreadyStarted);
    }
    subscriber.try_init().map_err(|_| TelemetryError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
    reports: Option<Reporter>,
) -> Result<Subscriber, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_writer(Net::new(writer, format))
        // It would show the values of a line that cannot be written.
        .log_internal_errors(false);
    Ok(match format {
        // The list of spans holds the current one too.
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false);
            let builder = builder.map_event_format(|inner| WithJob { inner, format });
            Box::new(builder.finish().with(reports))
        }
        Format::Pretty => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            let builder = builder.compact().with_ansi(colours);
            let builder = builder.map_event_format(|inner| WithJob { inner, format });
            Box::new(builder.finish().with(reports))
        }
    })
}

pub(crate) fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload_as_str().unwrap_or("(no message)");
    let backtrace = std::backtrace::Backtrace::capture();
    let thread = std::thread::current();
    tracing::error!(
        panic.message = message,
        panic.location = location,
        panic.thread = thread.name().unwrap_or("(unnamed)"),
        panic.backtrace = %backtrace,
        "a thread panicked"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kernel::trace::TraceParent;

    use super::*;
    use crate::JobScope;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(format: Format, filter: &str, work: impl FnOnce()) -> String {
        let lines = Captured::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        lines.text()
    }

    // S0-178
    #[test]
    fn a_json_line_holds_the_event_and_the_fields_of_its_spans() {
        let line = captured(Format::Json, "info", || {
            let _request = tracing::info_span!("request", request.id = "r1").entered();
            let _job = tracing::info_span!("job", job.id = "job_1").entered();
            tracing::debug!("too detailed");
            tracing::info!(rows = 3, "stored");
        });
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["message"], "stored");
        assert_eq!(json["rows"], 3);
        assert_eq!(json["spans"][0]["request.id"], "r1");
        assert_eq!(json["spans"][1]["job.id"], "job_1");
        assert!(json["timestamp"].is_string());
    }

    #[test]
    fn no_value_holds_a_secret_or_begins_a_line_of_its_own_in_either_format() {
        for format in [Format::Json, Format::Pretty] {
            let lines = captured(format, "info", || {
                let _request =
                    tracing::info_span!("request", http.path = "/amy@example.com\nINFO forged").entered();
                tracing::info!(password = "hunter2", error = %"no\r\nINFO forged", "it failed\nINFO forged");
            });
            assert_eq!(lines.lines().count(), 1, "{lines}");
            assert!(!lines.contains("hunter2") && !lines.contains("amy@"), "{lines}");
            assert_eq!(lines.matches(crate::redaction::MASK).count(), 2, "{lines}");
        }
    }

    #[test]
    fn what_a_job_logs_names_the_job_in_either_form_and_what_others_log_does_not() {
        let job = || JobScope {
            job: "job_01jd8x4xkre9a8y9tbn2p5q3mw".parse().unwrap(),
            kind: "profiles.fetch",
            attempt: 2,
            request_id: Some("r1".to_owned()),
            trace: TraceParent::begin(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let works = || {
            runtime.block_on(job().around(async {
                let _inner = tracing::info_span!("call", try_number = 3).entered();
                tracing::info!("called");
            }));
        };
        let json: serde_json::Value = serde_json::from_str(&captured(Format::Json, "info", works)).unwrap();
        assert_eq!(json["message"], "called");
        assert_eq!(json["spans"][0]["job.id"], "job_01jd8x4xkre9a8y9tbn2p5q3mw");
        assert_eq!(json["spans"][0]["request.id"], "r1");
        assert_eq!(json["spans"][1]["try_number"], 3);
        let text = captured(Format::Pretty, "info", works);
        assert!(text.contains("called") && text.contains("profiles.fetch"), "{text}");
        assert_eq!(text.lines().count(), 1);
        let outside = captured(Format::Json, "info", || tracing::info!("alone"));
        assert!(!outside.contains("job.id"), "{outside}");
    }

    #[test]
    fn the_filter_decides_by_module() {
        let line = captured(Format::Pretty, "warn,queue=debug", || {
            tracing::debug!(target: "queue::claim", "claimed");
            tracing::info!(target: "api", "answered");
        });
        assert!(line.contains("claimed"), "{line}");
        assert!(!line.contains("answered"), "{line}");
    }

    #[test]
    fn a_second_start_and_a_bad_filter_are_errors_and_a_panic_is_logged() {
        let bad = init(Format::Json, "info,queue=loudly", None).unwrap_err();
        assert!(matches!(bad, TelemetryError::Filter { .. }), "{bad}");
        init(Format::Json, "off", None).unwrap();
        assert!(matches!(init(Format::Json, "off", None), Err(TelemetryError::AlreadyStarted)));

        let line = captured(Format::Json, "error", || {
            let panicked = std::panic::catch_unwind(|| panic!("the number was {}", 7));
            assert!(panicked.is_err());
        });
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["panic.message"], "the number was 7");
        assert!(json["panic.location"].as_str().unwrap().contains("logs.rs"));
    }

    #[test]
    fn a_format_is_read_from_its_name() {
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("pretty".parse::<Format>().unwrap(), Format::Pretty);
        assert!("xml".parse::<Format>().is_err());
    }
}
