//! `bench -- limits`: limits of every shape under worker processes that are killed, counted by the other side.
//!
//! Four kinds of jobs call a counter on this machine, each against a limit of its own: so many calls in a vendor's
//! window, so many in a second, so many at once, so much money in a day. There are always more jobs than the limits
//! allow, so that every permit that is not used was wasted, unless it died with a process.

mod accounts;
mod counter;
mod kinds;
mod report;
pub mod worker;

use std::time::Duration;

use anyhow::{Context, ensure};
use db::Pool;
use queue::{
    NewJob,
    limits::{Limit, Period, Shape, define},
};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    limits::{
        accounts::Accounts,
        counter::Counter,
        kinds::{BUDGET, CALLS, COST, Call, Order, PER_SECOND, SLOTS, Slot, Tick},
        worker::WorkerProcess,
    },
    server::{ServerArgs, TestServer},
};

/// How limits are tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// The window of the 300 calls, in seconds; a vendor's 15 minutes, shortened.
    #[arg(long, default_value_t = 15)]
    pub window_s: u64,
    /// How long a call takes of which there may be so many at once, in milliseconds; passing a slot on takes some 6 ms, which
    /// short calls feel more.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub slot_ms: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 4)]
    pub processes: usize,
    /// Kill nobody.
    #[arg(long)]
    pub no_kills: bool,
    /// One JSON document instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Calls in the vendor's window.
const CALLS_MAX: i64 = 300;
/// Calls in a second.
const PER_SECOND_MAX: i64 = 60;
/// Calls at once.
const SLOTS_MAX: i64 = 20;
/// Units in a day.
const BUDGET_MAX: i64 = 1_000;
/// A process is killed after at least this long, and at the most twice as long.
const KILL_EVERY: Duration = Duration::from_millis(1_500);

/// Runs it and prints the table.
///
/// # Errors
/// When a limit was exceeded or poorly used, after the table; or when it could not be tried.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let server = TestServer::open(&args.server).await?;
    let tried = attempt(&args, &server).await;
    let closed = server.close().await;
    let report = tried?;
    closed?;
    report.print(args.json)?;
    ensure!(report.is_good(), "a limit was exceeded, or less than 95% of its permits were used");
    Ok(())
}

async fn attempt(args: &Args, server: &TestServer) -> anyhow::Result<report::Report> {
    let database = server.fresh_database("millpond_bench_limits").await?;
    let pool = database.pool.clone();
    let window = Duration::from_secs(args.window_s.max(1));
    let run = Duration::from_secs(args.seconds).max(window * 2);
    let slot_time = Duration::from_millis(args.slot_ms);
    define(&mut pool.acquire().await?, &limits(window), &[]).await?;
    enqueue(&pool, run, window, slot_time).await?;
    let counter = Counter::start(window, slot_time).await?;
    let start = || WorkerProcess::start(&database.url, counter.address());
    let mut fleet = Vec::new();
    for _ in 0..args.processes {
        fleet.push(start()?);
    }
    wait_for_first(&pool, args.processes).await?;
    let accounts = Accounts::open(pool.clone(), counter.clone());
    let began = Instant::now();
    let ends = began + run;
    let mut kills = 0_u32;
    while Instant::now() < ends {
        sleep_until(ends.min(Instant::now() + KILL_EVERY.mul_f64(rand::rng().random_range(1.0..2.0)))).await;
        if args.no_kills || Instant::now() >= ends {
            continue;
        }
        let at = rand::rng().random_range(0..fleet.len());
        let mut victim = fleet.swap_remove(at);
        victim.kill().await?;
        accounts.died(victim.pid());
        fleet.push(start()?);
        kills += 1;
        eprintln!("{:3.0} s: {kills} killed", began.elapsed().as_secs_f64());
    }
    let accounts = accounts.close().await?;
    for mut process in fleet {
        process.kill().await?;
    }
    Ok(report::Report::of(&accounts, kills, window, began.elapsed()))
}

fn limits(window: Duration) -> [Limit; 4] {
    [
        Limit::new(CALLS, Shape::Rate { max: CALLS_MAX, window }),
        Limit::new(PER_SECOND, Shape::Rate { max: PER_SECOND_MAX, window: Duration::from_secs(1) }),
        Limit::new(SLOTS, Shape::Concurrency { max: SLOTS_MAX }),
        Limit::new(BUDGET, Shape::Budget { max_minor: BUDGET_MAX, period: Period::Day }),
    ]
}

/// More jobs of every kind than its limit allows.
async fn enqueue(pool: &Pool, run: Duration, window: Duration, slot_time: Duration) -> anyhow::Result<()> {
    let windows = run.as_secs_f64() / window.as_secs_f64() + 2.0;
    let slot_calls = (run.as_secs_f64() + 5.0) * SLOTS_MAX as f64 / slot_time.as_secs_f64();
    let mut jobs = Vec::new();
    for _ in 0..(CALLS_MAX as f64 * windows) as usize {
        jobs.push(NewJob::of(&Call {})?);
    }
    for _ in 0..(PER_SECOND_MAX as f64 * (run.as_secs_f64() + 5.0)) as usize {
        jobs.push(NewJob::of(&Tick {})?);
    }
    for _ in 0..slot_calls as usize {
        jobs.push(NewJob::of(&Slot {})?);
    }
    for _ in 0..2 * BUDGET_MAX / COST {
        jobs.push(NewJob::of(&Order {})?);
    }
    eprintln!("{} jobs", jobs.len());
    while !jobs.is_empty() {
        let batch = jobs.drain(..jobs.len().min(1_000)).collect();
        queue::enqueue_many(&mut pool.acquire().await?, batch).await?;
    }
    Ok(())
}

/// Waits until the processes have begun to work.
async fn wait_for_first(pool: &Pool, processes: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let there = sqlx::query_scalar!(r#"select count(*) as "n!" from worker_processes"#);
        if there.fetch_one(pool).await? >= i64::try_from(processes)? {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the worker processes do not register");
        sleep(Duration::from_millis(50)).await;
    }
}

/// This program, for starting it again.
fn this_program() -> anyhow::Result<std::path::PathBuf> {
    std::env::current_exe().context("finding this program")
}
