//! Metrics: the one recorder of the process, rendered in Prometheus' text format.
//!
//! Names end in their unit: histograms in `_seconds` or `_bytes` get the buckets below, others are rendered as
//! summaries. Samples wait in memory until they are rendered or folded in; a thread of its own folds them in, so
//! that memory stays bounded when nobody scrapes.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::VERSION;

/// From a fast query to the longest vendor call, in seconds.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// From an empty body to the largest accepted one, in bytes.
const BYTES: &[f64] = &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 16_777_216.0];

const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// A handle whose `.render()` gives all metrics as text. The first call installs the recorder; all handles show the
/// same metrics. What was recorded before the first call is lost.
pub fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    let recorder = with_buckets(PrometheusBuilder::new()).build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        // Only possible when something else installed one: metrics go there, and ours stay empty.
        tracing::error!("another metrics recorder is installed; /metrics will be empty");
        return handle;
    }
    metrics::describe_gauge!("millpond_build_info", "Always 1; the label says which version runs.");
    metrics::gauge!("millpond_build_info", "version" => VERSION).set(1.0);
    keep_up(handle.clone());
    handle
}

fn with_buckets(mut builder: PrometheusBuilder) -> PrometheusBuilder {
    for (suffix, buckets) in [("_seconds", SECONDS), ("_bytes", BYTES)] {
        builder = builder
            .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)
            .expect("only an empty list of buckets is refused, and these are constants");
    }
    builder
}

fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            std::thread::sleep(UPKEEP_EVERY);
            handle.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(upkeep) {
        tracing::warn!(%error, "no thread for metrics upkeep: samples pile up between scrapes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_renders_what_the_process_recorded() {
        let first = metrics_handle();
        metrics::counter!("millpond_things_total").increment(2);
        metrics::histogram!("millpond_wait_seconds").record(0.02);
        let text = metrics_handle().render();
        assert!(text.contains("millpond_things_total 2"), "{text}");
        assert!(text.contains("millpond_wait_seconds_bucket{le=\"0.025\"} 1"), "{text}");
        assert!(text.contains(&format!("millpond_build_info{{version=\"{VERSION}\"}} 1")), "{text}");
        assert_eq!(first.render(), metrics_handle().render());
    }
}
