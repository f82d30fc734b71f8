//! `millpond up`: everything in one process, the default for a small installation.

use std::net::SocketAddr;

use clap::Args;
use queue::Queue;

use super::serve;
use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Roles, Schema, Signals, Vendor, settings};

/// Arguments of `up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `ready url=http://HOST:PORT` when it serves. Without DATABASE_URL it runs a PostgreSQL of its own in the
data folder, which stops with it. Without MILLPOND_METER__URL and MILLPOND_METER__TOKEN it uses the sandbox's
made-up profiles, says so and where, and accepts callbacks to this machine; on a database that you name it does
so only with --sandbox.

Examples:
  millpond up
  millpond up --listen 127.0.0.1:0 --data-dir ./pond
  DATABASE_URL=postgres://postgres@localhost/try millpond up --sandbox")]
pub(crate) struct UpArgs {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Use the sandbox's made-up profiles whatever else is configured
    #[arg(long)]
    sandbox: bool,
}

/// Runs everything until told to stop.
pub(crate) async fn run(globals: &Globals, arguments: UpArgs) -> Result<(), CliError> {
    let settings = settings::for_process(globals, arguments.listen)?;
    let mut signals = Signals::listen()?;
    let starting = async {
        let (listener, url) = serve::listen(&settings).await?;
        let vendor = Vendor::for_up(&settings, arguments.sandbox).await?;
        let sandbox = vendor.sandbox_url();
        let roles =
            Roles { api: Some(listener), queues: Queue::ALL.to_vec(), schedules: settings.scheduler.enabled };
        let house = Box::pin(serve::start(&settings, Schema::Migrate, vendor, roles)).await?;
        tracing::info!(
            url, docs = %format!("{url}/api-docs/"), attached = house.database.is_attached(), "everything runs"
        );
        Output::new(globals.json).ready(&url, sandbox.as_deref());
        Ok(house)
    };
    serve::until_told(&mut signals, starting).await
}
