//! Logs: one line an event on stderr, and panics among them.

use std::io;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Logs have been started before, by this function or by something else.
    #[error("logging has already been started in this process")]
    AlreadyStarted,
    /// The filter is not a list of tracing directives.
    #[error("the log filter {filter:?} cannot be read; write for example `info` or `info,queue=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What tracing says about it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No such format.
    #[error("the log format {0:?} is neither `json` nor `pretty`")]
    Format(String),
}

/// Starts logging to stderr and makes panics part of the log. Once a process; a second call changes nothing and is
/// an error.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let subscriber = subscriber(format, filter, io::stderr)?;
    if STARTED.swap(true, Ordering::SeqCst) {
        return Err(TelemetryError::AlreadyStarted);
    }
    subscriber.try_init().map_err(|_| TelemetryError::AlreadyStarted)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W>(format: Format, filter: &str, writer: W) -> Result<Subscriber, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = EnvFilter::try_new(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(directives).with_writer(writer);
    Ok(match format {
        // The list of spans holds the current one too.
        Format::Json => Box::new(builder.json().flatten_event(true).with_current_span(false).finish()),
        Format::Pretty => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            Box::new(builder.compact().with_ansi(colours).finish())
        }
    })
}

fn log_panic(info: &PanicHookInfo<'_>) {
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

    use super::*;

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
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        lines.text()
    }

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
        let bad = init(Format::Json, "info,queue=loudly").unwrap_err();
        assert!(matches!(bad, TelemetryError::Filter { .. }), "{bad}");
        init(Format::Json, "off").unwrap();
        assert!(matches!(init(Format::Json, "off"), Err(TelemetryError::AlreadyStarted)));

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
