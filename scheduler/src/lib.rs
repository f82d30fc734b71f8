//! Cron lines to jobs: any number of scheduler processes, each tick exactly once.
//!
//! A tick is a job under a unique key made of the schedule's name and the tick's instant, held well past that
//! instant. So whichever process stores it first wins, the others are told that it is there, and a process that
//! was away looks back over [`LOOK_BACK`] and stores what nobody did. The scheduler only stores jobs.

mod schedules;
mod tick;

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Pool;
use kernel::trace::TraceParent;
use queue::{Enqueued, Waker};
use tokio_util::sync::CancellationToken;

pub use schedules::{ALL, Schedule};
pub use tick::{CronError, ticks_between};

/// How far back a starting or delayed process looks for ticks that nobody stored.
pub const LOOK_BACK: Duration = Duration::from_secs(60 * 60);
/// How long after its instant a tick cannot be stored a second time.
const KEY_HELD: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the clock is read. Ticks are at most this late.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A tick could not be stored; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or could not be reached.
    #[error("the tick could not be stored")]
    Queue(#[from] queue::Error),
    /// The database's clock could not be read.
    #[error("the database's clock could not be read")]
    Clock(#[from] sqlx::Error),
    /// A cron line in code is wrong.
    #[error(transparent)]
    Cron(#[from] CronError),
}

/// Stores the jobs of `schedules` as their time comes, until `shutdown`.
pub async fn run(pool: Pool, waker: Waker, schedules: &[Schedule], shutdown: CancellationToken) {
    // By the database's clock, like everything that is stored.
    let mut seen_until: Option<DateTime<Utc>> = None;
    while !shutdown.is_cancelled() {
        match store_due(&pool, &waker, schedules, seen_until).await {
            Ok(now) => seen_until = Some(now),
            Err(error) => tracing::warn!(%error, "ticks not stored; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Stores every tick after `since` (or within [`LOOK_BACK`]) up to the database's now, and answers that now.
///
/// # Errors
/// [`Error`]; what was stored before it stays stored, and storing it again changes nothing.
pub async fn store_due(
    pool: &Pool,
    waker: &Waker,
    schedules: &[Schedule],
    since: Option<DateTime<Utc>>,
) -> Result<DateTime<Utc>, Error> {
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(pool).await?;
    let since = since.unwrap_or(now - LOOK_BACK);
    for schedule in schedules {
        for instant in ticks_between(schedule.cron, schedule.time_zone, since, now)? {
            let key = format!("{}@{}", schedule.name, instant.to_rfc3339());
            let trace = TraceParent::begin();
            let job = (schedule.job)()?.unique_until(key, instant + KEY_HELD).traceparent(Some(trace));
            let mut tx = db::begin(pool).await?;
            let stored = queue::enqueue(&mut tx, job).await?;
            tx.commit().await?;
            if let Enqueued::New(job) = stored {
                tracing::info!(
                    schedule = schedule.name,
                    tick = %instant,
                    job.id = %job,
                    trace.id = trace.trace_id(),
                    "tick"
                );
                waker.wake(schedule.queue);
            }
        }
    }
    Ok(now)
}
