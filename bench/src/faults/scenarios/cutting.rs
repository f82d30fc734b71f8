//! A network that cuts connections, falls silent, and loses answers, those to a COMMIT among them.

use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use crate::faults::proxy::{Answer, Proxy, Then};
use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};
use crate::faults::worker::WorkerSpec;

/// Workers reach the server through a proxy that misbehaves once they are at the full rate.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (rounds, rate) = stage.size.of((1, 30), (20, 400));
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let proxy = Proxy::start(&stage.url).await?;
    let spec = WorkerSpec { url: proxy.url().to_owned(), ..play.spec() };
    play.start(&spec, 2).await?;
    let load = play.load(rate, 5).await?;
    let faults: [(&str, Fault); 5] = [
        ("a cut of all connections", Fault::All(Then::Cut)),
        ("silence on all connections", Fault::All(Then::Silence)),
        ("a lost answer to COMMIT, then a cut", Fault::Answer(Answer::ToCommit, Then::Cut)),
        ("a lost answer to COMMIT, then silence", Fault::Answer(Answer::ToCommit, Then::Silence)),
        ("a lost answer to anything, then silence", Fault::Answer(Answer::ToAny, Then::Silence)),
    ];
    let mut slowest = [Duration::ZERO; 5];
    for round in 0..rounds {
        for (number, (what, fault)) in faults.iter().enumerate() {
            fault.make(&proxy).await.with_context(|| (*what).to_owned())?;
            let back = load.full_rate(FULL_RATE_WITHIN).await.with_context(|| format!("after {what}"))?;
            slowest[number] = slowest[number].max(back);
            play.all_alive()?;
            play.tell(
                round * faults.len() + number + 1,
                rounds * faults.len(),
                "network faults",
                Some(&load),
            );
        }
    }
    play.note("network faults", (rounds * faults.len()).to_string());
    for (number, (what, _)) in faults.iter().enumerate() {
        play.note(what, format!("full rate after {:.1} s at the latest", slowest[number].as_secs_f64()));
    }
    load.end().await?;
    play.end().await
}

enum Fault {
    All(Then),
    Answer(Answer, Then),
}

impl Fault {
    async fn make(&self, proxy: &Proxy) -> anyhow::Result<()> {
        /// Answers lost at a time: enough to meet several connections.
        const ANSWERS: usize = 4;
        const WITHIN: Duration = Duration::from_secs(10);
        match self {
            Self::All(then) => proxy.all(*then),
            Self::Answer(answer, then) => {
                proxy.lose(*answer, *then, ANSWERS);
                let began = tokio::time::Instant::now();
                while proxy.to_lose() > 0 {
                    anyhow::ensure!(began.elapsed() < WITHIN, "nothing came by to be lost");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
        Ok(())
    }
}
