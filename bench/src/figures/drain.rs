//! Drains: how fast worker processes empty a queue of jobs that do nothing.
//!
//! The clock runs from the moment the queue is resumed, with all workers registered and waiting, until no job is
//! unfinished. Afterwards the rows of history are counted: not one job more or less.

use std::time::Duration;

use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use queue::{NewJob, Queue, Scope};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Bench, Cores, Sample};
use crate::fleet::{Fleet, FleetSettings};
use crate::kinds::Noop;
use crate::machine;

/// Jobs in one statement when the queue is filled.
const FILL_BATCH: u64 = 1_000;
/// Longest drain.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// Jobs of a drain whose figures are published.
const JOBS: u64 = 200_000;
/// Of one that acknowledges each job on its own.
const JOBS_ONE_BY_ONE: u64 = 30_000;

/// How the workers of a drain are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One process with so many slots.
    Slots(usize),
    /// Two processes with 500 slots each.
    TwoWorkers,
    /// Each job is acknowledged on its own, in statements on 16 connections.
    OneByOne,
}

impl Shape {
    /// The workers.
    pub const fn fleet(self) -> FleetSettings {
        match self {
            Self::Slots(slots) => FleetSettings::slots(slots),
            Self::TwoWorkers => FleetSettings { processes: 2, ..FleetSettings::slots(500) },
            Self::OneByOne => FleetSettings {
                acknowledged_max: Some(1),
                connections: Some(16),
                ..FleetSettings::slots(100)
            },
        }
    }

    const fn figure(self) -> &'static str {
        match self {
            Self::Slots(10) => "drain_10",
            Self::Slots(100) => "drain_100",
            Self::Slots(1_000) => "drain_1000",
            Self::Slots(_) => "drain_500",
            Self::TwoWorkers => "drain_two_workers",
            Self::OneByOne => "drain_one_by_one",
        }
    }
}

/// Drains `runs` times from an empty start.
///
/// # Errors
/// As [`drain`].
pub async fn run(bench: &Bench<'_>, shape: Shape, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let jobs = if shape == Shape::OneByOne { JOBS_ONE_BY_ONE } else { JOBS };
    let mut samples = Vec::new();
    for run in 1..=runs {
        bench.progress.step(shape.figure(), run, runs);
        bench.empty().await?;
        let drained = drain(bench, shape.fleet(), jobs).await?;
        samples.push(Sample::new(shape.figure(), drained.jobs_per_s).with(drained.cores));
        if shape == Shape::Slots(500) {
            samples.push(Sample::new("wal_per_job", drained.wal_bytes_per_job));
            samples.push(Sample::new("dead_rows_per_job", drained.dead_rows_per_job));
            samples.push(Sample::new("worker_memory", drained.memory_bytes / (1024.0 * 1024.0)));
        }
    }
    Ok(samples)
}

/// What one drain came to.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    /// Jobs finished in a second.
    pub jobs_per_s: f64,
    /// Processor time used meanwhile, in cores.
    pub cores: Cores,
    /// Write-ahead log, in bytes for each job.
    pub wal_bytes_per_job: f64,
    /// Dead row versions for each job.
    pub dead_rows_per_job: f64,
    /// The most memory of one worker process, in bytes.
    pub memory_bytes: f64,
}

/// Fills the queue and drains it.
///
/// # Errors
/// When it is not drained in time, or not exactly.
pub async fn drain(bench: &Bench<'_>, fleet: FleetSettings, jobs: u64) -> anyhow::Result<Drained> {
    drain_telling(bench, fleet, jobs, &watch::Sender::new(false)).await
}

/// The same; tells those who are to do something beside it while it drains.
///
/// # Errors
/// As [`drain`].
pub async fn drain_telling(
    bench: &Bench<'_>,
    fleet: FleetSettings,
    jobs: u64,
    drains: &watch::Sender<bool>,
) -> anyhow::Result<Drained> {
    let pool = &bench.database.pool;
    let scope = Scope { queue: Queue::Enrich, kind: None };
    {
        let mut conn = pool.acquire().await?;
        queue::pause(&mut conn, &scope, "bench").await?;
    }
    fill(bench, jobs).await?;
    let mut fleet = Fleet::start(fleet, &bench.database.url, pool, bench.server.folder()).await?;
    bench.settle().await?;

    let (dead_before, since) = (machine::dead_rows(pool).await?, now(bench).await?);
    let cpu_before = bench.cpu(&fleet)?;
    let wal_before = machine::wal_bytes(pool).await?;
    let began = Instant::now();
    {
        let mut conn = pool.acquire().await?;
        queue::resume(&mut conn, &scope).await?;
    }
    bench.waker.wake(Queue::Enrich);
    drains.send_replace(true);
    while fleet.executed() < jobs || is_unfinished(bench).await? {
        sleep(Duration::from_millis(2)).await;
        if began.elapsed() > DRAIN_MAX {
            bail!("{} of {jobs} jobs had run after {DRAIN_MAX:?}", fleet.executed());
        }
        fleet.check()?;
    }
    drains.send_replace(false);
    let took = began.elapsed().as_secs_f64();
    let cores = bench.cpu(&fleet)?.since(cpu_before, took);
    let wal = machine::wal_bytes(pool).await? - wal_before;
    let memory = fleet.memory_peak_bytes();
    let told = fleet.stop().await?;
    let finished = finished(bench, since).await?;
    ensure!(finished == i64::try_from(jobs)?, "{finished} jobs were finished, of {jobs}");
    ensure!(told.executed == jobs, "{} bodies ran for {jobs} jobs", told.executed);
    let dead = machine::dead_rows(pool).await? - dead_before;
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let per_job = |count: u64| count as f64 / jobs as f64;
    Ok(Drained {
        jobs_per_s: 1.0 / per_job(1) / took,
        cores,
        wal_bytes_per_job: per_job(wal),
        dead_rows_per_job: per_job(dead),
        memory_bytes: per_job(memory) / per_job(1),
    })
}

/// Stores jobs that do nothing.
///
/// # Errors
/// When the database refuses.
pub async fn fill(bench: &Bench<'_>, jobs: u64) -> anyhow::Result<()> {
    let mut conn = bench.database.pool.acquire().await?;
    for from in (0..jobs).step_by(usize::try_from(FILL_BATCH)?) {
        let batch: Result<Vec<NewJob>, _> =
            (from..jobs.min(from + FILL_BATCH)).map(|i| NewJob::of(&Noop { i })).collect();
        queue::enqueue_many(&mut conn, batch?).await?;
    }
    Ok(())
}

/// Asked in the order of an index, so that it stays cheap whatever else the table holds.
async fn is_unfinished(bench: &Bench<'_>) -> anyhow::Result<bool> {
    let is = sqlx::query_scalar!(
        r#"select (
               (select id from jobs where state = 'running' order by leased_by limit 1) is not null
               or (select id from jobs where state = 'ready' order by lane, priority, run_at, id limit 1) is not null
           ) as "is!""#
    )
    .fetch_one(&bench.database.pool)
    .await?;
    Ok(is)
}

/// Jobs of the measured kind that completed since then.
async fn finished(bench: &Bench<'_>, since: DateTime<Utc>) -> anyhow::Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from jobs_finished
           where finished_at >= $1 and kind = 'bench.noop' and ended = 'completed'"#,
        since,
    )
    .fetch_one(&bench.database.pool)
    .await?;
    Ok(count)
}

/// By the database's clock.
async fn now(bench: &Bench<'_>) -> anyhow::Result<DateTime<Utc>> {
    Ok(sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&bench.database.pool).await?)
}
