//! The client of Sentry: its own, over our HTTP client, with every event cleaned before it leaves.
//!
//! Guarantees: whoever logs an error never waits; the client's queue is bounded and its receiver's limits are respected, both
//! by Sentry's own code. At the end of the process what is left is sent within [`FINISH_MAX`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sentry::protocol::Event;
use sentry::transports::ReqwestHttpTransportOptions;
use sentry::types::Dsn;
use sentry::{Client, ClientOptions, Transport, TransportFactory, TransportOptions};

use super::ReportSettings;
use super::layer::Reporter;
use crate::redaction::clean;
use crate::{TelemetryError, VERSION, outgoing};

/// How long the end of the process is held up for reports that are not sent yet.
const FINISH_MAX: Duration = Duration::from_secs(2);

static CLIENT: OnceLock<Arc<Client>> = OnceLock::new();

/// Reports errors from now on, through what it answers. Once a process.
pub(crate) fn start(settings: &ReportSettings) -> Result<Reporter, TelemetryError> {
    let client = Arc::new(client(settings)?);
    CLIENT.set(client.clone()).map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(Reporter::new(client))
}

/// Sends what is left.
pub(crate) fn finish() {
    if let Some(client) = CLIENT.get() {
        client.close(Some(FINISH_MAX));
    }
}

pub(super) fn client(settings: &ReportSettings) -> Result<Client, TelemetryError> {
    let dsn: Dsn = settings.dsn.parse().map_err(|_| TelemetryError::Dsn)?;
    let http = outgoing::client(&dsn.envelope_api_url()).map_err(TelemetryError::Reports)?;
    let mut options = ClientOptions::new()
        .release(format!("millpond@{VERSION}"))
        .environment(settings.environment.clone())
        .default_integrations(false)
        .send_default_pii(false)
        .transport(Http(http))
        .before_send(cleaned);
    options.dsn = Some(dsn);
    Ok(Client::from_config(options))
}

/// Sentry's own way of sending, with a client that we made.
struct Http(reqwest::Client);

impl TransportFactory for Http {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        Arc::new(ReqwestHttpTransportOptions::from(options).with_client(self.0.clone()).build())
    }
}

/// An event as it may leave the house; one that cannot be cleaned stays.
fn cleaned(event: Event<'static>) -> Option<Event<'static>> {
    let mut value = serde_json::to_value(&event).ok()?;
    clean(&mut value);
    serde_json::from_value(value).ok()
}
