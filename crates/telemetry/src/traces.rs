//! Where spans go when they end: to the exporter, if this build has one and the settings name a collector.

#[cfg(feature = "otlp")]
mod encoding;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod sending;

#[cfg(feature = "otlp")]
pub(crate) use exporter::{are_wanted, finish, offer, start};

#[cfg(test)]
#[cfg(feature = "otlp")]
mod tests;

/// Where spans are sent, and which.
#[derive(Clone)]
pub struct TraceSettings {
    /// The collector's address; `/v1/traces` is appended.
    pub endpoint: String,
    /// What it wants to see, as `name=value` pairs separated by commas. May hold credentials.
    pub headers: String,
    /// The share of traces that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// What we are called there.
    pub service_name: String,
}

impl std::fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.endpoint)
            .field("sample_ratio", &self.sample_ratio)
            .field("service_name", &self.service_name)
            .finish_non_exhaustive()
    }
}

#[cfg(not(feature = "otlp"))]
mod absent {
    //! A build without the feature `otlp`.

    use crate::{TelemetryError, TraceSettings, span::Record};

    pub(crate) const fn are_wanted() -> bool {
        false
    }

    pub(crate) fn offer(_: Record) {}

    pub(crate) fn start(_: &TraceSettings) -> Result<(), TelemetryError> {
        Err(TelemetryError::NotBuilt { what: "traces", feature: "otlp" })
    }

    pub(crate) fn finish() {}
}
#[cfg(not(feature = "otlp"))]
pub(crate) use absent::{are_wanted, finish, offer, start};
