//! What the process says about itself: logs on stderr, metrics for Prometheus, its version.
//!
//! Guarantees: stdout is never written to, because commands print their results there; one process has one logger
//! and one metrics recorder, however often they are asked for; a panic on any thread is logged before it unwinds.
//! On failure: starting logs a second time, or with a filter that cannot be read, is an error value.

pub mod catalogue;
mod error;
mod histograms;
mod job_scope;
mod logs;
mod metrics_recorder;
#[cfg(any(feature = "otlp", feature = "sentry"))]
mod outgoing;
pub mod redaction;
mod reports;
pub mod span;
mod start;
mod traces;

pub use error::TelemetryError;
pub use job_scope::JobScope;
pub use logs::Format;
pub use metrics_recorder::{MetricsHandle, metrics_handle};
pub use reports::ReportSettings;
pub use start::{Settings, finish, start};
pub use traces::TraceSettings;

/// The version of this build, as logs and metrics show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
