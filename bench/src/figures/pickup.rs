//! Pickup: the time from the moment before a job is stored until its body begins.
//!
//! The jobs are stored 30 ms apart. Idle, there is nothing else; busy, jobs that do nothing are stored and run beside them
//! at half the rate at which they were drained just before.

use std::time::Duration;

use anyhow::ensure;
use queue::{NewJob, Queue, Waker};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Bench, Sample, drain};
use crate::fleet::{Fleet, FleetSettings};
use crate::kinds::{Noop, Pickup};
use crate::machine;
use crate::worker::Told;

/// Jobs whose wait is measured in one run.
pub const JOBS: usize = 300;
/// The time between two of them.
pub const EVERY: Duration = Duration::from_millis(30);
/// How long an idle worker is watched.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// The time between two batches of the load.
const LOAD_EVERY: Duration = Duration::from_millis(10);
/// Jobs drained to know the full rate.
const DRAINED: u64 = 100_000;
/// Longest wait for the last of them.
const FINISH_MAX: Duration = Duration::from_secs(60);

/// What else goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing; jobs are stored by another process than the worker's.
    Nothing,
    /// Nothing; jobs are stored in the worker's process, which wakes its pool directly.
    NothingSameProcess,
    /// Half the load that the worker can take.
    HalfLoad,
}

/// Measures `runs` times from an empty start.
///
/// # Errors
/// When not every job was picked up.
pub async fn run(bench: &Bench<'_>, beside: Beside, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let (p50, p99) = match beside {
        Beside::Nothing => ("pickup_p50", "pickup_p99"),
        Beside::NothingSameProcess => ("pickup_same_process_p50", "pickup_same_process_p99"),
        Beside::HalfLoad => ("pickup_busy_p50", "pickup_busy_p99"),
    };
    let mut samples = Vec::new();
    for run in 1..=runs {
        bench.progress.step(p50, run, runs);
        bench.empty().await?;
        let told = match beside {
            Beside::Nothing | Beside::NothingSameProcess => idle(bench, beside, &mut samples).await?,
            Beside::HalfLoad => busy(bench).await?,
        };
        let mut waits = told.waits_us;
        ensure!(waits.len() == JOBS, "{} of {JOBS} jobs were picked up", waits.len());
        samples.push(Sample::new(p50, quantile_ms(&mut waits, 0.5)));
        samples.push(Sample::new(p99, quantile_ms(&mut waits, 0.99)));
    }
    bench.empty().await?;
    Ok(samples)
}

async fn idle(bench: &Bench<'_>, beside: Beside, samples: &mut Vec<Sample>) -> anyhow::Result<Told> {
    let pool = &bench.database.pool;
    bench.settle().await?;
    let settings = FleetSettings {
        tell: false,
        stores: beside == Beside::NothingSameProcess,
        ..FleetSettings::slots(10)
    };
    let fleet = Fleet::start(settings, &bench.database.url, pool, bench.server.folder()).await?;
    if beside == Beside::Nothing {
        // What starting costs is not what idling costs.
        sleep(Duration::from_millis(500)).await;
        let (before, began) = (bench.cpu(&fleet)?, Instant::now());
        sleep(IDLE_FOR).await;
        let cores = bench.cpu(&fleet)?.since(before, began.elapsed().as_secs_f64());
        samples.push(Sample::new("idle_cpu", cores.client * 100.0).with(cores));
        store_pickups(bench).await?;
    }
    wait_finished(bench).await?;
    fleet.stop().await
}

async fn busy(bench: &Bench<'_>) -> anyhow::Result<Told> {
    let full = drain::drain(bench, FleetSettings::slots(500), DRAINED).await?.jobs_per_s;
    bench.empty().await?;
    bench.settle().await?;
    let pool = &bench.database.pool;
    let fleet =
        Fleet::start(FleetSettings::slots(500), &bench.database.url, pool, bench.server.folder()).await?;
    let stop = CancellationToken::new();
    let load = tokio::spawn(load(bench.database.pool.clone(), bench.waker.clone(), full / 2.0, stop.clone()));
    // The load has settled by then.
    sleep(Duration::from_secs(1)).await;
    store_pickups(bench).await?;
    let executed = fleet.executed();
    stop.cancel();
    let (stored, seconds) = load.await??;
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let (rate, behind) = (stored as f64 / seconds, stored.saturating_sub(executed) as f64);
    bench.progress.leave(format!(
        "pickup_busy: {rate:.0} jobs/s beside, {:.0}% of {full:.0}; {behind:.0} jobs waiting at the end",
        rate / full * 100.0
    ));
    ensure!(behind < rate, "the worker did not keep up with half its rate: {behind:.0} jobs behind");
    wait_finished(bench).await?;
    fleet.stop().await
}

/// Stores the jobs whose waits are measured.
async fn store_pickups(bench: &Bench<'_>) -> anyhow::Result<()> {
    let mut conn = bench.database.pool.acquire().await?;
    store(&mut conn, &bench.waker).await
}

/// The same from within a worker process.
///
/// # Errors
/// When the database refuses.
pub async fn store(conn: &mut db::Connection, waker: &Waker) -> anyhow::Result<()> {
    for _ in 0..JOBS {
        let stored_at_us = machine::monotonic_us();
        queue::enqueue(conn, NewJob::of(&Pickup { stored_at_us })?).await?;
        waker.wake(Queue::Enrich);
        sleep(EVERY).await;
    }
    Ok(())
}

/// Stores jobs that do nothing, so many a second, until it is told to stop. Answers how many, and in how many seconds.
async fn load(
    pool: db::Pool,
    waker: Waker,
    per_s: f64,
    stop: CancellationToken,
) -> anyhow::Result<(u64, f64)> {
    let mut conn = pool.acquire().await?;
    let mut every = interval(LOAD_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut stored: u64 = 0;
    while !stop.is_cancelled() {
        every.tick().await;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of jobs")]
        let due = (began.elapsed().as_secs_f64() * per_s) as u64;
        if due > stored {
            let jobs: Result<Vec<NewJob>, _> = (stored..due).map(|i| NewJob::of(&Noop { i })).collect();
            queue::enqueue_many(&mut conn, jobs?).await?;
            waker.wake(Queue::Enrich);
            stored = due;
        }
    }
    Ok((stored, began.elapsed().as_secs_f64()))
}

async fn wait_finished(bench: &Bench<'_>) -> anyhow::Result<()> {
    let began = Instant::now();
    let measured = i64::try_from(JOBS)?;
    loop {
        let finished = sqlx::query_scalar!(
            r#"select count(*) as "count!" from jobs_finished where kind = 'bench.pickup'"#
        )
        .fetch_one(&bench.database.pool)
        .await?;
        if finished >= measured {
            return Ok(());
        }
        ensure!(began.elapsed() < FINISH_MAX, "{finished} of {JOBS} jobs were finished after {FINISH_MAX:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The least value that so much of the values do not exceed, in milliseconds.
pub fn quantile_ms(values_us: &mut [u64], share: f64) -> f64 {
    values_us.sort_unstable();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few thousand values"
    )]
    let at = ((values_us.len() as f64 * share) as usize).min(values_us.len().saturating_sub(1));
    #[allow(clippy::cast_precision_loss, reason = "microseconds of a run")]
    values_us.get(at).map_or(f64::NAN, |value| *value as f64 / 1_000.0)
}
