//! Settings of this process, and the start of its logs.

use std::io::IsTerminal;
use std::net::SocketAddr;

use config::{LogFormat, Origin, Settings, Sources};
use telemetry::Format;

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
    start_logs(&settings, "warn")?;
    Ok(settings)
}

/// Settings for a process that goes on until it is told to stop.
pub(crate) fn for_process(globals: &Globals, listen: Option<SocketAddr>) -> Result<Settings, CliError> {
    let settings = load(&sources(globals, listen))?;
    start_logs(&settings, &settings.log.filter)?;
    Ok(settings)
}

/// Starts logging on stderr, with `filter` unless one is set. A person at a terminal gets text unless JSON is asked for.
pub(crate) fn start_logs(settings: &Settings, filter: &str) -> Result<(), CliError> {
    let at_terminal = std::io::stderr().is_terminal() && is_default(settings, "log.format");
    let format = match settings.log.format {
        LogFormat::Json if !at_terminal => Format::Json,
        _ => Format::Pretty,
    };
    let filter = if is_default(settings, "log.filter") { filter } else { &settings.log.filter };
    telemetry::init(format, filter)?;
    // Before anything is counted, because what is counted before is lost.
    let _ = telemetry::metrics_handle();
    Ok(())
}

/// Whether nobody has set a field.
pub(crate) fn is_default(settings: &Settings, path: &str) -> bool {
    settings.origins().get(path).is_none_or(|origin| *origin == Origin::Defaults)
}
