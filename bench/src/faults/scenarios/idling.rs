//! A transaction that somebody forgot: it keeps every row that was ever deleted since from being cleared away.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::faults::stage::{Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// By when everything is done once the transaction has ended.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
/// Jobs that may be waiting or running, in seconds of the load.
const DEPTH_MAX_S: u32 = 3;

/// A load beside an open transaction with a snapshot.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (seconds, rate) = stage.size.of((4, 50), (180, 800));
    let mut play = Play::begin(&stage).await?;
    // Slots for twice the load, though all sessions and the workers share the machine with the server.
    let spec = WorkerSpec { slots: 16, ..play.calm_spec() };
    play.start(&spec, 2).await?;
    let mut idle = db::begin(&play.pool).await?;
    sqlx::raw_sql(
        "set transaction isolation level repeatable read; select pg_current_xact_id(), count(*) from jobs",
    )
    .execute(&mut *idle)
    .await?;
    let load = play.load(rate, 5).await?;
    let began = Instant::now();
    let mut deepest = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        deepest = deepest.max(play.depth().await?);
        #[allow(clippy::cast_possible_truncation, reason = "a few minutes")]
        play.tell(began.elapsed().as_secs() as usize, seconds as usize, "seconds", Some(&load));
        // Counting walks past everything that the transaction keeps: seldom, or it would be the load.
        sleep(Duration::from_secs(1)).await;
    }
    let bound = i64::from(rate * DEPTH_MAX_S);
    ensure!(deepest <= bound, "{deepest} jobs were waiting, more than {bound}");
    load.end().await?;
    idle.rollback().await?;
    let drained = play.drained().await?;
    ensure!(drained <= DRAINED_WITHIN, "not drained within {} s", DRAINED_WITHIN.as_secs());
    play.note("idle transaction open for", format!("{seconds} s at {rate} jobs/s"));
    play.note("jobs waiting or running at the most", deepest.to_string());
    play.end().await
}
