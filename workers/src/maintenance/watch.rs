//! What keeps tables from being cleaned, and how large they have become: shown as gauges, and warned of once.

use std::time::Duration;

use queue::{
    OldTransaction, TableState, VacuumBounds,
    eta::{Calibration, Judged},
};

/// Dead rows of a table that are too many, in terms of those at which it is cleaned.
const BLOATED: i64 = 20;

/// What was shown and said.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The transaction that was reported last.
    reported: Option<OldTransaction>,
    /// The tables that were reported and have not been cleaned since.
    bloated: Vec<String>,
    tables: Vec<String>,
    is_shown: bool,
}

impl Watch {
    pub(super) fn transactions(&mut self, oldest: Option<&OldTransaction>, warn_age: Duration) {
        self.is_shown = true;
        let age = oldest.map_or(0.0, |oldest| oldest.age.as_secs_f64());
        metrics::gauge!("millpond_database_oldest_transaction_seconds").set(age);
        let Some(oldest) = oldest.filter(|oldest| oldest.age >= warn_age) else {
            self.reported = None;
            return;
        };
        let is_known = self
            .reported
            .as_ref()
            .is_some_and(|known| (known.pid, known.began_at) == (oldest.pid, oldest.began_at));
        if !is_known {
            tracing::warn!(
                pid = oldest.pid,
                application = oldest.application,
                state = oldest.state,
                age_s = oldest.age.as_secs(),
                keeps_rows = oldest.keeps_rows,
                "a transaction has been open for long: dead rows cannot be removed while it keeps them"
            );
            self.reported = Some(oldest.clone());
        }
    }

    pub(super) fn tables(&mut self, states: &[TableState], bounds: &VacuumBounds) {
        self.is_shown = true;
        self.tables = states.iter().map(|state| state.table.clone()).collect();
        for state in states {
            let table = || state.table.clone();
            metrics::gauge!("millpond_table_bytes", "table" => table()).set(state.table_bytes as f64);
            metrics::gauge!("millpond_table_index_bytes", "table" => table()).set(state.index_bytes as f64);
            // Of history no rows are counted.
            if state.table != "jobs_finished" {
                metrics::gauge!("millpond_table_live_rows", "table" => table()).set(state.live_rows as f64);
                metrics::gauge!("millpond_table_dead_rows", "table" => table()).set(state.dead_rows as f64);
                let most = bounds.dead_rows_max(state);
                metrics::gauge!("millpond_table_dead_rows_max", "table" => table()).set(most as f64);
            }
            let is_bloated = state.dead_rows > bounds.dead_rows_max(state).saturating_mul(BLOATED);
            let is_known = self.bloated.contains(&state.table);
            if is_bloated && !is_known {
                tracing::warn!(
                    table = state.table,
                    dead_rows = state.dead_rows,
                    live_rows = state.live_rows,
                    bytes = state.table_bytes,
                    "dead rows pile up: an old transaction keeps them, or cleaning does not keep up"
                );
                self.bloated.push(table());
            } else if !is_bloated && is_known {
                self.bloated.retain(|known| *known != state.table);
            }
        }
    }

    /// How estimates came true. The counts are the database's, so they go on whoever leads.
    pub(super) fn estimates(&self, calibrations: &[Calibration]) {
        for one in calibrations {
            let Judged { within, early, late } = one.judged;
            for (outcome, jobs) in [("within", within), ("early", early), ("late", late)] {
                let (kind, stage) = (one.kind.clone(), one.stage.as_str());
                metrics::counter!("millpond_estimates_total", "kind" => kind, "stage" => stage, "outcome" => outcome)
                    .absolute(u64::try_from(jobs).unwrap_or_default());
            }
        }
    }

    /// Shows nothing rather than what was true once: another process leads and shows it.
    pub(super) fn forget(&mut self) {
        if !std::mem::take(&mut self.is_shown) {
            return;
        }
        metrics::gauge!("millpond_database_oldest_transaction_seconds").set(f64::NAN);
        for table in self.tables.drain(..) {
            for gauge in [
                metrics::gauge!("millpond_table_bytes", "table" => table.clone()),
                metrics::gauge!("millpond_table_index_bytes", "table" => table.clone()),
                metrics::gauge!("millpond_table_live_rows", "table" => table.clone()),
                metrics::gauge!("millpond_table_dead_rows", "table" => table.clone()),
                metrics::gauge!("millpond_table_dead_rows_max", "table" => table.clone()),
            ] {
                gauge.set(f64::NAN);
            }
        }
        *self = Self::default();
    }
}
