//! Workers killed at random, without a word, in the middle of their work.

use std::time::Duration;

use rand::RngExt;
use tokio::time::{Instant, sleep_until};

use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};

/// Four processes; every half second one of them dies and is started again.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (kills, rate, every) =
        stage.size.of((6, 50, Duration::from_millis(500)), (200, 800, Duration::from_millis(625)));
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let spec = play.spec();
    play.start(&spec, 4).await?;
    let load = play.load(rate, 5).await?;
    let mut next = Instant::now();
    for kill in 0..kills {
        next += every;
        sleep_until(next).await;
        let victim = rand::rng().random_range(0..play.workers.len());
        // One that was just started may not have registered yet; then it holds nothing.
        play.incarnation(victim).await?;
        play.workers[victim].kill_9()?;
        play.replace(victim, &spec)?;
        play.tell(kill + 1, kills, "kills", Some(&load));
    }
    let back = load.full_rate(FULL_RATE_WITHIN).await?;
    play.note("kills", kills.to_string());
    play.note("full rate after the last", format!("{:.1} s", back.as_secs_f64()));
    load.end().await?;
    play.end().await
}
