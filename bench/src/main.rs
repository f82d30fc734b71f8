//! The command line of the benchmarks.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bench::{abuse, api, estimates, fairness, faults, limits, queue_figures, quota, rates, worker};
use clap::{Parser, Subcommand};

/// Threads that run tasks, at the least, as in the `millpond` binary.
const THREADS_MIN: usize = 8;

/// Other threads get this long when everything else has ended.
const LEFTOVERS_MAX: Duration = Duration::from_secs(1);

/// Measures the queue engine and the API on the paths that production jobs and requests take.
#[derive(Debug, Parser)]
#[command(name = "bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Throughput, delays, growth, memory: the figures of docs/QUEUE.md
    Queue(queue_figures::Args),
    /// The engine under fire: real processes, real servers, and a checker over what came of it
    Faults(faults::FaultsArgs),
    /// Whom the workers serve under contention, and what that costs
    Fairness(fairness::Args),
    /// Whether jobs end when they were said to, under a mixed load
    Estimates(estimates::Args),
    /// Limits under kills: violations and utilisation
    Limits(limits::Args),
    /// Answers per second and how long they take, at half a million influencers
    Api(api::Args),
    /// Whether each month approves exactly its quota, however many ask at once
    Quota(quota::Args),
    /// Whether a limit of requests a minute, and a revoked key, hold over several API processes
    Rates(rates::Args),
    /// How the API serves others while it is abused, and in how much memory
    Abuse(abuse::Args),
    /// The API process that is measured
    #[command(hide = true)]
    ApiServer(api::server::ServerArgs),
    /// A process that searches and does nothing else
    #[command(hide = true)]
    ApiBare(api::bare::BareArgs),
    /// A worker process under limits
    #[command(hide = true)]
    LimitsWorker(limits::worker::LimitsWorkerArgs),
    /// A worker process that is measured
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

fn main() -> ExitCode {
    // The private server's watchdog is this binary too, and needs a runtime of its own kind.
    if let Some(code) = db::embedded::run_hidden(std::env::args_os()) {
        return code;
    }
    if let Some(code) = faults::worker::run_if_asked() {
        return code;
    }
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when this cannot be written.
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// With the runtime that the `millpond` binary has, because the worker processes are this binary.
fn run(cli: Cli) -> anyhow::Result<()> {
    // An error means that a provider is installed already, which is all we need.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let threads = std::thread::available_parallelism().map_or(THREADS_MIN, |cores| 2 * cores.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(THREADS_MIN))
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Queue(args) => Box::pin(queue_figures::run(args)).await,
            Command::Faults(args) => Box::pin(faults::run(&args)).await,
            Command::Fairness(args) => Box::pin(fairness::run(args)).await,
            Command::Estimates(args) => Box::pin(estimates::run(args)).await,
            Command::Limits(args) => Box::pin(limits::run(args)).await,
            Command::Api(args) => Box::pin(api::run(args)).await,
            Command::Quota(args) => Box::pin(quota::run(args)).await,
            Command::Rates(args) => Box::pin(rates::run(args)).await,
            Command::Abuse(args) => Box::pin(abuse::run(args)).await,
            Command::ApiServer(args) => Box::pin(api::server::run(args)).await,
            Command::ApiBare(args) => Box::pin(api::bare::run(args)).await,
            Command::LimitsWorker(args) => Box::pin(limits::worker::run(args)).await,
            Command::Worker(args) => Box::pin(worker::run(args)).await,
        }
    });
    runtime.shutdown_timeout(LEFTOVERS_MAX);
    result
}
