//! Storing jobs: one a commit by one client and by sixteen, and a thousand a statement.
//!
//! Every client has a connection of its own, stores jobs as the API does, and wakes the workers after each commit. A
//! worker process is there and idle: its queue is paused, so it looks at every signal and finds nothing to do.

use std::time::Duration;

use anyhow::ensure;
use queue::{NewJob, Queue, Scope};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, Sample};
use crate::fleet::{Fleet, FleetSettings};
use crate::kinds::Noop;
use crate::machine;

/// How long jobs are stored in one run.
const STORE_FOR: Duration = Duration::from_secs(4);
/// Jobs in one statement.
const BULK: u64 = 1_000;

/// Who stores jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// So many clients, a commit for each job.
    Single(usize),
    /// So many clients, and a worker that runs the jobs meanwhile.
    Worked(usize),
    /// One client, a statement for a thousand jobs.
    Bulk,
}

impl Clients {
    const fn figure(self) -> &'static str {
        match self {
            Self::Single(1) => "enqueue_1",
            Self::Single(_) => "enqueue_16",
            Self::Worked(_) => "enqueue_16_worked",
            Self::Bulk => "enqueue_bulk",
        }
    }

    const fn count(self) -> usize {
        match self {
            Self::Single(count) | Self::Worked(count) => count,
            Self::Bulk => 1,
        }
    }
}

/// Stores for a while, `runs` times from an empty start.
///
/// # Errors
/// When the database refuses, or not all jobs are there afterwards.
pub async fn run(bench: &Bench<'_>, clients: Clients, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for run in 1..=runs {
        bench.progress.step(clients.figure(), run, runs);
        bench.empty().await?;
        samples.push(store(bench, clients).await?);
    }
    bench.empty().await?;
    Ok(samples)
}

async fn store(bench: &Bench<'_>, clients: Clients) -> anyhow::Result<Sample> {
    let pool = &bench.database.pool;
    if !matches!(clients, Clients::Worked(_)) {
        let mut conn = pool.acquire().await?;
        queue::pause(&mut conn, &Scope { queue: Queue::Enrich, kind: None }, "bench").await?;
    }
    let settings = FleetSettings { tell: false, ..FleetSettings::slots(100) };
    let fleet = Fleet::start(settings, &bench.database.url, pool, bench.server.folder()).await?;
    bench.settle().await?;

    let us = std::process::id();
    let cpu_before = bench.cpu_with(machine::process_cpu_s(us).unwrap_or_default())?;
    let began = Instant::now();
    let until = began + STORE_FOR;
    let mut storing = JoinSet::new();
    for client in 0..clients.count() {
        let mut conn = pool.acquire().await?;
        let waker = bench.waker.clone();
        storing.spawn(async move {
            let mut stored: u64 = 0;
            while Instant::now() < until {
                let batch = if clients == Clients::Bulk { BULK } else { 1 };
                if batch == 1 {
                    queue::enqueue(&mut conn, NewJob::of(&Noop { i: client as u64 })?).await?;
                } else {
                    let jobs: Result<Vec<NewJob>, _> = (0..batch).map(|i| NewJob::of(&Noop { i })).collect();
                    queue::enqueue_many(&mut conn, jobs?).await?;
                }
                waker.wake(Queue::Enrich);
                stored += batch;
            }
            Ok::<u64, queue::Error>(stored)
        });
    }
    let mut stored = 0;
    while let Some(client) = storing.join_next().await {
        stored += client??;
    }
    let took = began.elapsed().as_secs_f64();
    let cores = bench.cpu_with(machine::process_cpu_s(us).unwrap_or_default())?.since(cpu_before, took);
    fleet.stop().await?;
    let there = i64::try_from(stored)?;
    let found = count(bench).await?;
    ensure!(found == there, "{found} jobs are there of {there} that were stored");
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    Ok(Sample::new(clients.figure(), stored as f64 / took).with(cores))
}

/// Jobs that are there, finished or not.
async fn count(bench: &Bench<'_>) -> anyhow::Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select (select count(*) from jobs) + (select count(*) from jobs_finished) as "count!""#
    )
    .fetch_one(&bench.database.pool)
    .await?;
    Ok(count)
}
