//! The hidden subcommands of the binary: the watchdog, and a bare server for tests and for looking into a data folder.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::error::EmbeddedError;
use super::server::{Server, ServerOptions};
use super::watchdog::{self, WatchdogArgs};

const SERVE: &str = "serve-postgres";

/// Carries out a hidden subcommand, if these arguments (the program's name first) name one. Call it before anything
/// else in `main`, outside any runtime.
pub fn run_hidden(args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.skip(1);
    let name = args.next()?;
    let result = if name == watchdog::SUBCOMMAND {
        WatchdogArgs::from_args(args).map(|args| watchdog::run(&args))
    } else if name == SERVE {
        serve(args)
    } else {
        return None;
    };
    Some(result.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "millpond: {}", error.with_causes());
        ExitCode::FAILURE
    }))
}

/// `serve-postgres --data-dir DIR [--not-durable]`: owns (or attaches to) the server of a data folder until it is told
/// to end, and prints one line `ready owner=… url=…`.
fn serve(args: impl Iterator<Item = OsString>) -> Result<ExitCode, EmbeddedError> {
    let usage = || EmbeddedError::Arguments(format!("usage: {SERVE} --data-dir DIR [--not-durable]"));
    let (mut args, mut data_dir, mut durable) = (args, None, true);
    while let Some(name) = args.next() {
        match name.to_str() {
            Some("--data-dir") => data_dir = Some(PathBuf::from(args.next().ok_or_else(usage)?)),
            Some("--not-durable") => durable = false,
            _ => return Err(usage()),
        }
    }
    let data_dir = data_dir.ok_or_else(usage)?;
    let program = std::env::current_exe().map_err(EmbeddedError::io("find", "this program".as_ref()))?;
    let options = ServerOptions { durable, ..ServerOptions::new(data_dir, program) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(EmbeddedError::io("start", "the runtime".as_ref()))?;
    runtime.block_on(serve_until_told(options))
}

async fn serve_until_told(options: ServerOptions) -> Result<ExitCode, EmbeddedError> {
    let listen = |kind| signal(kind).map_err(EmbeddedError::io("listen for", "signals".as_ref()));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let server = Server::start_or_attach(options).await?;
    let _ = writeln!(std::io::stdout(), "ready owner={} url={}", server.is_owner(), server.url());
    let died = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        words = server.ended() => Some(words),
    };
    server.stop().await?;
    died.map_or(Ok(ExitCode::SUCCESS), |words| Err(EmbeddedError::Reported(words)))
}
