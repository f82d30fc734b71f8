//! `millpond worker`: workers alone, any number of them against one database.

use std::collections::BTreeSet;

use clap::Args;
use queue::Queue;

use super::serve;
use crate::cli::Globals;
use crate::error::CliError;
use crate::runtime::{Roles, Schema, Signals, Vendor, settings};

/// Arguments of `worker`.
#[derive(Debug, Args)]
#[command(after_help = "\
Queues: enrich (crawls of profiles; needs MILLPOND_METER__URL and MILLPOND_METER__TOKEN), webhooks (callbacks to
partners), maintenance (upkeep of our own tables).

Examples:
  millpond worker
  millpond worker --queues webhooks,maintenance
  MILLPOND_WORKER__CONCURRENCY_ENRICH=200 millpond worker --queues enrich")]
pub(crate) struct WorkerArgs {
    /// Queues to work, separated by commas [default: all]
    #[arg(long, value_name = "QUEUES", value_delimiter = ',')]
    queues: Vec<Queue>,
}

/// Works until told to stop; then running jobs end or are given back.
pub(crate) async fn run(globals: &Globals, arguments: WorkerArgs) -> Result<(), CliError> {
    let settings = settings::for_process(globals, None)?;
    let mut signals = Signals::listen()?;
    let queues: BTreeSet<Queue> = match arguments.queues.is_empty() {
        true => Queue::ALL.into_iter().collect(),
        false => arguments.queues.into_iter().collect(),
    };
    let starting = async {
        let vendor = match queues.contains(&Queue::Enrich) {
            true => Vendor::for_worker(&settings)?,
            false => Vendor::none(&settings),
        };
        let roles = Roles { queues: queues.iter().copied().collect(), ..Roles::default() };
        let house = Box::pin(serve::start(&settings, Schema::Require, vendor, roles)).await?;
        tracing::info!(queues = ?queues, "working");
        Ok(house)
    };
    serve::until_told(&mut signals, starting).await
}
