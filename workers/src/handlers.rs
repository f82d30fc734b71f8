//! The watch over running handlers: attempts that take too long are stopped, slots of handlers that do not let go of
//! their thread are freed, progress is written, and jobs that are leased to this process without its knowing are given
//! back. It runs on the thread that heartbeats run on, which no handler can block.

use std::time::{Duration, Instant};

use db::Pool;
use queue::Waker;
use tokio_util::sync::CancellationToken;

use crate::{Settings, incarnation::Incarnation, running::Running};

/// How exactly timeouts are kept.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often progress is written at the most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Longer than the answer to any claim may take to arrive.
const CLAIM_AGE_MIN: Duration = Duration::from_secs(6);
/// Looking for forgotten jobs rests for so many times as long as it took, which is long where an old transaction keeps
/// what is gone.
const FORGOTTEN_REST: u32 = 20;
/// The longest rest: an answer may also take long on its way.
const FORGOTTEN_REST_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn watch(running: Running, ended: CancellationToken) {
    while !ended.is_cancelled() {
        let stuck = running.expire(Instant::now());
        if stuck > 0 {
            tracing::error!(
                jobs = stuck,
                "handlers do not let go of their threads; their slots are free again"
            );
            metrics::counter!("millpond_job_handlers_stuck_total").increment(stuck as u64);
        }
        pause(LOOK_EVERY, &ended).await;
    }
}

pub(crate) async fn write_progress(pool: Pool, running: Running, ended: CancellationToken) {
    while !ended.is_cancelled() {
        let reports = running.take_progress();
        if !reports.is_empty()
            && let Err(error) = queue::write_progress(&pool, &reports).await
        {
            tracing::warn!(%error, "progress not written; the next report will be");
        }
        pause(PROGRESS_EVERY, &ended).await;
    }
}

/// Gives back what a claim took whose answer was lost.
pub(crate) async fn give_back_forgotten(
    pool: Pool,
    settings: Settings,
    running: Running,
    incarnation: Incarnation,
    waker: Waker,
    ended: CancellationToken,
) {
    while !ended.is_cancelled() {
        let mut rest = settings.sweep;
        if let Some(process) = incarnation.current() {
            let began = Instant::now();
            match queue::forgotten(&pool, process, &running.held(), CLAIM_AGE_MIN).await {
                Ok(queues) if queues.is_empty() => {
                    rest = rest.max((began.elapsed() * FORGOTTEN_REST).min(FORGOTTEN_REST_MAX));
                }
                Ok(queues) => {
                    tracing::warn!("gave back jobs whose claim was not heard of");
                    waker.wake_all(queues);
                }
                Err(error) => tracing::warn!(%error, "forgotten jobs not looked for"),
            }
        }
        pause(rest, &ended).await;
    }
}

pub(crate) async fn pause(duration: Duration, ended: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = ended.cancelled() => {}
    }
}
