//! A server that stops in the middle of everything and recovers from its log.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use crate::faults::server::PrivateServer;
use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};

/// Immediate stops and starts, each once the workers are back at the full rate.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (restarts, rate) = stage.size.of((1, 40), (20, 400));
    // A server of its own: others are not to suffer from this.
    let mut server = PrivateServer::start().await?;
    let stage = Stage { url: server.create_database("restarting").await?, sessions: true, ..stage };
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let spec = play.spec();
    play.start(&spec, 2).await?;
    let load = play.load(rate, 5).await?;
    let mut slowest = Duration::ZERO;
    for restart in 0..restarts {
        server.stop_immediately()?;
        sleep(Duration::from_millis(300)).await;
        server.go_on().await?;
        let back = load.full_rate(FULL_RATE_WITHIN).await.context("after a restart of the server")?;
        slowest = slowest.max(back);
        play.all_alive()?;
        play.tell(restart + 1, restarts, "immediate restarts", Some(&load));
    }
    play.note("immediate restarts", restarts.to_string());
    play.note(
        "full rate after the server takes connections, slowest",
        format!("{:.1} s", slowest.as_secs_f64()),
    );
    load.end().await?;
    let report = play.end().await?;
    server.stop().await?;
    Ok(report)
}
