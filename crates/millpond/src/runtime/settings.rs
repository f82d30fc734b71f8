//! Settings of this process, and the start of its logs and traces.

use std::io::IsTerminal;
use std::net::SocketAddr;

use config::{LogFormat, Origin, Settings, Sources};
use telemetry::{Format, ReportSettings, TraceSettings};

use crate::cli::Globals;
use crate::error::CliError;

/// What the environment says, with what the command line says over it.
pub(crate) fn sources(globals: &Globals, listen: Option<SocketAddr>) -> Sources {
    let mut sources = Sources::from_process();
    if let Some(folder) = &globals.data_dir {
        sources = sources.with("data.dir", folder.to_string_lossy());
    }
    if let Some(listen) = listen {
        sources = sources.with("http.listen", listen.to_string());
    }
    sources
}

/// Loads the settings.
pub(crate) fn load(sources: &Sources) -> Result<Settings, CliError> {
    let mut settings = Settings::load(sources)?;
    if settings.data.dir.as_os_str().is_empty() {
        settings.data.dir = db::embedded::default_data_dir();
    }
    Ok(settings)
}

/// Settings for a command that starts, does one thing and ends.
pub(crate) fn for_command(globals: &Globals) -> Result<Settings, CliError> {
    let settings = load(&sources(globals, None))?;
    // Results are what matters here; only trouble is logged unless somebody asks for more.
    start_telemetry(&settings, "warn", None, None)?;
    Ok(settings)
}

/// Settings for a process that goes on until it is told to stop.
pub(crate) fn for_process(globals: &Globals, listen: Option<SocketAddr>) -> Result<Settings, CliError> {
    let settings = load(&sources(globals, listen))?;
    start_going_on(&settings, &settings.log.filter)?;
    Ok(settings)
}

/// Starts what a process that goes on says about itself: logs with `filter` unless one is set, and traces and error
/// reports where settings name a receiver.
pub(crate) fn start_going_on(settings: &Settings, filter: &str) -> Result<(), CliError> {
    start_telemetry(settings, filter, traces(settings), reports(settings))
}

/// Logs go to stderr, with `filter` unless one is set. A person at a terminal gets text unless JSON is asked for.
fn start_telemetry(
    settings: &Settings,
    filter: &str,
    traces: Option<TraceSettings>,
    reports: Option<ReportSettings>,
) -> Result<(), CliError> {
    let at_terminal = std::io::stderr().is_terminal() && is_default(settings, "log.format");
    let format = match settings.log.format {
        LogFormat::Json if !at_terminal => Format::Json,
        _ => Format::Pretty,
    };
    let filter = if is_default(settings, "log.filter") { filter } else { &settings.log.filter };
    telemetry::start(&telemetry::Settings { format, filter: filter.to_owned(), traces, reports })?;
    Ok(())
}

fn reports(settings: &Settings) -> Option<ReportSettings> {
    let dsn = settings.sentry.dsn.as_ref()?.expose().to_owned();
    Some(ReportSettings { dsn, environment: settings.sentry.environment.clone() })
}

fn traces(settings: &Settings) -> Option<TraceSettings> {
    let trace = &settings.trace;
    Some(TraceSettings {
        endpoint: trace.endpoint.clone()?,
        headers: trace.headers.as_ref().map(|headers| headers.expose().to_owned()).unwrap_or_default(),
        sample_ratio: trace.sample_ratio,
        service_name: trace.service_name.clone(),
    })
}

/// Whether nobody has set a field.
pub(crate) fn is_default(settings: &Settings, path: &str) -> bool {
    settings.origins().get(path).is_none_or(|origin| *origin == Origin::Defaults)
}
