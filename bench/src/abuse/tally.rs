//! What attackers sent, and what they were told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::wire::Outcome;

/// Of one attack.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    connections: usize,
    requests: usize,
    bytes: u64,
    outcomes: BTreeMap<String, usize>,
    /// What nobody should be told.
    pub(super) faults: BTreeMap<String, usize>,
}

/// A tally to which many attackers add.
#[derive(Debug, Default, Clone)]
pub(super) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(super) fn connected(&self) {
        self.with(|tally| tally.connections += 1);
    }

    pub(super) fn requested(&self) {
        self.with(|tally| tally.requests += 1);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.with(|tally| tally.bytes += bytes as u64);
    }

    /// Notes how a connection or request ended, and whether that is as it should be.
    pub(super) fn ended(&self, outcome: &Outcome) {
        self.with(|tally| {
            *tally.outcomes.entry(outcome.name()).or_default() += 1;
            if let Some(fault) = outcome.fault() {
                *tally.faults.entry(fault).or_default() += 1;
            }
        });
    }

    /// What was noted so far.
    pub(super) fn take(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Tally {
    pub(super) fn sent(&self) -> String {
        let megabytes = self.bytes as f64 / f64::from(1 << 20);
        format!("{} connections, {} requests, {megabytes:.1} MB", self.connections, self.requests)
    }

    /// Connections that were open in the end.
    fn open(&self) -> usize {
        let not_connected = Outcome::NotConnected.name();
        let ended = self.outcomes.iter().filter(|(outcome, _)| **outcome != not_connected);
        self.connections.saturating_sub(ended.map(|(_, times)| times).sum())
    }

    pub(super) fn told(&self) -> String {
        let told = self.outcomes.iter().map(|(outcome, times)| format!("{outcome}: {times}"));
        told.chain([format!("open in the end: {}", self.open())]).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "connections": self.connections, "requests": self.requests, "bytes": self.bytes,
            "told": self.outcomes, "openInTheEnd": self.open(), "faults": self.faults,
        })
    }
}
