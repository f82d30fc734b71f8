//! The binary. The command line comes later; hidden subcommands come first, before any runtime.

use std::process::ExitCode;

fn main() -> ExitCode {
    db::embedded::run_hidden(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
