//! Handlers that hold on to their thread, and handlers that never return, several at once.

use anyhow::ensure;
use queue::{NewJob, TIMEOUT};

use crate::faults::kinds::{Block, Never};
use crate::faults::ledger::Expected;
use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// Of each kind as many at once as leave the runtime's threads something to run the others on.
const AT_ONCE: usize = 4;

/// One process whose handlers misbehave; its heartbeat goes on, and the others' jobs are done as ever.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (rounds, hold_ms, rate) = stage.size.of((2, 2_500, 40), (20, 5_000, 400));
    let mut play = Play::begin(&stage).await?;
    let spec = WorkerSpec { slots: 16, lease_ms: 2_000, ..play.spec() };
    play.start(&spec, 1).await?;
    let before = play.incarnation(0).await?;
    let load = play.load(rate, 5).await?;
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..rounds {
        let mut jobs = Vec::new();
        for number in 0..AT_ONCE {
            // One of them computes; a machine with few cores is busy with it, and everybody else shares the rest.
            jobs.push(NewJob::of(&Block { hold_ms, busy: number == 0 })?);
            jobs.push(NewJob::of(&Never {})?);
        }
        play.accept(jobs, Expected::Failed(TIMEOUT)).await?;
        let back = load.full_rate(FULL_RATE_WITHIN).await?;
        slowest = slowest.max(back);
        play.tell(round + 1, rounds, "rounds of handlers that block or never return", Some(&load));
    }
    load.end().await?;
    play.drained().await?;
    ensure!(play.incarnation(0).await? == before, "the heartbeat was starved: the process lost its leases");
    play.note("blocking and endless handlers at once", format!("{AT_ONCE} each, {rounds} times"));
    play.note("full rate while they run, slowest", format!("{:.1} s", slowest.as_secs_f64()));
    play.end().await
}
