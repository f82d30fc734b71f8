//! Every query of the dashboard and of the alert rules asks for metrics that we export, by labels that they have.

use std::collections::BTreeSet;

use promql_parser::parser::{AggregateExpr, Expr, LabelModifier, VectorSelector, parse};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use telemetry::catalogue::{self, Kind};

use super::*;

/// What Prometheus itself adds to every series it scrapes from us.
const OF_TARGETS: [&str; 3] = ["instance", "job", "role"];

/// Collects what is wrong with a query.
#[derive(Default)]
struct Asked {
    metrics: BTreeSet<String>,
    faults: Vec<String>,
}

/// The labels of a series; none if there is no such series.
fn labels_of(series: &str) -> Option<BTreeSet<&'static str>> {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
        let metric = catalogue::find(series.strip_suffix(part)?)?;
        (metric.kind == Kind::Histogram).then_some((metric.labels, *part == "_bucket"))
    });
    let plain = || {
        let metric = catalogue::find(series)?;
        (metric.kind != Kind::Histogram).then_some((metric.labels, false))
    };
    let (labels, has_le): (&[&str], bool) = match series {
        "up" => (&[], false),
        "ALERTS" => (&["alertname", "alertstate", "severity"], false),
        _ => of_histogram.or_else(plain)?,
    };
    Some(labels.iter().copied().chain(OF_TARGETS).chain(has_le.then_some("le")).collect())
}

impl Asked {
    fn of(query: &str) -> Self {
        // Grafana's variables stand where a duration or a pattern would.
        let query = query.replace("$__rate_interval", "5m");
        let mut asked = Self::default();
        match parse(&query) {
            Ok(expr) => {
                let _ = walk_expr(&mut asked, &expr);
            }
            Err(error) => asked.faults.push(format!("{query}: {error}")),
        }
        asked
    }

    fn series(&mut self, selector: &VectorSelector) {
        let name = selector.name.clone().unwrap_or_default();
        let Some(labels) = labels_of(&name) else {
            self.faults.push(format!("{name:?} is not in the catalogue of metrics"));
            return;
        };
        let strange =
            selector.matchers.matchers.iter().filter(|matcher| !labels.contains(matcher.name.as_str()));
        self.faults.extend(strange.map(|matcher| format!("{name} has no label {:?}", matcher.name)));
        self.metrics.insert(name);
    }

    /// What is aggregated by a label must have it.
    fn aggregate(&mut self, aggregate: &AggregateExpr) {
        let Some(LabelModifier::Include(by)) = &aggregate.modifier else { return };
        let mut within = Self::default();
        let _ = walk_expr(&mut within, &aggregate.expr);
        for name in &within.metrics {
            let labels = labels_of(name).unwrap_or_default();
            let strange = by.labels.iter().filter(|label| !labels.contains(label.as_str()));
            self.faults
                .extend(strange.map(|label| format!("{name} is aggregated by {label:?}, which it lacks")));
        }
    }
}

impl ExprVisitor for Asked {
    type Error = ();

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
        match expr {
            Expr::VectorSelector(selector) => self.series(selector),
            Expr::MatrixSelector(matrix) => self.series(&matrix.vs),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            _ => {}
        }
        Ok(true)
    }
}

/// Every query of the dashboard, with the title of its panel.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/millpond.json")).unwrap();
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .into_iter()
            .map(move |target| (title.clone(), target["expr"].as_str().expect("an expression").to_owned()))
    });
    queries.collect()
}

fn faults(queries: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let faults = queries.into_iter().flat_map(|(place, query)| {
        Asked::of(&query).faults.into_iter().map(move |fault| format!("{place}: {fault}"))
    });
    faults.collect()
}

// S0-177
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let queries = dashboard_queries();
    assert!(queries.len() > 50, "they are found");
    let faults = faults(queries);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_alerts_ask_for_what_there_is() {
    let faults = faults(alerts().into_iter().map(|alert| (alert.name, alert.expr)));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn variables_of_the_dashboard_are_labels_of_metrics() {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/millpond.json")).unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap_or_default();
        let Some(inner) = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) else {
            continue;
        };
        let (selector, label) = inner.rsplit_once(", ").expect("a selector and a label");
        let asked = Asked::of(selector);
        assert!(asked.faults.is_empty(), "{:?}", asked.faults);
        let name = asked.metrics.first().expect("a metric");
        assert!(labels_of(name).unwrap().contains(label), "{query}");
    }
}

#[test]
fn a_query_for_what_there_is_not_is_found() {
    let wrong = [
        "millpond_queue_dpeth",
        r#"sum by (queue) (rate(millpond_jobs_claimed_total{kind="a"}[5m]))"#,
        "sum by (kind) (rate(millpond_jobs_claimed_total[5m]))",
        "rate(millpond_job_wait_seconds[5m])",
        "rate(millpond_queue_depth_bucket[5m])",
        "sum(millpond_queue_depth",
    ];
    for query in wrong {
        assert!(!Asked::of(query).faults.is_empty(), "{query}");
    }
    assert!(
        Asked::of("histogram_quantile(0.9, sum by (kind, le) (rate(millpond_job_wait_seconds_bucket[5m])))")
            .faults
            .is_empty()
    );
}

#[test]
fn what_only_the_leader_shows_is_never_summed_over_processes() {
    // `NaN` of a process that led once would hide what the present leader shows.
    for (place, query) in
        dashboard_queries().into_iter().chain(alerts().into_iter().map(|one| (one.name, one.expr)))
    {
        let of_leader = catalogue::ALL.iter().filter(|metric| metric.shown == catalogue::Shown::Leader);
        for metric in of_leader {
            for (start, _) in query.match_indices(metric.name) {
                let before = query[..start].trim_end_matches('(').trim_end();
                let sums = before
                    .rsplit(['(', '+', '-', '/', '*', '>', '<'])
                    .next()
                    .unwrap_or_default()
                    .contains("sum");
                assert!(!sums, "{place}: {query}");
            }
        }
    }
}
