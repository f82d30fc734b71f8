//! Beginning and end of what a process says about itself; the same for the binary and the benchmarks.

use crate::{Format, ReportSettings, TelemetryError, TraceSettings, logs, reports, traces};

/// What is said, and to whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How log lines look.
    pub format: Format,
    /// What is logged, as tracing's directives.
    pub filter: String,
    /// Where spans go; none: nowhere, and no trace is recorded.
    pub traces: Option<TraceSettings>,
    /// Where errors are reported; none: in the log alone.
    pub reports: Option<ReportSettings>,
}

impl Settings {
    /// Logs alone, in this form and with this filter.
    #[must_use]
    pub fn logs(format: Format, filter: &str) -> Self {
        Self { format, filter: filter.to_owned(), traces: None, reports: None }
    }
}

/// Starts logs, metrics and, where settings ask for them, traces and error reports. Once a process; a second call changes nothing and
/// is an error. Call [`finish`] at the end.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(settings: &Settings) -> Result<(), TelemetryError> {
    let reports = settings.reports.as_ref().map(reports::start).transpose()?;
    logs::init(settings.format, &settings.filter, reports)?;
    // Before anything is counted, because what is counted before is lost.
    let _ = crate::metrics_handle();
    // Of a count that appears with its first event nobody sees that it grew.
    metrics::counter!("millpond_trace_spans_dropped_total").increment(0);
    match &settings.traces {
        Some(traces) => traces::start(traces),
        None => Ok(()),
    }
}

/// Sends what is left to say, within two seconds for each receiver; what is said later is lost. Blocks the thread: call it when
/// everything else has ended.
pub fn finish() {
    traces::finish();
    reports::finish();
}
