//! A drain while an old snapshot stays open, so that no dead row can be removed.

use sqlx::{ConnectOptions as _, Connection as _, raw_sql};

use super::{Bench, Sample, drain};
use crate::fleet::FleetSettings;

/// The first so many jobs, which is what the figure is about: it gets slower from there.
const JOBS: u64 = 100_000;

/// Drains `runs` times from an empty start, each time under a snapshot of its own.
///
/// # Errors
/// As [`drain::drain`].
pub async fn run(bench: &Bench<'_>, runs: usize) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for run in 1..=runs {
        bench.progress.step("drain_snapshot", run, runs);
        bench.empty().await?;
        let options = bench.server.options().clone().database(bench.database.name);
        let mut holder = options.connect().await?;
        raw_sql("begin isolation level repeatable read; select count(*) from jobs")
            .execute(&mut holder)
            .await?;
        let drained = drain::drain(bench, FleetSettings::slots(500), JOBS).await?;
        raw_sql("commit").execute(&mut holder).await?;
        holder.close().await?;
        samples.push(Sample::new("drain_snapshot", drained.jobs_per_s).with(drained.cores));
    }
    Ok(samples)
}
