//! A worker of the next version, which knows one kind more, beside one of the old.

use std::time::Duration;

use anyhow::ensure;
use queue::NewJob;
use tokio::time::{Instant, sleep};

use crate::faults::kinds::Newer;
use crate::faults::ledger::Expected;
use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// Jobs that only the next version knows, first among old workers alone, then beside a new one, then after the old have
/// gone.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (jobs, rate) = stage.size.of((30, 40), (2_000, 400));
    let mut play = Play::begin(&stage).await?;
    let old = play.calm_spec();
    let new = WorkerSpec { next_version: true, ..play.calm_spec() };
    play.start(&old, 2).await?;
    let load = play.load(rate, 5).await?;
    store(&play, jobs).await?;
    let parked =
        within("the old workers to park what they do not know", async || Ok(play.parked().await? > 0));
    parked.await?;
    play.start(&new, 1).await?;
    store(&play, jobs).await?;
    load.full_rate(FULL_RATE_WITHIN).await?;
    // The upgrade goes on: the old ones are replaced one by one.
    for position in 0..2 {
        play.workers[position].signal(nix::sys::signal::Signal::SIGTERM)?;
        let began = Instant::now();
        while play.workers[position].ended()?.is_none() {
            ensure!(began.elapsed() < Duration::from_secs(10), "an old worker does not end");
            sleep(Duration::from_millis(10)).await;
        }
        play.replace(position, &new)?;
        play.incarnation(position).await?;
    }
    store(&play, jobs).await?;
    load.full_rate(FULL_RATE_WITHIN).await?;
    play.note("jobs of the newer kind", (3 * jobs).to_string());
    load.end().await?;
    play.end().await
}

async fn store(play: &Play, count: usize) -> anyhow::Result<()> {
    let jobs = (0..count).map(|_| NewJob::of(&Newer {})).collect::<Result<Vec<_>, _>>()?;
    play.accept(jobs, Expected::Completed).await
}

async fn within(what: &str, holds: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
