//! The end of it: one table, or one JSON document, on standard output.

use std::io::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};

use crate::figures::{Cores, Figure, Goal, Unit};
use crate::peers::{PeerFigure, Peers};
use crate::queue_figures::Samples;

/// A figure's values, put together.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Processor time in the middle run.
    pub cores: Option<Cores>,
}

impl Summary {
    /// Of a figure; none when it was not measured.
    pub fn of(samples: &Samples, figure: &str) -> Option<Self> {
        let mut sorted = samples.get(figure)?.clone();
        sorted.sort_by(|one, other| one.value.total_cmp(&other.value));
        let (first, last, middle) = (sorted.first()?, sorted.last()?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: middle.value, min: first.value, max: last.value, cores: middle.cores })
    }
}

/// Prints the table.
///
/// # Errors
/// When standard output is gone.
pub fn print(figures: &[&Figure], samples: &Samples, peers: Option<&Peers>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut header = vec!["figure", "", "median", "min – max", "target", "reached", "cores client / server"];
    if peers.is_some() {
        header.extend(["best peer", "ours / peer", "floor", "ours / floor"]);
    }
    table.set_header(header);
    for figure in figures {
        let Some(summary) = Summary::of(samples, figure.name) else { continue };
        let show = |value: f64| shown(value, figure.unit);
        let mut row = vec![
            figure.name.to_owned(),
            figure.title.to_owned(),
            show(summary.median),
            format!("{} – {}", show(summary.min), show(summary.max)),
            goal(figure),
            match reached(figure, summary.median, samples, peers) {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => "–".to_owned(),
            },
            summary.cores.map(cores).unwrap_or_default(),
        ];
        if let Some(peers) = peers {
            let ratio = |other: f64| format!("{:.2}", summary.median / other);
            let (best, floor) = (peers.best(figure), peers.floor(figure));
            row.extend([
                best.map(|best| format!("{} {}", show(best.value), best.peer)).unwrap_or_default(),
                best.map(|best| ratio(best.value)).unwrap_or_default(),
                floor.map(|floor| show(floor.value)).unwrap_or_default(),
                floor.map(|floor| ratio(floor.value)).unwrap_or_default(),
            ]);
        }
        table.add_row(row);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(std::io::stdout().lock(), "{table}")?;
    Ok(())
}

/// Prints the JSON document.
///
/// # Errors
/// When standard output is gone.
pub fn print_json(figures: &[&Figure], samples: &Samples, peers: Option<&Peers>) -> anyhow::Result<()> {
    let figures: Vec<Value> = figures
        .iter()
        .filter_map(|figure| {
            let summary = Summary::of(samples, figure.name)?;
            let told = |one: &PeerFigure| {
                json!({
                    "peer": one.peer, "version": one.version, "metric": one.metric, "settings": one.settings,
                    "median": one.value, "min": one.min, "max": one.max,
                    "ours": summary.median / one.value,
                })
            };
            Some(json!({
                "name": figure.name,
                "title": figure.title,
                "unit": unit(figure.unit),
                "median": summary.median,
                "min": summary.min,
                "max": summary.max,
                "target": goal(figure),
                "reached": reached(figure, summary.median, samples, peers),
                "clientCores": summary.cores.map(|cores| cores.client),
                "serverCores": summary.cores.and_then(|cores| cores.server),
                "peers": peers.map(|peers| peers.each(figure).into_iter().map(told).collect::<Vec<_>>()),
                "floor": peers.and_then(|peers| peers.floor(figure)).map(told),
            }))
        })
        .collect();
    writeln!(std::io::stdout().lock(), "{:#}", json!({ "figures": figures }))?;
    Ok(())
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::JobsPerSecond => "/s",
        Unit::Milliseconds => "ms",
        Unit::PercentOfCore => "%",
        Unit::Bytes => "B",
        Unit::Mebibytes => "MiB",
        Unit::Rows => "rows",
        Unit::Ratio => "×",
    }
}

fn shown(value: f64, of: Unit) -> String {
    let digits = match of {
        Unit::JobsPerSecond | Unit::Bytes => 0,
        Unit::Mebibytes | Unit::PercentOfCore => 1,
        Unit::Milliseconds | Unit::Rows | Unit::Ratio => 2,
    };
    format!("{} {}", grouped(&format!("{value:.digits$}")), unit(of))
}

/// Thousands apart.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    rest.map_or_else(|| text.clone(), |rest| format!("{text}.{rest}"))
}

fn goal(figure: &Figure) -> String {
    match figure.goal {
        Goal::AtLeast(value) => format!("≥ {}", shown(value, figure.unit)),
        Goal::AtMost(value) => format!("≤ {}", shown(value, figure.unit)),
        Goal::TimesBestPeer(times) => format!("≥ {times} × best peer"),
        Goal::AtMostAndTimes(most, times, other) => {
            format!("≤ {}, ≤ {times} × {other}", shown(most, figure.unit))
        }
        Goal::None => "–".to_owned(),
    }
}

fn reached(figure: &Figure, value: f64, samples: &Samples, peers: Option<&Peers>) -> Option<bool> {
    match figure.goal {
        Goal::AtLeast(goal) => Some(value >= goal),
        Goal::AtMost(goal) => Some(value <= goal),
        Goal::AtMostAndTimes(most, times, other) => match Summary::of(samples, other) {
            Some(other) => Some(value <= most && value <= times * other.median),
            // Without the other figure it may still be seen to miss.
            None => Some(false).filter(|_| value > most),
        },
        Goal::TimesBestPeer(times) => {
            peers.and_then(|peers| peers.best(figure)).map(|best| value >= times * best.value)
        }
        Goal::None => None,
    }
}

fn cores(cores: Cores) -> String {
    let server = cores.server.map_or_else(|| "?".to_owned(), |server| format!("{server:.2}"));
    format!("{:.2} / {server}", cores.client)
}
