//! Upkeep of the queue, as reconcilers that take no input: each rereads the state, may run at any time and in any
//! number, and locks what it acts on. One process at a time runs them, the leader ([`office`]); but each process
//! takes back the jobs of dead ones, so that no gap between leaders delays it, and makes the kinds ready that it
//! alone may know.
//!
//! What takes long (cleaning and rebuilding) has a lane of its own, so that it never holds up what is promised in
//! time (deadlines), nor what is watched. A reconciler that fails says so once, with its name, and again when it works;
//! in between it is tried at its usual times. None outlasts its bound.

mod office;
mod reconcilers;
mod survey;
mod watch;

use std::{sync::Arc, time::Duration};

use db::Pool;
use kernel::sealing::Keyring;
use queue::Waker;
use rand::RngExt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Settings, incarnation::Incarnation};
use office::Office;
use reconcilers::{Memory, Reconciler};

/// What the queue keeps, and of what it warns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceSettings {
    /// How long finished jobs stay readable.
    pub retention: Duration,
    /// A transaction that lasts longer is reported: no dead row can be removed while it does.
    pub oldest_transaction_warn: Duration,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(35 * 24 * 60 * 60),
            oldest_transaction_warn: Duration::from_secs(60),
        }
    }
}

/// What upkeep needs.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// Three connections at least: one for each lane of the leader.
    pub(crate) pool: Pool,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) incarnation: Incarnation,
    pub(crate) waker: Waker,
    pub(crate) ended: CancellationToken,
}

/// How long one statement at leisure may take: removing ten thousand rows, looking through an overflow.
const LEISURE_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Keeps the queue until `ended`.
pub(crate) async fn run(parts: Parts) {
    let office = Office::new(&parts);
    // Statements that clean and rebuild take longer still, and have bounds of their own.
    let patient =
        Parts { pool: parts.pool.with_answer_timeout(Some(LEISURE_ANSWER_TIMEOUT)), ..parts.clone() };
    tokio::join!(
        office.hold(),
        lane(&parts, Reconciler::of_each_process(&parts.settings), None),
        lane(&parts, Reconciler::in_time(), Some(&office)),
        lane(&parts, Reconciler::in_sight(), Some(&office)),
        lane(&patient, Reconciler::at_leisure(), Some(&office)),
    );
}

/// A reconciler and its times.
struct Scheduled {
    reconciler: Reconciler,
    due_at: Instant,
    is_failing: bool,
}

/// Runs reconcilers one after another as they fall due: with an office, only while this process holds it.
async fn lane(parts: &Parts, reconcilers: Vec<Reconciler>, office: Option<&Office>) {
    let mut memory = Memory::default();
    let mut term = None;
    for reconciler in &reconcilers {
        // From 0 on, so that the first failure is seen as one.
        metrics::counter!("millpond_reconciler_failures_total", "reconciler" => reconciler.name())
            .increment(0);
    }
    let mut scheduled: Vec<_> = reconcilers
        .into_iter()
        .map(|reconciler| Scheduled { reconciler, due_at: Instant::now(), is_failing: false })
        .collect();
    while !parts.ended.is_cancelled() {
        if let Some(office) = office {
            let Some(current) = office.term(&parts.ended).await else { return };
            if term.replace(current) != Some(current) {
                // Nobody knows what the last leader left undone.
                scheduled.iter_mut().for_each(|one| one.due_at = Instant::now());
            }
        }
        let Some(next) = scheduled.iter_mut().min_by_key(|one| one.due_at) else { return };
        if next.due_at <= Instant::now() {
            let run = next.run(parts, &mut memory);
            if parts.ended.run_until_cancelled(run).await.is_none() {
                return;
            }
            continue;
        }
        let lost = async {
            match office {
                Some(office) => office.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(next.due_at) => {}
            () = lost => memory.forget(),
            () = parts.ended.cancelled() => {}
        }
    }
}

impl Scheduled {
    async fn run(&mut self, parts: &Parts, memory: &mut Memory) {
        let began = Instant::now();
        let (name, time_max) = (self.reconciler.name(), self.reconciler.time_max());
        let result = match timeout(time_max, self.reconciler.reconcile(parts, memory)).await {
            Ok(result) => result,
            Err(_) => Err(queue::Error::Unanswered),
        };
        match &result {
            Ok(()) if self.is_failing => tracing::info!(reconciler = name, "works again"),
            Err(error) if !self.is_failing => {
                tracing::warn!(
                    reconciler = name,
                    error = error as &dyn std::error::Error,
                    "failed; it is tried again"
                );
            }
            Err(error) => tracing::debug!(reconciler = name, %error, "failed again"),
            Ok(()) => {}
        }
        self.is_failing = result.is_err();
        if self.is_failing {
            metrics::counter!("millpond_reconciler_failures_total", "reconciler" => name).increment(1);
        }
        // Never later than promised: the pause counts from the beginning, and jitter only makes it shorter.
        let pause = self.reconciler.every.mul_f64(rand::rng().random_range(0.8..1.0));
        let rest = (pause / 10).max(began.elapsed() * self.reconciler.rest());
        self.due_at = (began + pause).max(Instant::now() + rest);
    }
}
