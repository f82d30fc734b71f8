//! The figures as tables, or as one JSON document.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::contention::{Contention, Served, WEIGHTS};
use super::cost::Cost;
use super::flood::{Flood, Waits};

/// A share may be off its weight by so much.
const DEVIATION_MAX: f64 = 0.10;
/// The others' waits beside a flood, of those alone.
const FLOOD_RATIO_MAX: f64 = 2.0;
/// Throughput with fair share, of that without.
const COST_RATIO_MIN: f64 = 0.95;

/// All that was measured.
#[derive(Debug)]
pub(super) struct Figures {
    /// Shares.
    pub contention: Contention,
    /// Waits.
    pub flood: Flood,
    /// Throughput.
    pub cost: Cost,
}

/// A tenant's share, due and had.
struct Share {
    weight: i16,
    due: f64,
    had: f64,
}

impl Share {
    fn deviation(&self) -> f64 {
        self.had / self.due - 1.0
    }
}

/// Prints all.
///
/// # Errors
/// When standard output is gone.
pub(super) fn print(figures: &Figures, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", document(figures))?;
        return Ok(());
    }
    let Figures { contention, flood, cost } = figures;
    writeln!(
        out,
        "{}\n",
        shares_table("All tenants have more jobs than can be done", &contention.all, &WEIGHTS)
    )?;
    writeln!(
        out,
        "{}",
        shares_table("The heaviest has none: the rest use its share", &contention.rest, &WEIGHTS[..3])
    )?;
    let used = contention.rest.jobs_per_s / contention.all.jobs_per_s;
    writeln!(
        out,
        "jobs/s of all: {:.0} with it, {:.0} without ({:.0}% of the slots' work goes on)\n",
        contention.all.jobs_per_s,
        contention.rest.jobs_per_s,
        used * 100.0
    )?;
    writeln!(out, "{}", flood_table(flood))?;
    let ratio = flood.beside.p95_ms / flood.alone.p95_ms;
    writeln!(
        out,
        "p95 beside the flood: {ratio:.2} × alone (target ≤ {FLOOD_RATIO_MAX}): {}; {:.0} jobs/s of the flood meanwhile\n",
        yes(ratio <= FLOOD_RATIO_MAX),
        flood.flood_per_s
    )?;
    let ratio = cost.fair_per_s / cost.plain_per_s;
    writeln!(
        out,
        "one tenant, drained: {:.0} jobs/s with fair share, {:.0} with a claim that knows no tenants: {:.1}% (target ≥ {:.0}%): {}",
        cost.fair_per_s,
        cost.plain_per_s,
        ratio * 100.0,
        COST_RATIO_MIN * 100.0,
        yes(ratio >= COST_RATIO_MIN)
    )?;
    Ok(())
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn shares(served: &Served, weights: &[i16]) -> Vec<Share> {
    let jobs: u64 = served.jobs.iter().sum();
    let total: i16 = weights.iter().sum();
    let of = weights.iter().zip(served.jobs);
    of.map(|(weight, had)| Share {
        weight: *weight,
        due: f64::from(*weight) / f64::from(total),
        had: had as f64 / jobs as f64,
    })
    .collect()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}

fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn shares_table(title: &str, served: &Served, weights: &[i16]) -> String {
    let mut table = table(&["TENANT", "JOBS", "TARGET", "SHARE", "OFF BY", "WITHIN 10%"]);
    for (share, jobs) in shares(served, weights).iter().zip(served.jobs) {
        table.add_row([
            format!("weight {}", share.weight),
            jobs.to_string(),
            format!("{:.1}%", share.due * 100.0),
            format!("{:.1}%", share.had * 100.0),
            format!("{:+.1}%", share.deviation() * 100.0),
            yes(share.deviation().abs() <= DEVIATION_MAX).to_owned(),
        ]);
    }
    format!("{title}\n{}", aligned(table))
}

fn flood_table(flood: &Flood) -> String {
    let mut table = table(&["WAITS OF THE OTHERS", "JOBS", "P50", "P95", "P99"]);
    let beside = format!("beside {} jobs of one tenant", flood.flood_jobs);
    for (name, waits) in [("alone", flood.alone), (beside.as_str(), flood.beside)] {
        table.add_row([
            name.to_owned(),
            waits.jobs.to_string(),
            format!("{:.2} ms", waits.p50_ms),
            format!("{:.2} ms", waits.p95_ms),
            format!("{:.2} ms", waits.p99_ms),
        ]);
    }
    aligned(table)
}

fn document(figures: &Figures) -> Value {
    let Figures { contention, flood, cost } = figures;
    let served = |served: &Served, weights: &[i16]| {
        let shares: Vec<Value> = shares(served, weights)
            .iter()
            .zip(served.jobs)
            .map(|(share, jobs)| {
                json!({
                    "weight": share.weight, "jobs": jobs, "target": share.due, "share": share.had,
                    "deviation": share.deviation(),
                })
            })
            .collect();
        json!({ "shares": shares, "jobsPerSecond": served.jobs_per_s })
    };
    let waits = |waits: &Waits| json!({ "jobs": waits.jobs, "p50Ms": waits.p50_ms, "p95Ms": waits.p95_ms, "p99Ms": waits.p99_ms });
    json!({
        "contention": served(&contention.all, &WEIGHTS),
        "idleShare": served(&contention.rest, &WEIGHTS[..3]),
        "flood": {
            "jobs": flood.flood_jobs,
            "alone": waits(&flood.alone),
            "beside": waits(&flood.beside),
            "p95Ratio": flood.beside.p95_ms / flood.alone.p95_ms,
            "p95RatioMax": FLOOD_RATIO_MAX,
        },
        "cost": {
            "fairPerSecond": cost.fair_per_s,
            "plainPerSecond": cost.plain_per_s,
            "ratio": cost.fair_per_s / cost.plain_per_s,
            "ratioMin": COST_RATIO_MIN,
        },
    })
}
