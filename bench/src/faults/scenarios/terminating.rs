//! Every connection to the database ended by an administrator, again and again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::faults::stage::{FULL_RATE_WITHIN, Play, Report, Stage};

const EVERY: Duration = Duration::from_secs(2);

/// All connections, those of the client that stores jobs included, are terminated every two seconds.
pub(super) async fn play(stage: Stage) -> anyhow::Result<Report> {
    let (rounds, rate) = stage.size.of((2, 50), (60, 600));
    let mut play = Play::begin(&stage).await?;
    play.ledger.leases_get_lost();
    let spec = play.spec();
    play.start(&spec, 3).await?;
    let load = play.load(rate, 5).await?;
    let mut next = Instant::now();
    let mut terminated = 0;
    for round in 0..rounds {
        terminated += terminate_all(&play).await?;
        play.all_alive()?;
        play.tell(round + 1, rounds, "times all connections terminated", Some(&load));
        next += EVERY;
        sleep_until(next).await;
    }
    let back = load.full_rate(FULL_RATE_WITHIN).await?;
    play.note("terminations", format!("{rounds} rounds, {terminated} connections"));
    play.note("full rate after the last", format!("{:.1} s", back.as_secs_f64()));
    load.end().await?;
    play.end().await
}

#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn terminate_all(play: &Play) -> anyhow::Result<i64> {
    let terminate = "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                     where datname = current_database() and backend_type = 'client backend'
                       and pid <> pg_backend_pid()";
    play.asked(async |pool| sqlx::query_scalar(terminate).fetch_one(pool).await).await
}
