//! Why the process cannot say anything about itself.

/// Why telemetry could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// It has been started before, by this crate or by something else.
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
    /// The settings ask for something that was left out when this binary was built.
    #[error("{what} are configured, but this build cannot send them: build it with `--features {feature}`")]
    NotBuilt {
        /// What is asked for.
        what: &'static str,
        /// The feature that has it.
        feature: &'static str,
    },
    /// The collector's address cannot be used.
    #[error("traces cannot be sent to {endpoint}: {reason}")]
    Traces {
        /// The address.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// The collector's headers cannot be read. They may hold credentials, so they are not shown.
    #[error("the headers for the collector of traces are not `name=value` pairs separated by commas")]
    TraceHeaders,
    /// The receiver of error reports cannot be used. Its address holds a key, so it is not shown.
    #[error("error reports cannot be sent: the DSN is not `https://KEY@HOST/PROJECT`")]
    Dsn,
    /// No HTTP client for error reports.
    #[cfg(feature = "sentry")]
    #[error("error reports cannot be sent")]
    Reports(#[source] reqwest::Error),
    /// No thread, or no runtime for it.
    #[error("no thread for sending traces")]
    Thread(#[source] std::io::Error),
}
