//! What the leader sees of queues and server, as gauges. Whoever does not lead shows none of it: after a change of
//! leaders, what the last one saw becomes `NaN`, which counts in no sum.

use std::collections::BTreeSet;

use metrics::Gauge;
use queue::{Depth, ServerState, Survey};

/// Every gauge that was set, so that all can be taken back.
#[derive(Default)]
pub(super) struct Shown(Vec<Gauge>, BTreeSet<String>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shown").field(&self.1).finish()
    }
}

impl Shown {
    fn set(&mut self, series: &str, gauge: Gauge, value: f64) {
        gauge.set(value);
        if self.1.insert(series.to_owned()) {
            self.0.push(gauge);
        }
    }

    /// Shows nothing rather than what was true once.
    pub(super) fn forget(&mut self) {
        for gauge in self.0.drain(..) {
            gauge.set(f64::NAN);
        }
        self.1.clear();
    }

    pub(super) fn audit(&mut self, unsealed: audit::Unsealed) {
        let age = unsealed.oldest.map_or(0.0, |age| age.as_secs_f64());
        self.set("unsealed", metrics::gauge!("millpond_audit_unsealed"), unsealed.entries as f64);
        self.set("unsealed age", metrics::gauge!("millpond_audit_unsealed_age_seconds"), age);
    }

    pub(super) fn survey(&mut self, survey: &Survey, took: std::time::Duration) {
        for seen in &survey.queues {
            let queue = seen.depth.queue.as_str();
            for (state, jobs) in states(&seen.depth) {
                let gauge = metrics::gauge!("millpond_queue_depth", "queue" => queue, "state" => state);
                self.set(&format!("depth {queue} {state}"), gauge, jobs as f64);
            }
            let age = seen.oldest_ready.map_or(0.0, |age| age.as_secs_f64());
            let gauge = metrics::gauge!("millpond_queue_oldest_ready_age_seconds", "queue" => queue);
            self.set(&format!("age {queue}"), gauge, age);
            let gauge = metrics::gauge!("millpond_queue_paused", "queue" => queue);
            self.set(&format!("paused {queue}"), gauge, f64::from(u8::from(seen.is_paused)));
            let gauge = metrics::gauge!("millpond_queue_paused_kinds", "queue" => queue);
            self.set(&format!("paused kinds {queue}"), gauge, seen.paused_kinds as f64);
            let gauge = metrics::gauge!("millpond_worker_processes", "queue" => queue);
            self.set(&format!("processes {queue}"), gauge, seen.processes as f64);
        }
        self.set("dead", metrics::gauge!("millpond_dead_letters"), survey.dead_letters as f64);
        self.set("weeks", metrics::gauge!("millpond_history_weeks_ahead"), f64::from(survey.weeks_ahead));
        self.set("overflow", metrics::gauge!("millpond_history_overflow_rows"), survey.overflow_rows as f64);
        for (limit, blocked) in &survey.blocked {
            let gauge = metrics::gauge!("millpond_limit_blocked_seconds", "limit" => limit.clone());
            self.set(&format!("blocked {limit}"), gauge, blocked.as_secs_f64());
        }
        self.set("look", metrics::gauge!("millpond_queue_look_seconds"), took.as_secs_f64());
    }

    pub(super) fn server(&mut self, state: &ServerState) {
        let holders = [
            ("session", state.xmin_age_sessions),
            ("prepared", state.xmin_age_prepared),
            ("slot", state.xmin_age_slots),
        ];
        for (holder, age) in holders {
            let gauge = metrics::gauge!("millpond_database_xmin_age_transactions", "holder" => holder);
            self.set(&format!("xmin {holder}"), gauge, f64::from(age));
        }
        let wraparound = metrics::gauge!("millpond_database_wraparound_age_transactions");
        self.set("wraparound", wraparound, f64::from(state.wraparound_age));
        let connections = metrics::gauge!("millpond_database_connections");
        self.set("connections", connections, state.connections as f64);
        let most = metrics::gauge!("millpond_database_connections_max");
        self.set("connections max", most, f64::from(state.connections_max));
    }
}

/// In the words of the catalogue of metrics.
fn states(depth: &Depth) -> [(&'static str, i64); 5] {
    [
        ("ready", depth.ready),
        ("scheduled", depth.scheduled),
        ("running", depth.running),
        ("waiting", depth.waiting),
        ("parked", depth.parked),
    ]
}
