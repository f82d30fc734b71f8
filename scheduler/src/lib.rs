//! Cron lines to jobs: any number of scheduler processes, each tick exactly once.
//!
//! Schedules are rows; [`ALL`] are those that code declares. A tick is decided in one transaction that locks its
//! schedule's row, stores the job, records the tick with it and moves the schedule's watermark. So whichever process
//! comes first decides it, the others pass on, and one that is killed has done all of it or nothing; whoever looks next
//! finds the watermark where it was. Ticks that nobody decided in time are run or recorded as their policy says.
//!
//! The scheduler stores jobs and writes down when; it runs nothing. docs/SCHEDULER.md has the rules.

mod look;
mod schedules;

use std::time::{Duration, Instant};

use ::schedules::GRACE;
use db::Pool;
use jobs::Entry;
use queue::Waker;
use tokio_util::sync::CancellationToken;

pub use look::{Error, Look};
pub use schedules::{ALL, Declared};

/// How a scheduler goes about it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kinds of jobs there are.
    pub kinds: &'static [Entry],
    /// The schedules that code declares.
    pub declared: &'static [Declared],
    /// The longest time between two looks: edits of others and ticks that they left behind are seen within it.
    pub look_every: Duration,
    /// How late a tick may be and still not count as missed.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { kinds: jobs::ALL, declared: ALL, look_every: Duration::from_millis(500), grace: GRACE }
    }
}

/// The shortest time between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest wait after failures; it begins with the time between looks and doubles.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// How often this process says that its code still declares its schedules.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Decides ticks as their time comes, by the database's clock, until `shutdown`.
pub async fn run(pool: Pool, waker: Waker, settings: Settings, shutdown: CancellationToken) {
    let look = Look { pool, waker, settings };
    look::begin_counts(look.settings.declared);
    let mut failures: u32 = 0;
    let mut refreshed: Option<Instant> = None;
    while !shutdown.is_cancelled() {
        let looked = async {
            if refreshed.is_none() {
                look.declare().await?;
            } else if refreshed.is_some_and(|last| last.elapsed() >= REFRESH_EVERY) {
                look.refresh().await?;
            }
            if refreshed.is_none_or(|last| last.elapsed() >= REFRESH_EVERY) {
                refreshed = Some(Instant::now());
            }
            look.once().await
        };
        let pause = match looked.await {
            Ok(next) => {
                failures = 0;
                next
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "ticks not decided; trying again");
                let pause = look.settings.look_every.saturating_mul(1 << failures.min(16));
                failures += 1;
                pause.min(BACK_OFF_MAX)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause.max(PAUSE_MIN)) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
