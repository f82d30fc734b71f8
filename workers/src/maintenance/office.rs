//! The office of the leader, as this process sees it.
//!
//! It asks at every tick whether it leads (see `queue::lead` for why jobs of a dead leader are taken back in time).
//! When nobody answers it holds the office no longer than it was promised; that is a courtesy, since two leaders do
//! no harm.

use std::time::Duration;

use queue::Term;
use rand::RngExt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Parts;

/// The name under which processes stand.
const NAME: &str = "maintenance";
/// How long giving the office up may take at the end of the process.
const RESIGN_TIME_MAX: Duration = Duration::from_secs(1);

/// Who leads.
pub(super) struct Office {
    parts: Parts,
    /// This process' term, while it leads.
    term: watch::Sender<Option<Term>>,
}

impl Office {
    pub(super) fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone(), term: watch::Sender::new(None) }
    }

    /// Stands for it until the end, then gives it up.
    pub(super) async fn hold(&self) {
        let Parts { pool, settings, incarnation, ended, .. } = &self.parts;
        let lease = queue::lease_of_leader(settings.lease);
        // Asked four times a lease, for answers that hold for half of it; and never later than the sweep interval.
        let tick = settings.sweep.min(lease / 4);
        let mut holds_until = Instant::now();
        while !ended.is_cancelled() {
            let asked_at = Instant::now();
            // Without an incarnation this process is taken for dead: it leads no more than it claims.
            let holder = incarnation.current();
            let asked = async {
                match holder {
                    Some(holder) => queue::lead(pool, NAME, holder, lease).await,
                    None => Ok(None),
                }
            };
            match timeout(lease, asked).await {
                Ok(Ok(term)) => {
                    holds_until = asked_at + lease / 2;
                    self.is_now(term);
                }
                Ok(Err(error)) => self.unanswered(holds_until, &error),
                Err(_) => self.unanswered(holds_until, &queue::Error::Unanswered),
            }
            let pause = tick.mul_f64(rand::rng().random_range(0.8..1.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ended.cancelled() => {}
            }
        }
        if let (Some(_), Some(holder)) = (*self.term.borrow(), incarnation.current()) {
            // Not heard, the others wait for the end of its lease.
            let _ = timeout(RESIGN_TIME_MAX, queue::resign(pool, NAME, holder)).await;
        }
        self.is_now(None);
    }

    fn is_now(&self, term: Option<Term>) {
        self.term.send_if_modified(|current| {
            if let (Some(Term(term)), true) = (term, *current != term) {
                tracing::info!(term, "leads the upkeep of the queue");
            }
            metrics::gauge!("millpond_leader").set(if term.is_some() { 1.0 } else { 0.0 });
            metrics::gauge!("millpond_leader_term").set(term.map_or(0.0, |Term(term)| term as f64));
            std::mem::replace(current, term) != term
        });
    }

    fn unanswered(&self, holds_until: Instant, error: &queue::Error) {
        tracing::debug!(%error, "not known who leads");
        if Instant::now() >= holds_until {
            self.is_now(None);
        }
    }

    /// The term of this process; waits until there is one, and is none at the end.
    pub(super) async fn term(&self, ended: &CancellationToken) -> Option<Term> {
        let mut terms = self.term.subscribe();
        let term = ended.run_until_cancelled(terms.wait_for(Option::is_some)).await?.ok()?;
        *term
    }

    /// Waits until this process leads no more.
    pub(super) async fn lost(&self) {
        // Its sender is here, so it does not fail.
        let _ = self.term.subscribe().wait_for(Option::is_none).await;
    }
}
