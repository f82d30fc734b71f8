//! The binary: reads the command line, carries the command out, answers with an exit code.
//!
//! 0: done. 1: failed; stderr says what and what to do. 2: the command line cannot be understood.

mod cli;
mod commands;
mod demo;
mod error;
mod output;
mod runtime;

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Cli;
use crate::error::CliError;

/// Name look-ups and the like may still run on other threads; they get this long when everything else has ended.
const LEFTOVERS_MAX: Duration = Duration::from_secs(1);

/// Threads that run tasks, at the least: handlers that hold on to theirs leave some for everybody else.
const THREADS_MIN: usize = 8;

fn main() -> ExitCode {
    // The embedded server's watchdog is this binary too, and needs a runtime of its own kind.
    if let Some(code) = db::embedded::run_hidden(std::env::args_os()) {
        return code;
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let json = cli.globals.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failure(&error, json),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    // An error means that a provider is installed already, which is all we need.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = std::thread::available_parallelism().map_or(THREADS_MIN, |cores| 2 * cores.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(THREADS_MIN))
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let result = runtime.block_on(commands::run(cli));
    runtime.shutdown_timeout(LEFTOVERS_MAX);
    telemetry::finish();
    result
}
