//! Error reports: every line of level ERROR, panics among them, also goes to Sentry or what speaks its protocol, if this build
//! has the feature and the settings name a receiver.

#[cfg(feature = "sentry")]
mod client;
#[cfg(feature = "sentry")]
mod layer;
#[cfg(test)]
#[cfg(feature = "sentry")]
mod tests;

#[cfg(feature = "sentry")]
pub(crate) use client::{finish, start};
#[cfg(feature = "sentry")]
pub(crate) use layer::Reporter;

/// Where errors are reported.
#[derive(Clone)]
pub struct ReportSettings {
    /// The receiver, with the key that it gave us.
    pub dsn: String,
    /// What this installation is called there.
    pub environment: String,
}

impl std::fmt::Debug for ReportSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportSettings").field("environment", &self.environment).finish_non_exhaustive()
    }
}

#[cfg(not(feature = "sentry"))]
mod absent {
    //! A build without the feature `sentry`.

    use crate::{ReportSettings, TelemetryError};

    /// Reports nothing.
    pub(crate) type Reporter = tracing_subscriber::layer::Identity;

    pub(crate) fn start(_: &ReportSettings) -> Result<Reporter, TelemetryError> {
        Err(TelemetryError::NotBuilt { what: "error reports", feature: "sentry" })
    }

    pub(crate) fn finish() {}
}
#[cfg(not(feature = "sentry"))]
pub(crate) use absent::{Reporter, finish, start};
