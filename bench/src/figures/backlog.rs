//! How long a claim takes at a backlog, whatever the planner knows of it.
//!
//! A claim is a turn as a worker takes it: it acknowledges the last fifty jobs, claims the next fifty, and looks at all jobs
//! twice a second, else at the younger ones. Statistics are fresh (analyzed as it stands), stale (analyzed when the queue
//! held a thousand jobs) or none; nobody vacuums or analyzes while they are. Without a backlog each claim finds the fifty jobs
//! that were stored just before it.

use queue::{Acknowledgement, End, Job, KnownLanes, NewJob, ProcessInfo, Queue, Settlement, Shares, Turn};
use sqlx::raw_sql;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Bench, Sample, drain, pickup::quantile_ms};
use crate::kinds::Noop;

/// Jobs claimed in one turn: the slots that a worker has by default.
const CLAIMED: usize = 50;
/// Turns in one run.
const TURNS: usize = 1_000;
/// The jobs that were there when stale statistics were taken.
const ONCE: u64 = 1_000;
/// Rows made by one statement.
const CHUNK: i64 = 500_000;

/// What the planner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistics {
    Stale,
    None,
    Fresh,
}

/// Claims at a backlog of so many jobs; `runs` times for each kind of statistics.
///
/// # Errors
/// When a claim finds fewer jobs than there are.
pub async fn run(bench: &Bench<'_>, backlog: u64, runs: usize) -> anyhow::Result<Vec<Sample>> {
    bench.empty().await?;
    raw_sql("alter table jobs set (autovacuum_enabled = off)").execute(&bench.database.pool).await?;
    let samples = claims(bench, backlog, runs).await;
    raw_sql("alter table jobs reset (autovacuum_enabled)").execute(&bench.database.pool).await?;
    bench.empty().await?;
    samples
}

async fn claims(bench: &Bench<'_>, backlog: u64, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    // Fresh comes last, because what was analyzed does not become stale again.
    for statistics in [Statistics::Stale, Statistics::None, Statistics::Fresh] {
        prepare(bench, backlog, statistics).await?;
        for run in 1..=runs {
            let figure = figure(backlog, statistics);
            bench.progress.step(figure, run, runs);
            samples.push(Sample::new(figure, claim_p99_ms(bench, backlog > 0).await?));
        }
    }
    Ok(samples)
}

async fn prepare(bench: &Bench<'_>, backlog: u64, statistics: Statistics) -> anyhow::Result<()> {
    let pool = &bench.database.pool;
    match statistics {
        Statistics::Stale => {
            drain::fill(bench, ONCE).await?;
            raw_sql("analyze jobs").execute(pool).await?;
            if backlog == 0 {
                raw_sql("truncate jobs").execute(pool).await?;
            }
            let until = i64::try_from(backlog)?;
            for from in (i64::try_from(ONCE)?..until).step_by(usize::try_from(CHUNK)?) {
                bench.progress.say(format!("adding ready jobs: {from} of {until}"));
                let last = until.min(from + CHUNK) - 1;
                sqlx::query_file!("src/figures/ready_rows.sql", from, last).execute(pool).await?;
            }
        }
        Statistics::None => {
            // What the claims before left behind is not what is measured here.
            raw_sql("vacuum jobs").execute(pool).await?;
            sqlx::query!("delete from pg_statistic where starelid = 'jobs'::regclass").execute(pool).await?;
            sqlx::query!("update pg_class set reltuples = -1, relpages = 0 where oid = 'jobs'::regclass")
                .execute(pool)
                .await?;
        }
        Statistics::Fresh => {
            bench.progress.say("analyzing");
            raw_sql("vacuum (analyze) jobs").execute(pool).await?;
        }
    }
    raw_sql("checkpoint").execute(pool).await?;
    Ok(())
}

/// Takes turns on a session of its own, which has planned nothing yet.
async fn claim_p99_ms(bench: &Bench<'_>, has_backlog: bool) -> anyhow::Result<f64> {
    let pool = bench.database.pool.another(1);
    let info = ProcessInfo {
        host: "bench".to_owned(),
        pid: std::process::id(),
        slots: [(Queue::Enrich, CLAIMED)].into(),
        kinds: vec![<Noop as Job>::KIND],
    };
    let process = queue::register(&pool, &info).await?;
    let mut conn = pool.acquire().await?;
    let (shares, mut lane_after) = (Shares::default(), Uuid::nil());
    let (mut since, mut looked_at_all) = (None, Instant::now());
    let mut acknowledgements: Vec<Acknowledgement> = Vec::new();
    let mut took_us = Vec::with_capacity(TURNS);
    for _ in 0..TURNS {
        if !has_backlog {
            let jobs: Result<Vec<NewJob>, _> = (0..CLAIMED as u64).map(|i| NewJob::of(&Noop { i })).collect();
            queue::enqueue_many(&mut conn, jobs?).await?;
        }
        let turn = Turn {
            process,
            queue: Queue::Enrich,
            count_max: CLAIMED,
            shares: &shares,
            lane_after,
            since: since.filter(|_| looked_at_all.elapsed() < workers::LOOK_AT_ALL_EVERY),
            lanes: &KnownLanes::default(),
            acknowledgements: &acknowledgements,
        };
        let began = Instant::now();
        let answer = queue::turn(&mut conn, &turn).await?;
        took_us.push(u64::try_from(began.elapsed().as_micros())?);
        anyhow::ensure!(
            answer.claimed.len() == CLAIMED,
            "{} jobs were claimed of {CLAIMED}",
            answer.claimed.len()
        );
        lane_after = answer.lane_after;
        if turn.since.is_none() {
            (since, looked_at_all) = (answer.since, began);
        }
        acknowledgements = answer
            .claimed
            .iter()
            .map(|job| Acknowledgement {
                lease: job.lease,
                row: job.row,
                settlement: Settlement::End(End::Completed(None), None),
            })
            .collect();
    }
    queue::settle(&bench.database.pool, &acknowledgements).await?;
    queue::unregister(&mut conn, process).await?;
    drop(conn);
    pool.close().await;
    Ok(quantile_ms(&mut took_us, 0.99))
}

const fn figure(backlog: u64, statistics: Statistics) -> &'static str {
    match (backlog, statistics) {
        (0, Statistics::Fresh) => "claim_p99_0_fresh",
        (0, Statistics::Stale) => "claim_p99_0_stale",
        (0, Statistics::None) => "claim_p99_0_none",
        (1_000_000, Statistics::Fresh) => "claim_p99_1m_fresh",
        (1_000_000, Statistics::Stale) => "claim_p99_1m_stale",
        (1_000_000, Statistics::None) => "claim_p99_1m_none",
        (_, Statistics::Fresh) => "claim_p99_10m_fresh",
        (_, Statistics::Stale) => "claim_p99_10m_stale",
        (_, Statistics::None) => "claim_p99_10m_none",
    }
}
