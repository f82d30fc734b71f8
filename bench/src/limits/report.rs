//! The table.

use std::{collections::BTreeMap, io::Write, time::Duration};

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use super::{BUDGET_MAX, CALLS_MAX, PER_SECOND_MAX, SLOTS_MAX, accounts::Closed};

/// What came of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: f64,
    kills: u32,
    limits: Vec<Line>,
}

/// One limit.
#[derive(Debug, Serialize)]
struct Line {
    limit: String,
    /// What could have been used: permits, slot-seconds, units.
    offered: f64,
    /// What the other side counted.
    used: f64,
    /// What was drawn and died with processes.
    lost: f64,
    /// Used, of what was not lost.
    utilisation: f64,
    /// Calls or units over the limit, as the other side counted them.
    violations: i64,
}

/// What must be reached.
const UTILISATION_MIN: f64 = 0.95;

impl Report {
    pub(super) fn of(closed: &Closed, kills: u32, window: Duration, run: Duration) -> Self {
        let Closed { counted, observed, slot_s } = closed;
        let per = |window: Duration| match window.as_secs() {
            1 => "1 s".to_owned(),
            seconds => format!("{seconds} s"),
        };
        let rated = |max: i64, window: Duration, counts: &BTreeMap<i64, i64>, drawn: &BTreeMap<i64, i64>| {
            // The first and the last window are not whole.
            let whole: Vec<i64> = match (drawn.keys().next(), drawn.keys().next_back()) {
                (Some(first), Some(last)) => (first + 1..*last).collect(),
                _ => Vec::new(),
            };
            let of =
                |counts: &BTreeMap<i64, i64>, number: &i64| counts.get(number).copied().unwrap_or_default();
            let used: i64 = whole.iter().map(|number| of(counts, number)).sum();
            let lost: i64 = whole.iter().map(|number| (of(drawn, number) - of(counts, number)).max(0)).sum();
            let violations = counts.values().map(|calls| (calls - max).max(0)).sum();
            let offered = (max * i64::try_from(whole.len()).unwrap_or_default()) as f64;
            Line::new(format!("{max} calls / {}", per(window)), offered, used as f64, lost as f64, violations)
        };
        let limits = vec![
            rated(CALLS_MAX, window, &counted.calls, &observed.calls),
            rated(PER_SECOND_MAX, Duration::from_secs(1), &counted.per_second, &observed.per_second),
            Line::new(
                format!("{SLOTS_MAX} at once (slot-seconds)"),
                SLOTS_MAX as f64 * observed.seconds,
                *slot_s,
                observed.dead_slot_s,
                (counted.slots_max - SLOTS_MAX).max(0),
            ),
            Line::new(
                format!("{BUDGET_MAX} units / day"),
                BUDGET_MAX as f64,
                counted.spent as f64,
                (observed.used - counted.spent).max(0) as f64,
                (counted.spent - BUDGET_MAX).max(0),
            ),
        ];
        Self { seconds: run.as_secs_f64(), kills, limits }
    }

    pub(super) fn is_good(&self) -> bool {
        self.limits.iter().all(|line| line.violations == 0 && line.utilisation >= UTILISATION_MIN)
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut output = std::io::stdout().lock();
        if json {
            writeln!(output, "{}", serde_json::to_string_pretty(self)?)?;
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header([
            "limit",
            "offered",
            "used",
            "lost to kills",
            "utilisation",
            "violations",
            "reached",
        ]);
        for line in &self.limits {
            table.add_row([
                line.limit.clone(),
                format!("{:.0}", line.offered),
                format!("{:.0}", line.used),
                format!("{:.0}", line.lost),
                format!("{:.1}%", line.utilisation * 100.0),
                line.violations.to_string(),
                if line.violations == 0 && line.utilisation >= UTILISATION_MIN { "yes" } else { "NO" }
                    .to_owned(),
            ]);
        }
        writeln!(output, "{table}\n{} worker processes killed in {:.0} s", self.kills, self.seconds)?;
        Ok(())
    }
}

impl Line {
    fn new(limit: String, offered: f64, used: f64, lost: f64, violations: i64) -> Self {
        let usable = offered - lost;
        let utilisation = if usable > 0.0 { used / usable } else { 0.0 };
        Self { limit, offered, used, lost, utilisation, violations }
    }
}
