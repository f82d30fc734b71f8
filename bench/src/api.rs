//! `bench api`: the API under the load that partners make, at the size that the seed S0 names.

pub mod bare;
pub(crate) mod client;
pub(crate) mod load;
mod peer;
mod plans;
pub(crate) mod process;
mod report;
pub(crate) mod requests;
pub(crate) mod search_space;
pub(crate) mod seed;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use db::Pool;
use kernel::ids::InfluencerId;
use kernel::sealing::Keyring;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::process::Command;
use tokio::time::Instant;

use crate::machine;
use crate::progress::Progress;
use crate::queue_figures::told_to_stop;
use crate::server::{ServerArgs, TestServer};
use client::Client;
use load::{closed_loop, open_loop};
use process::Service;
use report::{Capacity, Cpu, Opened, Report};
use requests::{Caller, Operation, Prepared, mix};
use search_space::Search;

const HELP: &str = "\
A database is filled (influencers by COPY, partners by the functions that make them), and the API is started on it as a
process of its own: router, limits, log, metrics and default settings are those of `millpond api`. No workers run. Then:

1. Open loop. 70% searches over the real filter space, 15% polls of jobs, 10% quota, 5% enrich and request, due at a
   constant rate. Latency counts from when a request was due, so nothing is omitted when the server stalls; how late the
   driver itself was is told. A status other than the expected one is an error.
2. Every combination of filters, orders and pages, one at a time: the worst, with their plans.
3. Capacity. Searches as fast as they are answered: the API, a bare handler that runs the same search and nothing
   else and, with --peer, a Fastify and Prisma service with the same data (bench/peer/README.md), in turn, --runs times.
   Before, all must answer a sample of searches alike, or the run fails.

Driver, API and PostgreSQL share the machine. The peer needs Node.js 20.19 and npm with access to its registry. Without
--server-url a private durable PostgreSQL is started (shared_buffers=1GB). Results go to standard output, progress to
standard error. All of it takes about eight minutes.

Examples:
  bench api --peer                                                        what docs/ promise, and the peer
  bench api --influencers 20000 --rate 300 --seconds 10 --runs 1          a first look
  bench api --server-url postgres://postgres@127.0.0.1/postgres --server-data /var/lib/postgresql/data --json";

const DATABASE: &str = "millpond_bench_api";
const PEER_DATABASE: &str = "millpond_bench_api_peer";
/// Jobs that each partner may poll.
const JOBS: usize = 20;
/// Searches that are sent over and over when capacity is measured.
const SEARCHES: usize = 20_000;
/// Searches of which all services must give the same answer.
const COMPARED: usize = 400;
/// Searches that go on where others ended.
const DEEPER: usize = 300;
/// Before it is measured, each service works for so long.
const WARM_UP: Duration = Duration::from_secs(5);

/// Arguments of `api`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Influencers in the pool
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1_000..=9_000_000))]
    pub influencers: u32,
    /// Partners that ask
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub partners: u16,
    /// Requests a second in the open loop
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Seconds of the open loop
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Connections of the open loop; with all of them busy, requests wait and are charged for it
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub connections: usize,
    /// Seconds for which the capacity of each service is measured, in each run
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub capacity_seconds: u64,
    /// Connections when capacity is measured
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub capacity_connections: usize,
    /// Worst searches to show; 0: do not look for them
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub worst: usize,
    /// Also measure the Fastify and Prisma service
    #[arg(long)]
    pub peer: bool,
    /// Print one JSON document instead of the tables
    #[arg(long)]
    pub json: bool,
    /// How often loads are measured; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub runs: u8,
    /// Which server is measured
    #[command(flatten)]
    pub server: ServerArgs,
}

// S0-051, S0-158..=S0-162, S0-171, S0-172
/// Measures and prints.
///
/// # Errors
/// When a service does not start, or answers differ.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let progress = Progress::new(2 * usize::from(args.runs) + 3);
    let measured = tokio::select! {
        measured = measure(&server, &progress, &args) => measured,
        // What was started ends with us, and what was made is removed.
        () = told_to_stop() => Err(anyhow::anyhow!("told to stop")),
    };
    progress.finish();
    for name in [DATABASE, PEER_DATABASE] {
        server.drop_database(name).await?;
    }
    server.close().await?;
    report::print(&measured?, args.json)
}

/// What every part of the measurement is given.
struct Bench<'a> {
    args: &'a Args,
    server: &'a TestServer,
    progress: &'a Progress,
    pool: Pool,
    url: String,
    keyring: Keyring,
    callers: Vec<Caller>,
    /// Some of those that partners may have.
    influencers: Vec<InfluencerId>,
}

async fn measure(server: &TestServer, progress: &Progress, args: &Args) -> anyhow::Result<Report> {
    let database = server.fresh_database(DATABASE).await?;
    let keyring = Keyring::generate();
    let count = args.influencers as usize;
    let influencers = seed::influencers(&database.url, &keyring, count, progress).await?;
    let callers = seed::partners(&database.pool, &keyring, args.partners.into()).await?;
    let installed = match args.peer {
        true => {
            let installed = peer::install(server.folder(), progress).await?;
            database.pool.close().await;
            let copy = server.copied_database(DATABASE, PEER_DATABASE).await?;
            copy.pool.close().await;
            peer::index(&copy.url, progress).await?;
            Some((installed, copy.url))
        }
        false => None,
    };
    let pool = server.connect(DATABASE).await?.pool;
    let url = database.url;
    let mut bench = Bench { args, server, progress, pool, url, keyring, callers, influencers };
    progress.done();

    let api = bench.start_api().await?;
    let (first_search_ms, deeper) = bench.prepare(&api).await?;
    progress.done();
    let mut opened = Vec::new();
    for run in 1..=args.runs {
        progress.step("open loop", run.into(), args.runs.into());
        opened.push(bench.open_loop(&api, &deeper, run).await?);
        progress.done();
    }
    let plans = match args.worst {
        0 => None,
        count => Some(plans::worst(&api, &bench.pool, &bench.callers[0], count, progress).await?),
    };
    progress.done();

    let bare = bench.start_bare().await?;
    let peer = match &installed {
        Some((installed, url)) => Some(peer::start(installed, url, server.folder()).await?),
        None => None,
    };
    let mut services = vec![&api, &bare];
    services.extend(&peer);
    progress.say("comparing answers");
    let compared = bench.searches(COMPARED, 2).into_iter().chain(deeper).collect::<Vec<_>>();
    let found = peer::compare(&services, &bench.callers, &compared).await?;
    let capacity = bench.capacity(&api, &bare, peer.as_ref()).await?;
    let report = Report {
        args: args.clone(),
        first_search_ms,
        memory: api.memory_bytes(),
        opened,
        plans,
        compared: (compared.len(), found),
        capacity,
    };
    for service in [Some(api), Some(bare), peer].into_iter().flatten() {
        service.stop().await?;
    }
    bench.pool.close().await;
    Ok(report)
}

impl Bench<'_> {
    async fn start_api(&self) -> anyhow::Result<Service> {
        server::start(&self.url, &self.keyring, self.server.folder()).await
    }

    async fn start_bare(&self) -> anyhow::Result<Service> {
        let mut command = this_program()?;
        command.args(["api-bare", "--database", &self.url]);
        Service::start("bare handler", &mut command, self.server.folder()).await
    }

    /// The first search, which loads the pool; jobs to poll, made by enrich; cursors to go on from; and a while of the mix.
    async fn prepare(&mut self, api: &Service) -> anyhow::Result<(f64, Vec<Search>)> {
        let mut rng = StdRng::seed_from_u64(3);
        let mut client = Client::new(api.address);
        self.progress.say("the first search");
        let began = Instant::now();
        let first = self.callers[0].search(&Search { limit: 20, ..Search::default() });
        let (status, _) = client.ask(&first.bytes).await?;
        ensure!(status == 200, "the first search is answered {status}");
        let first_search_ms = began.elapsed().as_secs_f64() * 1_000.0;
        self.progress.say("asking for profiles, so that there are jobs to poll");
        for caller in &mut self.callers {
            for _ in 0..JOBS {
                let (status, body) = client.ask(&caller.enrich(&mut rng).bytes).await?;
                ensure!(status == 202, "enrich is answered {status}: {}", String::from_utf8_lossy(body));
                let answer: serde_json::Value = serde_json::from_slice(body)?;
                let job = answer["jobId"].as_str().context("an answer without a job id")?;
                caller.jobs.push(job.to_owned());
            }
        }
        let mut deeper = Vec::new();
        for search in self.searches(DEEPER, 4) {
            let (_, body) = client.ask(&self.callers[0].search(&search).bytes).await?;
            let answer: serde_json::Value = serde_json::from_slice(body)?;
            if let Some(cursor) = answer["pagination"]["nextCursor"].as_str() {
                deeper.push(Search { offset: 0, cursor: Some(cursor.to_owned()), ..search });
            }
        }
        self.progress.say("warming up");
        let requests = Arc::new(self.mix(&deeper, 5, WARM_UP.as_secs_f64()));
        let warm = open_loop(api.address, requests, self.args.rate, self.args.connections).await?;
        ensure!(warm.errors.count == 0, "errors before anything is measured: {:?}", warm.errors.shown);
        Ok((first_search_ms, deeper))
    }

    async fn open_loop(&self, api: &Service, deeper: &[Search], run: u8) -> anyhow::Result<Opened> {
        let requests = Arc::new(self.mix(deeper, 100 + u64::from(run), f64::from(self.args.seconds)));
        let before = self.cpu(api)?;
        let opened = open_loop(api.address, requests, self.args.rate, self.args.connections).await?;
        let cpu = self.cpu(api)?.since(before, opened.seconds);
        Ok(Opened { opened, cpu, memory: api.memory_bytes() })
    }

    /// Each service in turn, several times.
    async fn capacity(
        &self,
        api: &Service,
        bare: &Service,
        peer: Option<&Service>,
    ) -> anyhow::Result<Vec<Capacity>> {
        let searches = self.searches(SEARCHES, 6);
        let prepared = |ask: fn(&Caller, &Search) -> Prepared| {
            let callers = self.callers.iter().cycle();
            Arc::new(
                searches.iter().zip(callers).map(|(search, caller)| ask(caller, search)).collect::<Vec<_>>(),
            )
        };
        let same = prepared(Caller::search);
        let mut tried = vec![("API", api, Arc::clone(&same)), ("bare handler", bare, Arc::clone(&same))];
        if let Some(peer) = peer {
            tried.push(("peer", peer, same));
            // It need not count what it may estimate: not the same answers, and faster.
            tried.push(("peer, totals to 10,001", peer, prepared(Caller::search_bounded)));
        }
        let mut capacity: Vec<Capacity> = tried.iter().map(|(name, ..)| Capacity::of(name)).collect();
        let connections = self.args.capacity_connections;
        for (name, service, searches) in &tried {
            self.progress.say(format!("warming up: {name}"));
            let warm = closed_loop(service.address, Arc::clone(searches), connections, WARM_UP).await;
            ensure!(warm.errors.count == 0, "{name}: {:?}", warm.errors.shown);
        }
        let duration = Duration::from_secs(self.args.capacity_seconds.max(1));
        for run in 1..=self.args.runs {
            self.progress.step("capacity", run.into(), self.args.runs.into());
            for ((_, service, searches), capacity) in tried.iter().zip(&mut capacity) {
                let before = self.cpu(service)?;
                let closed = closed_loop(service.address, Arc::clone(searches), connections, duration).await;
                let cpu = self.cpu(service)?.since(before, closed.seconds);
                capacity.runs.push((closed, cpu));
            }
            self.progress.done();
        }
        Ok(capacity)
    }

    fn searches(&self, count: usize, seed: u64) -> Vec<Search> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..count).map(|_| Search::drawn(&mut rng)).collect()
    }

    fn mix(&self, deeper: &[Search], seed: u64, seconds: f64) -> Vec<Prepared> {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = (f64::from(self.args.rate) * seconds) as usize;
        mix(count.max(Operation::ALL.len()), &self.callers, &self.influencers, deeper, &mut rng)
    }

    fn cpu(&self, service: &Service) -> anyhow::Result<Cpu> {
        Ok(Cpu {
            service: service.cpu_s()?,
            server: self.server.data_dir().map(machine::server_cpu_s).transpose()?,
            driver: machine::process_cpu_s(std::process::id()).unwrap_or_default(),
            all: machine::busy_s(),
        })
    }
}

/// This program, for starting it again.
fn this_program() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe().context("finding this program")?))
}
