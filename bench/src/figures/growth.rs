//! Growth: the drain beside ten million finished jobs and a million future ones, against the same drain without them.

use anyhow::Context;

use super::{Bench, Sample, drain};
use crate::fleet::FleetSettings;

const FINISHED: i64 = 10_000_000;
const FUTURE: i64 = 1_000_000;
/// Rows made by one statement.
const CHUNK: i64 = 500_000;
/// Jobs of one drain.
const JOBS: u64 = 200_000;

/// Drains `runs` times without and `runs` times with the rows.
///
/// # Errors
/// As [`drain::drain`].
pub async fn run(bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut empty = Vec::new();
    for run in 1..=runs {
        bench.progress.step("drain_grown (still empty)", run, runs);
        bench.empty().await?;
        empty.push(drain::drain(bench, FleetSettings::slots(500), JOBS).await?.jobs_per_s);
    }
    empty.sort_by(f64::total_cmp);
    let usual = *empty.get(runs / 2).context("at least one run")?;
    grow(bench).await?;
    for run in 1..=runs {
        bench.progress.step("drain_grown", run, runs);
        let drained = drain::drain(bench, FleetSettings::slots(500), JOBS).await?;
        samples.push(Sample::new("drain_grown", drained.jobs_per_s).with(drained.cores));
        samples.push(Sample::new("growth", drained.jobs_per_s / usual));
    }
    bench.empty().await?;
    // The space is needed for what comes.
    bench.settle().await?;
    Ok(samples)
}

/// Adds the rows to what the last drain left, as copies of it.
pub(super) async fn grow(bench: &Bench<'_>) -> anyhow::Result<()> {
    let pool = &bench.database.pool;
    for week in 1..=4 {
        sqlx::query!("select create_jobs_finished_partition(now() - $1::integer * interval '7 days')", week)
            .fetch_one(pool)
            .await?;
    }
    for from in (0..FINISHED).step_by(usize::try_from(CHUNK)?) {
        bench.progress.say(format!("adding finished jobs: {from} of {FINISHED}"));
        sqlx::query_file!("src/figures/finished_rows.sql", from, from + CHUNK - 1, FINISHED)
            .execute(pool)
            .await?;
    }
    drain::fill(bench, 1).await?;
    for from in (0..FUTURE).step_by(usize::try_from(CHUNK)?) {
        bench.progress.say(format!("adding future jobs: {from} of {FUTURE}"));
        sqlx::query_file!("src/figures/future_rows.sql", from, from + CHUNK - 1).execute(pool).await?;
    }
    sqlx::query!("delete from jobs where state = 'ready'").execute(pool).await?;
    Ok(())
}
