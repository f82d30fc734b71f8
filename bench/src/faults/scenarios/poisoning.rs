//! Jobs that take every worker down that runs them.

use std::time::Duration;

use anyhow::{Context, ensure};
use queue::{NewJob, TAKEN_BACK_MAX, WORKER_LOST};
use tokio::time::{Instant, sleep};

use crate::faults::kinds::Abort;
use crate::faults::ledger::Expected;
use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// The longest time until a job that kills its worker is given up: three leases and sweeps, and some more.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(30);

/// Workers that are started again whenever they die, a load, and jobs that abort the process.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (poisons, rate) = stage.size.of((1, 40), (10, 400));
    let mut play = Play::begin(&stage).await?;
    // A machine that is busy with other tests must not be taken for one more dead worker.
    let spec = WorkerSpec { lease_ms: 2_000, ..play.spec() };
    play.start(&spec, 3).await?;
    let load = play.load(rate, 20).await?;
    let mut deaths = 0;
    for poison in 0..poisons {
        let job = NewJob::of(&Abort {})?;
        let id = job.job();
        play.accept(vec![job], Expected::Failed(WORKER_LOST)).await?;
        let began = Instant::now();
        while !play.has_ended(id).await? {
            ensure!(began.elapsed() < GIVEN_UP_WITHIN, "a job that kills workers is not given up");
            for position in 0..play.workers.len() {
                if play.workers[position].ended()?.is_some() {
                    deaths += 1;
                    play.replace(position, &spec)?;
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        play.tell(poison + 1, poisons, "poisonous jobs given up", Some(&load));
    }
    let back = load.full_rate(FULL_RATE_WITHIN).await.context("the fleet goes on")?;
    let expected = poisons * usize::try_from(TAKEN_BACK_MAX).unwrap_or_default();
    ensure!(deaths == expected, "{deaths} workers died of {poisons} jobs, and not {expected}");
    play.note("poisonous jobs", format!("{poisons}, {deaths} workers died of them"));
    play.note("full rate after the last", format!("{:.1} s", back.as_secs_f64()));
    load.end().await?;
    play.end().await
}
