//! What the process says about itself: logs on stderr, metrics for Prometheus, its version.
//!
//! Guarantees: stdout is never written to, because commands print their results there; one process has one logger
//! and one metrics recorder, however often they are asked for; a panic on any thread is logged before it unwinds.
//! On failure: starting logs a second time, or with a filter that cannot be read, is an error value.

mod logs;
mod metrics_recorder;

pub use logs::{Format, TelemetryError, init};
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use metrics_recorder::metrics_handle;

/// The version of this build, as logs and metrics show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
