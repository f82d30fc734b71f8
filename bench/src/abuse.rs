//! `bench abuse`: how the API serves others while somebody abuses it, and in how much memory.
//!
//! Healthy clients ask at a constant rate throughout, latency counted from when a request was due; between attacks they
//! are measured alone. Attackers run on threads of their own, so that they do not hold up the clients' tasks; they share
//! the machine's processors all the same.

mod attacks;
mod payloads;
mod tally;
mod wire;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use kernel::sealing::Keyring;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

use crate::api::load::{OpenLoop, open_loop};
use crate::api::process::Service;
use crate::api::requests::{Caller, Prepared};
use crate::api::search_space::Search;
use crate::api::seed;
use crate::api::server::start as start_api;
use crate::progress::Progress;
use crate::server::{ServerArgs, TestServer};
pub use attacks::Attack;
use attacks::Scene;
use tally::Tally;

/// Made and removed.
const DATABASE: &str = "millpond_bench_abuse";
/// Connections of healthy clients.
const CONNECTIONS: usize = 32;
/// A quiet p99 below this compares as this: halves of a millisecond are the machine's, not the attacker's.
const P99_FLOOR_MS: f64 = 5.0;
/// An attack makes answers so many times slower at the most.
const RATIO_MAX: f64 = 2.0;
/// An attack takes so much memory more than quiet at the most.
const GROWTH_MAX: u64 = 150 << 20;
/// The pause after an attack, in which its sockets go.
const PAUSE: Duration = Duration::from_secs(2);
/// Files that are open besides the attackers' sockets.
const FILES_BESIDE: u64 = 500;
/// Threads of the attackers.
const THREADS: usize = 2;

/// Arguments of `abuse`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
An attack's p99 is compared with the median p99 of all quiet times, or with 5 ms if that is more. Whatever an attacker
is answered must be a refusal (4xx), a closed connection, or 503 with Retry-After.

Examples:
  bench abuse                                          all attacks, 20 s each: about four minutes
  bench abuse --attacks slow-heads,gzip-bombs --seconds 10
  bench abuse --one-address --json                     slow sockets from one address instead of many")]
pub struct Args {
    /// Only these attacks
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    pub attacks: Vec<Attack>,
    /// How long each takes
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=600))]
    pub seconds: u32,
    /// Slow sockets
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub sockets: u32,
    /// Slow sockets come from one address of this machine instead of from 200
    #[arg(long)]
    pub one_address: bool,
    /// Requests of healthy clients a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    pub rate: u32,
    /// Influencers in the pool
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    pub influencers: u32,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Which server is used
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Plays the attacks and tells what came of them.
///
/// # Errors
/// When healthy clients were held up or refused, memory grew too far, or an attacker was answered as nobody should be.
pub async fn run(args: Args) -> anyhow::Result<()> {
    allow_files(2 * u64::from(args.sockets) + FILES_BESIDE)?;
    let server = TestServer::open(&args.server).await?;
    let attacks = if args.attacks.is_empty() { Attack::ALL.to_vec() } else { args.attacks.clone() };
    let progress = Progress::new(2 * attacks.len() + 1);
    let played = play(&server, &progress, &args, &attacks).await;
    progress.finish();
    server.drop_database(DATABASE).await?;
    server.close().await?;
    Report { phases: played? }.print(args.json)
}

/// As many open files as it takes, here and in the processes that are started.
fn allow_files(count: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(most >= count, "{count} open files are needed, and {most} are allowed: use fewer --sockets");
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("allowing more open files")
}

/// What was measured in one stretch of time.
#[derive(Debug)]
struct Phase {
    /// None: quiet.
    attack: Option<(Attack, Tally)>,
    healthy: OpenLoop,
    memory_now: u64,
    memory_peak: u64,
}

async fn play(
    server: &TestServer,
    progress: &Progress,
    args: &Args,
    attacks: &[Attack],
) -> anyhow::Result<Vec<Phase>> {
    let database = server.fresh_database(DATABASE).await?;
    let keyring = Keyring::generate();
    seed::influencers(&database.url, &keyring, args.influencers as usize, progress).await?;
    let callers = seed::partners(&database.pool, &keyring, 2).await?;
    let [healthy, attacker] = callers.as_slice() else { unreachable!("two were made") };
    progress.say("packing bodies");
    let payloads = tokio::task::spawn_blocking(payloads::Payloads::new).await?;
    let service = start_api(&database.url, &keyring, server.folder()).await?;
    let scene = Arc::new(Scene {
        address: service.address,
        attacker: attacker.clone(),
        sockets: args.sockets as usize,
        is_one_address: args.one_address,
        payloads,
    });
    let requests = |seconds: u32| healthy_requests(healthy, args.rate * seconds);
    // The first requests fill caches and connections.
    measure(&service, requests(2), args.rate).await?;
    let mut phases = Vec::new();
    let quiet_s = (args.seconds / 2).max(2);
    for attack in attacks {
        progress.say(format!("quiet, {quiet_s} s"));
        let (healthy, memory) = measure(&service, requests(quiet_s), args.rate).await?;
        phases.push(Phase { attack: None, healthy, memory_now: memory.0, memory_peak: memory.1 });
        progress.done();
        progress.say(format!("{}, {} s", attack.name(), args.seconds));
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("attacker")
            .enable_all()
            .build()?;
        let tally = tally::Shared::default();
        attack.begin(&threads, &scene, &tally);
        let measured = measure(&service, requests(args.seconds), args.rate).await;
        // Takes all attackers and their sockets with it.
        threads.shutdown_background();
        let (healthy, memory) = measured?;
        let attack = Some((*attack, tally.take()));
        phases.push(Phase { attack, healthy, memory_now: memory.0, memory_peak: memory.1 });
        progress.done();
        sleep(PAUSE).await;
    }
    let (healthy, memory) = measure(&service, requests(quiet_s), args.rate).await?;
    phases.push(Phase { attack: None, healthy, memory_now: memory.0, memory_peak: memory.1 });
    progress.done();
    service.stop().await?;
    Ok(phases)
}

/// Quota and searches in turn.
fn healthy_requests(caller: &Caller, count: u32) -> Arc<Vec<Prepared>> {
    let mut rng = StdRng::seed_from_u64(1);
    let one = |number: u32| match number % 2 {
        0 => caller.quota(),
        _ => caller.search(&Search::drawn(&mut rng)),
    };
    Arc::new((0..count).map(one).collect())
}

/// The healthy clients, and the process's memory meanwhile: at the end, and at most.
async fn measure(
    service: &Service,
    requests: Arc<Vec<Prepared>>,
    rate: u32,
) -> anyhow::Result<(OpenLoop, (u64, u64))> {
    service.forget_memory_peak()?;
    let began = Instant::now();
    let healthy = open_loop(service.address, requests, rate, CONNECTIONS).await?;
    tracing::debug!(seconds = began.elapsed().as_secs_f64(), "measured");
    Ok((healthy, service.memory_bytes()))
}

/// What was measured, against what is wanted.
struct Report {
    phases: Vec<Phase>,
}

impl Report {
    fn quiet(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.attack.is_none())
    }

    /// What attacks are compared with.
    fn quiet_p99_ms(&self) -> f64 {
        let mut all: Vec<f64> = self.quiet().map(|phase| phase.healthy.all.p99_ms).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    fn ratio(&self, phase: &Phase) -> f64 {
        phase.healthy.all.p99_ms / self.quiet_p99_ms().max(P99_FLOOR_MS)
    }

    /// Over what was resident after the first quiet time.
    fn growth(&self, phase: &Phase) -> u64 {
        let quiet = self.quiet().next().map_or(0, |phase| phase.memory_now);
        phase.memory_peak.saturating_sub(quiet)
    }

    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for phase in &self.phases {
            let name = phase.name();
            let errors = &phase.healthy.errors;
            if errors.count > 0 {
                let some = errors.shown.join("; ");
                missed.push(format!("{name}: {} healthy requests failed: {some}", errors.count));
            }
            let Some((_, tally)) = &phase.attack else { continue };
            if self.ratio(phase) > RATIO_MAX {
                missed.push(format!("{name}: p99 is {:.1} times the quiet one", self.ratio(phase)));
            }
            if self.growth(phase) > GROWTH_MAX {
                missed.push(format!("{name}: memory grew by {} MB", megabytes(self.growth(phase))));
            }
            missed
                .extend(tally.faults.iter().map(|(fault, times)| format!("{name}: {fault} ({times} times)")));
        }
        missed
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let missed = self.missed();
        if json {
            writeln!(out, "{}", serde_json::to_string_pretty(&self.to_json(&missed))?)?;
        } else {
            writeln!(out, "{}", self.table())?;
            writeln!(
                out,
                "Compared with {:.1} ms: the median p99 of the quiet times, or {P99_FLOOR_MS} ms. Targets: p99 at most {RATIO_MAX} \
                 times that, memory at most {} MB more than when quiet.",
                self.quiet_p99_ms().max(P99_FLOOR_MS),
                megabytes(GROWTH_MAX)
            )?;
            for miss in &missed {
                writeln!(out, "{miss}")?;
            }
        }
        ensure!(missed.is_empty(), "{} targets missed", missed.len());
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "",
            "sent by attackers",
            "they were told",
            "healthy p50 / p99 / max ms",
            "p99 ratio",
            "healthy failed",
            "memory now / peak MB",
            "growth MB",
        ]);
        for phase in &self.phases {
            let (healthy, tally) = (&phase.healthy, phase.attack.as_ref().map(|(_, tally)| tally));
            table.add_row([
                phase.name().to_owned(),
                tally.map(Tally::sent).unwrap_or_default(),
                tally.map(Tally::told).unwrap_or_default(),
                format!("{:.1} / {:.1} / {:.0}", healthy.all.p50_ms, healthy.all.p99_ms, healthy.all.max_ms),
                format!("{:.2}", self.ratio(phase)),
                format!("{} of {}", healthy.errors.count, healthy.all.count),
                format!("{} / {}", megabytes(phase.memory_now), megabytes(phase.memory_peak)),
                megabytes(self.growth(phase)).to_string(),
            ]);
        }
        table
    }

    fn to_json(&self, missed: &[String]) -> serde_json::Value {
        let phases: Vec<_> = self
            .phases
            .iter()
            .map(|phase| {
                let tally = phase.attack.as_ref().map(|(_, tally)| tally.to_json());
                serde_json::json!({
                    "phase": phase.name(), "attackers": tally, "p50Ms": phase.healthy.all.p50_ms,
                    "p99Ms": phase.healthy.all.p99_ms, "maxMs": phase.healthy.all.max_ms,
                    "p99Ratio": self.ratio(phase), "healthyRequests": phase.healthy.all.count,
                    "healthyFailed": phase.healthy.errors.count, "memoryNowBytes": phase.memory_now,
                    "driverLatenessP99Ms": phase.healthy.lateness.p99_ms,
                    "memoryPeakBytes": phase.memory_peak, "growthBytes": self.growth(phase),
                })
            })
            .collect();
        serde_json::json!({ "quietP99Ms": self.quiet_p99_ms(), "phases": phases, "missed": missed })
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        self.attack.as_ref().map_or("quiet", |(attack, _)| attack.name())
    }
}

const fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}
