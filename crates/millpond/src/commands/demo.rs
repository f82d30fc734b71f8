//! `millpond demo`: the arguments; the demonstration itself is in `crate::demo`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Globals;
use crate::error::CliError;

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Starts PostgreSQL, API, workers, scheduler and the sandbox on free ports, asks for every creator of a list over HTTP
as a partner would, verifies the signature of each callback, shows what came of it, and keeps running so that you
can look around. Profiles are made up, and the sandbox misbehaves a little so that retries are seen. Nothing is left
when it ends, unless --data-dir keeps it.

Examples:
  millpond demo
  millpond demo --exit
  millpond demo --file my.csv          a column `url`, in whatever form people paste it
  millpond demo --data-dir ./pond      twice: the second time, yesterday's crawls are reused")]
pub(crate) struct DemoArgs {
    /// End when it is through, with status 0 only if everything went as it should
    #[arg(long)]
    pub(crate) exit: bool,
    /// Your own list: CSV with a column `url`, or one address a line
    #[arg(long, value_name = "CSV")]
    pub(crate) file: Option<PathBuf>,
}

/// Runs the demonstration.
pub(crate) async fn run(globals: &Globals, arguments: DemoArgs) -> Result<(), CliError> {
    crate::demo::run(globals, &arguments).await
}
