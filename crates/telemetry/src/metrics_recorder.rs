//! Metrics: the one recorder of the process, rendered in Prometheus' text format.
//!
//! Counters and gauges are the exporter's, histograms our own ([`Histograms`]), so memory stays bounded whether or not
//! anybody scrapes. Whoever counts for every job keeps the handle that the macro gives, for its look-up is what costs.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::{VERSION, catalogue, histograms::Histograms};

/// Shows the metrics of the process; clones show the same.
#[derive(Clone, Debug)]
pub struct MetricsHandle {
    rest: PrometheusHandle,
    histograms: Arc<Histograms>,
}

impl MetricsHandle {
    /// All metrics as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.rest.render();
        self.histograms.render(&mut text);
        text
    }
}

/// The process' metrics. The first call installs the recorder; what was recorded before it is lost.
pub fn metrics_handle() -> MetricsHandle {
    static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> MetricsHandle {
    let rest = PrometheusBuilder::new().build_recorder();
    let histograms = Arc::new(Histograms::default());
    let handle = MetricsHandle { rest: rest.handle(), histograms: histograms.clone() };
    let recorder = Split { rest, histograms };
    catalogue::describe_all(&recorder);
    if metrics::set_global_recorder(recorder).is_err() {
        // Only possible when something else installed one: metrics go there, and ours stay empty.
        tracing::error!("another metrics recorder is installed; /metrics will be empty");
        return handle;
    }
    metrics::gauge!("millpond_build_info", "version" => VERSION).set(1.0);
    handle
}

/// Histograms go one way, everything else the other.
struct Split {
    rest: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder for Split {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.rest.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.rest.describe_gauge(name, unit, help);
    }

    /// Ours are described by the catalogue.
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.rest.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.rest.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.series(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_renders_what_the_process_recorded() {
        let first = metrics_handle();
        metrics::counter!("millpond_jobs_claimed_total", "queue" => "enrich").increment(2);
        metrics::histogram!("millpond_turn_seconds", "queue" => "enrich").record(0.02);
        let text = metrics_handle().render();
        for line in [
            "# HELP millpond_jobs_claimed_total Jobs taken on by this process.",
            "millpond_jobs_claimed_total{queue=\"enrich\"} 2",
            "millpond_turn_seconds_bucket{queue=\"enrich\",le=\"0.025\"} 1",
            &format!("millpond_build_info{{version=\"{VERSION}\"}} 1"),
            "millpond_leases_lost_total 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let sorted = |handle: &MetricsHandle| {
            let text = handle.render();
            let mut lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&first), sorted(&metrics_handle()));
    }
}
