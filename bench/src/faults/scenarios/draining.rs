//! Workers that are told to stop while they run jobs.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// Well above the jobs of the load.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// SIGTERM under load: what runs is finished, nothing runs twice, others go on.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (stops, rate) = stage.size.of((3, 40), (50, 200));
    let mut play = Play::begin(&stage).await?;
    let spec = WorkerSpec { slots: 30, ..play.calm_spec() };
    play.start(&spec, 3).await?;
    let load = play.load(rate, 300).await?;
    let mut slowest = Duration::ZERO;
    for stop in 0..stops {
        let position = stop % play.workers.len();
        play.workers[position].signal(Signal::SIGTERM)?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = play.workers[position].ended()? {
                break status;
            }
            ensure!(began.elapsed() < ENDED_WITHIN, "a worker did not end after its jobs had");
            sleep(Duration::from_millis(10)).await;
        };
        ensure!(status.success(), "a worker ended badly: {status}\n{}", play.workers[position].last_words());
        slowest = slowest.max(began.elapsed());
        play.replace(position, &spec)?;
        play.incarnation(position).await?;
        play.tell(stop + 1, stops, "workers told to stop", Some(&load));
    }
    load.full_rate(FULL_RATE_WITHIN).await?;
    play.note("workers told to stop", stops.to_string());
    play.note("ended after, slowest", format!("{:.1} s", slowest.as_secs_f64()));
    load.end().await?;
    let report = play.end().await?;
    let (started, starts) = report.findings.started;
    ensure!(started == starts, "{} jobs ran twice", starts - started);
    Ok(report)
}
