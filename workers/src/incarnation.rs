//! This process as an owner of leases: one row, renewed by one heartbeat for all jobs.
//!
//! When the heartbeat cannot be renewed in time, handlers are stopped while the lease still has a quarter of its
//! time left, and claims cease; nobody else can have taken their jobs by then. The process comes back as a new
//! incarnation, so its former jobs are taken back like those of any dead process.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use db::Pool;
use queue::{Heartbeat, ProcessInfo, Waker, ops::Asked};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::running::{Running, Stop};

#[derive(Debug, Clone)]
pub(crate) struct Incarnation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    info: ProcessInfo,
    lease: Duration,
    running: Running,
    /// The id under which jobs may be claimed; none while the heartbeat does not hold.
    current: watch::Sender<Option<Uuid>>,
    /// What operators asked of it, to be taken along.
    asked: Mutex<Option<Asked>>,
}

/// The longest wait for the answer to a registration. One that arrives later is an incarnation without jobs.
const REGISTER_MAX: Duration = Duration::from_secs(2);

impl Incarnation {
    pub(crate) async fn begin(
        pool: Pool,
        info: ProcessInfo,
        lease: Duration,
        running: Running,
    ) -> Result<Self, queue::Error> {
        let id = queue::register(&pool, &info).await?;
        let current = watch::Sender::new(Some(id));
        Ok(Self(Arc::new(Inner { pool, info, lease, running, current, asked: Mutex::default() })))
    }

    /// The id to claim under now, if the heartbeat holds.
    pub(crate) fn current(&self) -> Option<Uuid> {
        *self.0.current.borrow()
    }

    /// Waits until jobs can no longer be claimed under this id, nor their outcomes be written.
    pub(crate) async fn lost(&self, id: Uuid) {
        // Its sender is here, so it does not fail.
        let _ = self.watch().wait_for(|current| *current != Some(id)).await;
    }

    /// What operators asked of the present incarnation.
    pub(crate) fn note_asked(&self, asked: Option<Asked>) {
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    /// Sees ids come and go.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Uuid>> {
        self.0.current.subscribe()
    }

    /// Renews the heartbeat until everything is drained, then signs off.
    pub(crate) async fn keep(self, waker: Waker, shutdown: CancellationToken, drained: CancellationToken) {
        let Inner { pool, lease, .. } = &*self.0;
        // Not answered, it is the first to say that connections may be dead.
        let beats = pool.with_answer_timeout(Some(*lease / 4));
        let mut renewed_at = Instant::now();
        let mut beat = tokio::time::interval(*lease / 5);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                // Somebody cancelled a job that some process runs: the heartbeat brings which.
                () = waker.cancel_asked() => {}
                () = drained.cancelled() => break,
            }
            let Some(id) = self.current() else {
                if let Some(since) = self.come_back().await {
                    renewed_at = since;
                }
                continue;
            };
            // The lease counts from before the statement was sent: the database's clock may only be later.
            let asked_at = Instant::now();
            let stop_at = renewed_at + *lease * 3 / 4;
            // A connection that fell silent leaves time for another try, on another one.
            let until = stop_at.min(asked_at + *lease * 3 / 8);
            let held = self.0.running.held();
            let renewal = queue::heartbeat(&beats, id, shutdown.is_cancelled(), &held);
            let renewal = tokio::time::timeout_at(until, renewal).await;
            match renewal.unwrap_or(Err(queue::Error::Unanswered)) {
                Ok(Heartbeat::Alive { cancelled }) => {
                    renewed_at = asked_at;
                    self.0.running.stop(&cancelled, Stop::Cancelled);
                }
                Ok(Heartbeat::Lost) => self.lose("declared dead by others"),
                Err(error) if Instant::now() < stop_at => {
                    tracing::warn!(%error, "heartbeat failed; trying again");
                }
                Err(_) => self.lose("no heartbeat could be written in time"),
            }
        }
        if let Some(id) = self.current() {
            let signed_off = async {
                let mut conn = pool.acquire().await?;
                queue::unregister(&mut conn, id).await
            };
            if let Ok(Err(error)) | Err(error) = tokio::time::timeout(Duration::from_secs(2), signed_off)
                .await
                .map_err(|_| queue::Error::LeaseLost)
            {
                tracing::debug!(%error, "not signed off; the next sweep does it");
            }
        }
    }

    fn lose(&self, why: &str) {
        tracing::warn!(why, "leases lost: stopping handlers");
        metrics::counter!("millpond_leases_lost_total").increment(1);
        self.0.current.send_replace(None);
        self.0.running.stop_all(Stop::LeaseLost);
    }

    /// Registers a new incarnation; the old one's row goes with a sweep when its time is over.
    async fn come_back(&self) -> Option<Instant> {
        let since = Instant::now();
        let asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let registration = queue::ops::register_again(&self.0.pool, &self.0.info, asked.as_ref());
        let registration = tokio::time::timeout(REGISTER_MAX, registration).await;
        match registration.unwrap_or(Err(queue::Error::Unanswered)) {
            Ok(id) => {
                tracing::info!(process = %id, "registered anew");
                self.0.current.send_replace(Some(id));
                Some(since)
            }
            Err(error) => {
                tracing::warn!(%error, "could not register anew; trying again");
                None
            }
        }
    }
}
