//! Budgets: what attempts that are over spent of what their claims reserved, and the upkeep of what processes draw.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use db::Pool;
use jobs::{Entry, Usage};
use queue::{
    LeaseKey, Outcome,
    limits::{self, Permits, Spending},
};
use tokio_util::sync::CancellationToken;

use crate::{Settings, handlers::pause, incarnation::Incarnation, report::Verdict, running::Running};

/// What is still to be settled; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spendings(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Kinds whose claims may reserve.
    kinds: HashSet<&'static str>,
    unsettled: Mutex<Vec<Spending>>,
    /// One writes at a time.
    settling: tokio::sync::Mutex<()>,
}

/// How often what attempts spent is written at the most.
const SETTLE_EVERY: Duration = Duration::from_millis(200);
/// Attempts settled in one statement.
const SETTLED_MAX: usize = 1_000;
/// Longer than the answer to any claim may take to arrive.
const CLAIM_AGE_MIN: Duration = Duration::from_secs(6);

impl Spendings {
    pub(crate) fn of(kinds: &'static [Entry]) -> Self {
        let draws = kinds.iter().filter(|entry| !entry.policy.limits.is_empty());
        Self(Arc::new(Inner { kinds: draws.map(|entry| entry.kind).collect(), ..Inner::default() }))
    }

    /// Takes note of the end of an attempt. `usage` is what it used, if its handler was started.
    pub(crate) fn note(&self, lease: LeaseKey, kind: &str, verdict: &Verdict, usage: Option<&Usage>) {
        // A kind that is unknown here may have reserved as well: another release knows it.
        if !self.0.kinds.contains(kind) && !matches!(verdict, Verdict::UnknownKind) {
            return;
        }
        let spending = Spending {
            lease,
            spent: usage.map(Usage::spent).unwrap_or_default(),
            goes_back: match usage {
                None => true,
                Some(usage) => {
                    let ran_for_nothing =
                        matches!(verdict, Verdict::Answered(Ok(Outcome::Snooze(_))) | Verdict::GivenBack);
                    ran_for_nothing && !usage.drew()
                }
            },
        };
        self.lock().push(spending);
    }

    /// The attempts that are still to be settled.
    pub(crate) fn leases(&self) -> Vec<LeaseKey> {
        self.lock().iter().map(|spending| spending.lease).collect()
    }

    /// Settles what there is. What could not be written is kept for the next time: writing it twice does no harm.
    pub(crate) async fn settle(&self, pool: &Pool) {
        let _alone = self.0.settling.lock().await;
        loop {
            // They stay in the list until they are written, so that nobody takes them for unknown.
            let batch: Vec<Spending> = self.lock().iter().take(SETTLED_MAX).cloned().collect();
            if batch.is_empty() {
                return;
            }
            if let Err(error) = limits::settle_spending(pool, &batch).await {
                tracing::warn!(%error, attempts = batch.len(), "spending not settled; trying again");
                return;
            }
            self.lock().drain(..batch.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spending>> {
        self.0.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles what attempts spent, until the process is drained.
pub(crate) async fn settle(pool: Pool, spendings: Spendings, ended: CancellationToken) {
    while !ended.is_cancelled() {
        spendings.settle(&pool).await;
        pause(SETTLE_EVERY, &ended).await;
    }
}

/// The reconciler of slots and reservations that nobody will end.
pub(crate) async fn clean(
    pool: Pool,
    settings: Settings,
    permits: Permits,
    running: Running,
    incarnation: Incarnation,
    ended: CancellationToken,
) {
    while !ended.is_cancelled() {
        if let Some(process) = incarnation.current() {
            if let Err(error) = limits::clean_holds(&pool, process, &permits).await {
                tracing::warn!(%error, "slots that nobody holds not looked for");
            }
            if let Err(error) =
                limits::clean_reservations(&pool, process, &running.leases(), CLAIM_AGE_MIN).await
            {
                tracing::warn!(%error, "reservations of nobody not looked for");
            }
        }
        pause(settings.sweep, &ended).await;
    }
}
