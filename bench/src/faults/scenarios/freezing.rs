//! Workers stopped for longer than their lease, who wake up and find their jobs taken.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};

/// Longer than a lease and a sweep together.
const DECLARED_DEAD_WITHIN: Duration = Duration::from_secs(20);

/// Three processes under load; one of them stands still until the others have taken its jobs, and then goes on.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (stops, rate) = stage.size.of((2, 40), (50, 600));
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let spec = play.spec();
    play.start(&spec, 3).await?;
    let load = play.load(rate, 20).await?;
    for stop in 0..stops {
        let victim = rand::rng().random_range(0..play.workers.len());
        let before = play.incarnation(victim).await?;
        play.workers[victim].signal(Signal::SIGSTOP)?;
        let began = Instant::now();
        while play.is_registered(before).await? {
            ensure!(
                began.elapsed() < DECLARED_DEAD_WITHIN,
                "a worker that stands still is not declared dead"
            );
            sleep(Duration::from_millis(20)).await;
        }
        // Others run its jobs by now, and it does not know.
        sleep(Duration::from_millis(200)).await;
        play.workers[victim].signal(Signal::SIGCONT)?;
        let after = play.incarnation(victim).await?;
        ensure!(after != before, "it came back as who it was");
        play.tell(stop + 1, stops, "stops and continues", Some(&load));
    }
    let back = load.full_rate(FULL_RATE_WITHIN).await?;
    play.note("stopped past the lease and continued", format!("{stops} times"));
    play.note("full rate after the last", format!("{:.1} s", back.as_secs_f64()));
    load.end().await?;
    play.end().await
}
