//! `bench fairness`: whom the workers serve when more is asked of them than they can do, and what that costs.
//!
//! Workers run by the registry, the layers and the timeouts of production, in this process, each on a runtime and
//! connections of its own, so that waits can be noted where jobs are stored.

mod contention;
mod cost;
mod flood;
mod held;
mod pools;
mod report;

use crate::progress::Progress;
use crate::server::{ServerArgs, TestServer};

/// Arguments of `fairness`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many jobs the flooding tenant queues
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub jobs: u64,
    /// How often what the claim costs is measured; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub runs: u8,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
    /// Which server is measured
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Measures and prints.
///
/// # Errors
/// When a measurement fails, or not everything that was stored was done.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let progress = Progress::new(4);
    let measured = measure(&server, &progress, &args).await;
    progress.finish();
    server.close().await?;
    report::print(&measured?, args.json)
}

async fn measure(server: &TestServer, progress: &Progress, args: &Args) -> anyhow::Result<report::Figures> {
    progress.say("shares under contention, and what an idle tenant leaves");
    let contention = Box::pin(contention::measure(server)).await?;
    progress.done();
    progress.say(format!("waits beside a flood of {} jobs", args.jobs));
    let flood = Box::pin(flood::measure(server, args.jobs)).await?;
    progress.done();
    progress.say("what knowing tenants costs a claim");
    let cost = Box::pin(cost::measure(server, progress, args.runs.into())).await?;
    progress.done();
    Ok(report::Figures { contention, flood, cost })
}
