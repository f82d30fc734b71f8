//! Jobs at a steady rate, stored by a client that repeats what was not confirmed, and the rate at which they are done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use db::Pool;
use kernel::ids::JobId;
use queue::NewJob;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::kinds::{Acknowledged, Effect};
use super::ledger::{Expected, Ledger};

/// How often due jobs are stored.
const STORE_EVERY: Duration = Duration::from_millis(25);
/// How often effects are counted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The time over which a rate is taken.
const WINDOW: Duration = Duration::from_millis(1_000);
/// The part of the rate asked for that counts as the full one: both clocks and both counts are a little off.
const FULL: f64 = 0.9;
/// The longest wait for an answer of the database before the client begins anew.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A running load.
#[derive(Debug)]
pub struct Load {
    rate: u32,
    stop: Arc<AtomicBool>,
    storing: JoinHandle<anyhow::Result<()>>,
    counting: JoinHandle<()>,
    counts: Arc<Mutex<VecDeque<(Instant, i64)>>>,
}

impl Load {
    /// Begins to store `rate` jobs a second, half of each kind with an effect, each with a pause of `pause_ms`.
    #[must_use]
    pub fn begin(pool: &Pool, ledger: &Ledger, rate: u32, pause_ms: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Mutex::new(VecDeque::new()));
        let storing = tokio::spawn(store(pool.clone(), ledger.clone(), rate, pause_ms, stop.clone()));
        let counting = tokio::spawn(count(pool.clone(), counts.clone()));
        Self { rate, stop, storing, counting, counts }
    }

    /// Effects per second over the last second, once that is known.
    #[must_use]
    pub fn rate_now(&self) -> Option<f64> {
        let counts = self.counts();
        let (last, effects) = counts.back()?;
        let (first, before) = counts.iter().rev().find(|(at, _)| *at + WINDOW <= *last)?;
        let seconds = last.duration_since(*first).as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "counts of jobs are small")]
        Some((effects - before) as f64 / seconds)
    }

    /// Waits until as many jobs are done per second as are stored, over a second that began after now; answers how long
    /// it took until that second was over.
    ///
    /// # Errors
    /// When that takes longer than `bound`.
    pub async fn full_rate(&self, bound: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        loop {
            let counted_since = self.counts().back().is_some_and(|(at, _)| *at >= began + WINDOW);
            let rate = self.rate_now().unwrap_or_default();
            if counted_since && rate >= FULL * f64::from(self.rate) {
                return Ok(began.elapsed());
            }
            anyhow::ensure!(
                began.elapsed() < bound,
                "{rate:.0} jobs/s of {} after {} s",
                self.rate,
                bound.as_secs()
            );
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops storing, and waits for the last confirmation.
    ///
    /// # Errors
    /// When the client failed for good.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.counting.abort();
        self.storing.await.context("the load")?
    }

    fn counts(&self) -> MutexGuard<'_, VecDeque<(Instant, i64)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn store(
    pool: Pool,
    ledger: Ledger,
    rate: u32,
    pause_ms: u64,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut stored, mut next) = (0, began);
    while !stop.load(Ordering::Relaxed) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let jobs = (stored..due).map(|number| job(number, pause_ms)).collect::<Result<Vec<_>, _>>()?;
        stored = due;
        if !jobs.is_empty() {
            accept(&pool, &ledger, jobs, Expected::Completed).await?;
        }
        next += STORE_EVERY;
        sleep_until(next).await;
    }
    Ok(())
}

fn job(number: u64, pause_ms: u64) -> Result<NewJob, queue::Error> {
    if number.is_multiple_of(2) {
        NewJob::of(&Effect { pause_ms })
    } else {
        NewJob::of(&Acknowledged { pause_ms })
    }
}

/// How long the client goes on repeating.
const REPEAT_MAX: Duration = Duration::from_secs(60);

/// Stores jobs and enters them as accepted once that is confirmed; repeats until it is.
///
/// # Errors
/// When it is not confirmed within a minute.
pub(super) async fn accept(
    pool: &Pool,
    ledger: &Ledger,
    jobs: Vec<NewJob>,
    expected: Expected,
) -> anyhow::Result<()> {
    let ids: Vec<JobId> = jobs.iter().map(NewJob::job).collect();
    let began = Instant::now();
    let mut is_repeated = false;
    loop {
        let stored = timeout(ANSWER_MAX, try_store(pool, &ids, &jobs, is_repeated)).await;
        is_repeated = true;
        match stored {
            Ok(Ok(())) => break,
            Ok(Err(error)) if began.elapsed() > REPEAT_MAX => return Err(error).context("storing jobs"),
            Err(late) if began.elapsed() > REPEAT_MAX => return Err(late).context("storing jobs"),
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
    for id in ids {
        ledger.accept(id, expected);
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "fault runs have no queries that are checked ahead")]
async fn try_store(
    pool: &Pool,
    ids: &[JobId],
    jobs: &[NewJob],
    is_repeated: bool,
) -> Result<(), queue::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut conn = pool.acquire().await?;
    if is_repeated {
        // They go in together or not at all, and the answer to an earlier try may have been lost.
        let is_stored: bool = sqlx::query_scalar(
            "select exists (select from jobs where id = any($1))
                 or exists (select from jobs_finished where id = any($1))",
        )
        .bind(&ids)
        .fetch_one(&mut conn)
        .await?;
        if is_stored {
            return Ok(());
        }
    }
    queue::enqueue_many(&mut conn, jobs.to_vec()).await?;
    Ok(())
}

/// Notes how many effects there are, whenever the database answers.
async fn count(pool: Pool, counts: Arc<Mutex<VecDeque<(Instant, i64)>>>) {
    loop {
        if let Ok(Ok(effects)) = timeout(ANSWER_MAX, effects(&pool)).await {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.push_back((Instant::now(), effects));
            while counts.front().is_some_and(|(at, _)| at.elapsed() > 2 * WINDOW + LOOK_EVERY * 5) {
                counts.pop_front();
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// How many effects there are; a little more after rollbacks, which use up numbers.
#[allow(clippy::disallowed_methods, reason = "the table is made by each run")]
async fn effects(pool: &Pool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select coalesce(max(n), 0) from fault_effects").fetch_one(pool).await
}
