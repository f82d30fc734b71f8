//! `bench queue`: the figures of the queue, as a table or as JSON.

use std::collections::BTreeMap;

use crate::figures::{Bench, FIGURES, Figure, Measurement, Sample};
use crate::peers::{Peers, Programs};
use crate::progress::Progress;
use crate::server::{ServerArgs, TestServer};
use crate::table;

const HELP: &str = "\
Without --server-url a private PostgreSQL is started in a temporary folder (durable, shared_buffers=1GB,
max_wal_size=4GB, max_connections=200, all else as PostgreSQL has it) and removed in the end. Jobs are drained by worker
processes of their own: registry, layers, timeouts and logs are those of `millpond worker`. A figure is the median of
its runs; a drain that does not end with every job in history, once, has no figure. Results go to standard output,
progress to standard error. The machine should be otherwise idle; what counts is the ratio to a peer or to the floor
of the same run, not the number.

All of it takes about a quarter of an hour, of which most is spent on 10M rows; with --peers half an hour.

Examples:
  bench queue --only drain_500              one figure, and what comes with it
  bench queue --only drain pickup           all figures whose names begin so
  bench queue --only drain_500 --peers      the ratio to the best peer
  bench queue --peers --json > figures.json";

/// Arguments of `queue`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Also measure the queues that one would pick instead, and the physical floor, on the same server, by the programs in
    /// the folder that MILLPOND_PEERS names [default: ../shared/peers beside the repository]
    #[arg(long)]
    pub peers: bool,
    /// Only these figures; `drain` means all whose names begin so
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<String>,
    /// Print one JSON document instead of the table
    #[arg(long)]
    pub json: bool,
    /// How often each figure is measured; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub runs: u8,
    /// Which server is measured
    #[command(flatten)]
    pub server: ServerArgs,
}

/// The samples of each figure, by name.
pub type Samples = BTreeMap<&'static str, Vec<Sample>>;

/// What a run has come to.
struct Measured {
    samples: Samples,
    /// Figures whose measurement failed.
    missing: Vec<&'static str>,
    peers: Option<Peers>,
}

/// Measures and prints.
///
/// # Errors
/// When a name is unknown, or, after the table of the others, when a measurement failed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let figures = selected(&args.only)?;
    let mut measurements: Vec<Measurement> = Vec::new();
    for figure in &figures {
        if !measurements.contains(&figure.by) {
            measurements.push(figure.by);
        }
    }
    let server = TestServer::open(&args.server).await?;
    let progress = Progress::new(measurements.len());
    let measured = tokio::select! {
        measured = measure(&server, &progress, &args, &figures, &measurements) => measured,
        // What was started ends with us, and what was made is removed.
        () = told_to_stop() => Err(anyhow::anyhow!("told to stop")),
    };
    progress.finish();
    server.close().await?;
    let Measured { samples, missing, peers } = measured?;
    let peers = peers.as_ref();
    if args.json {
        table::print_json(&figures, &samples, peers)?;
    } else {
        table::print(&figures, &samples, peers)?;
    }
    anyhow::ensure!(missing.is_empty(), "not measured: {}", missing.join(", "));
    Ok(())
}

/// Returns when this process is told to end.
pub(crate) async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn measure(
    server: &TestServer,
    progress: &Progress,
    args: &Args,
    figures: &[&'static Figure],
    measurements: &[Measurement],
) -> anyhow::Result<Measured> {
    let programs = match args.peers {
        true => Some(Programs::build(server, figures, progress).await?),
        false => None,
    };
    let bench = Bench::open(server, progress.clone()).await?;
    let (mut samples, mut missing) = (Samples::new(), Vec::new());
    for measurement in measurements {
        match Box::pin(measurement.run(&bench, args.runs.into())).await {
            Ok(measured) => {
                for sample in measured {
                    samples.entry(sample.figure).or_default().push(sample);
                }
            }
            // The others took long, too: they are shown.
            Err(error) => {
                let of_it = figures.iter().filter(|figure| figure.by == *measurement);
                let names: Vec<_> = of_it.map(|figure| figure.name).collect();
                progress.leave(format!("{}: {error:#}", names.join(", ")));
                missing.extend(names);
            }
        }
        progress.done();
    }
    bench.close().await;
    let peers = match programs {
        Some(programs) => Some(programs.measure(progress).await),
        None => None,
    };
    Ok(Measured { samples, missing, peers })
}

fn selected(only: &[String]) -> anyhow::Result<Vec<&'static Figure>> {
    let is_meant = |figure: &Figure, name: &str| {
        figure.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    if let Some(unknown) = only.iter().find(|name| !FIGURES.iter().any(|figure| is_meant(figure, name))) {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        anyhow::bail!("no figure is called {unknown:?}; there are: {}", names.join(", "));
    }
    let is_named = |figure: &&Figure| only.is_empty() || only.iter().any(|name| is_meant(figure, name));
    let named: Vec<Measurement> = FIGURES.iter().filter(is_named).map(|figure| figure.by).collect();
    // What is measured along with a figure is shown along with it.
    Ok(FIGURES.iter().filter(|figure| named.contains(&figure.by)).collect())
}
