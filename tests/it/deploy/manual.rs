//! The operator's manual speaks of what there is: every alert has its section, every command is understood, and the table of
//! metrics is that of the catalogue.

use std::collections::BTreeSet;
use std::fmt::Write;

use telemetry::catalogue::{self, Kind, Shown};

use super::*;

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let manual = text("docs/OPERATIONS.md");
    let sections: BTreeSet<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .filter(|name| name.starts_with("Millpond"))
        .collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(sections, names);
    for alert in &alerts {
        assert_eq!(alert.runbook, format!("docs/OPERATIONS.md#{}", alert.name.to_lowercase()));
        assert!(["critical", "warning", "info"].contains(&alert.severity.as_str()), "{}", alert.name);
    }
}

#[test]
fn every_alert_is_caused_in_the_acceptance_test_and_told_apart_in_the_tests_of_the_rules() {
    let (caused, told) =
        (text("tests/acceptance/alerts_check.py"), text("deploy/prometheus/alerts_test.yml"));
    for alert in alerts() {
        assert!(caused.contains(&format!("\"{}\"", alert.name)), "nobody causes {}", alert.name);
        assert!(told.contains(&format!("- name: {}\n", alert.name)), "no test of {}", alert.name);
    }
}

#[test]
fn every_command_of_the_manual_is_understood() {
    let manual = text("docs/OPERATIONS.md");
    let mut commands = 0;
    let mut in_code = false;
    for line in manual.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            continue;
        }
        // The command without what stands before it (variables) and behind it (a remark, a pipe).
        let Some((_, rest)) =
            line.split_once("millpond ").filter(|(before, _)| in_code && !before.contains(['#', '/']))
        else {
            continue;
        };
        let rest = rest.split(['#', '|', '>', '&', ')']).next().unwrap_or_default();
        let words: Vec<&str> = rest.split_whitespace().collect();
        is_understood(&words).unwrap_or_else(|error| panic!("{line}\n{error}"));
        commands += 1;
    }
    assert!(commands > 20, "they are found");
}

const BEGIN: &str = "<!-- metrics: written from crates/telemetry/src/catalogue.rs, checked by tests/it/deploy/manual.rs -->\n";
const END: &str = "<!-- end of metrics -->\n";

fn table() -> String {
    let mut table = String::from("\n| name | type | labels | shown by | meaning |\n|---|---|---|---|---|\n");
    for metric in catalogue::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let shown = match metric.shown {
            Shown::Always => "every process",
            Shown::Api => "the API",
            Shown::Workers => "workers",
            Shown::Leader => "the leader",
            Shown::Scheduler => "schedulers",
            Shown::Occasion => "who meets it",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels, help) = (metric.name, labels.join(", "), metric.help);
        writeln!(table, "| `{name}` | {kind} | {labels} | {shown} | {help} |").unwrap();
    }
    table.push('\n');
    table
}

#[test]
fn the_table_of_metrics_is_that_of_the_catalogue() {
    let manual = text("docs/TELEMETRY.md");
    let (before, rest) = manual.split_once(BEGIN).expect("the mark of its beginning");
    let (shown, after) = rest.split_once(END).expect("the mark of its end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path("docs/TELEMETRY.md"), format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(shown, table(), "UPDATE_DOCS=1 writes it anew");
    }
}
