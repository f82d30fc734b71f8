//! What a pool counts, with handles that are kept: looking a metric up by its labels costs more than counting, and a
//! pool counts for every job. Only the pool's pump counts, so no two threads meet at a number.

use jobs::Entry;
use metrics::{Counter, Gauge, Histogram};
use queue::Queue;

/// What became of attempts; see `millpond_job_attempts_total` in the catalogue of metrics.
const OUTCOMES: [&str; 9] =
    ["done", "settled", "retried", "dead", "cancelled", "snoozed", "given_back", "parked", "abandoned"];
/// Kinds that this binary does not know share one name: others chose theirs.
const UNKNOWN: &str = "unknown";

/// The meters of one pool.
pub(crate) struct Meters {
    queue: Queue,
    pub(crate) claimed: Counter,
    pub(crate) held_back: Counter,
    pub(crate) refused: Counter,
    pub(crate) turn: Histogram,
    pub(crate) turn_failures: Counter,
    pub(crate) slots_used: Gauge,
    kinds: Vec<KindMeters>,
}

/// Those of one kind.
pub(crate) struct KindMeters {
    kind: &'static str,
    pub(crate) wait: Histogram,
    pub(crate) run: Histogram,
    pub(crate) panics: Counter,
    outcomes: [Counter; OUTCOMES.len()],
}

impl Meters {
    /// All at 0, for the kinds whose queue this is; others come when they are met.
    pub(crate) fn new(queue: Queue, slots: usize, kinds: &[Entry]) -> Self {
        let name = queue.as_str();
        metrics::gauge!("millpond_worker_slots", "queue" => name).set(slots as f64);
        let of_queue = kinds.iter().filter(|entry| entry.policy.queue == queue);
        Self {
            queue,
            claimed: metrics::counter!("millpond_jobs_claimed_total", "queue" => name),
            held_back: metrics::counter!("millpond_claims_held_back_total", "queue" => name),
            refused: metrics::counter!("millpond_outcomes_refused_total", "queue" => name),
            turn: metrics::histogram!("millpond_turn_seconds", "queue" => name),
            turn_failures: metrics::counter!("millpond_turn_failures_total", "queue" => name),
            slots_used: metrics::gauge!("millpond_worker_slots_used", "queue" => name),
            kinds: of_queue.map(|entry| KindMeters::new(queue, entry.kind)).collect(),
        }
    }

    /// The meters of a kind.
    pub(crate) fn of(&mut self, entry: Option<&'static Entry>) -> &KindMeters {
        let kind = entry.map_or(UNKNOWN, |entry| entry.kind);
        let known = self.kinds.iter().position(|meters| meters.kind == kind);
        let place = known.unwrap_or_else(|| {
            self.kinds.push(KindMeters::new(self.queue, kind));
            self.kinds.len() - 1
        });
        &self.kinds[place]
    }
}

impl KindMeters {
    fn new(queue: Queue, kind: &'static str) -> Self {
        let queue = queue.as_str();
        let outcome = |outcome| {
            metrics::counter!(
                "millpond_job_attempts_total", "queue" => queue, "kind" => kind, "outcome" => outcome
            )
        };
        Self {
            kind,
            wait: metrics::histogram!("millpond_job_wait_seconds", "queue" => queue, "kind" => kind),
            run: metrics::histogram!("millpond_job_run_seconds", "queue" => queue, "kind" => kind),
            panics: metrics::counter!("millpond_job_panics_total", "queue" => queue, "kind" => kind),
            outcomes: OUTCOMES.map(outcome),
        }
    }

    /// Counts an attempt.
    pub(crate) fn came_to(&self, outcome: &'static str) {
        let place = OUTCOMES.iter().position(|known| *known == outcome);
        debug_assert!(place.is_some(), "{outcome} is not in the list");
        if let Some(place) = place {
            self.outcomes[place].increment(1);
        }
    }
}
