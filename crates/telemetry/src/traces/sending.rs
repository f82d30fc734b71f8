//! One collector: where it is, and how a batch is brought there.
//!
//! Guarantees: a batch takes at most [`BATCH_TIMEOUT`], with all tries; only what the specification calls worth trying again is
//! tried again; of an answer no more than [`ANSWER_BYTES_MAX`] are read; redirects are not followed, because the headers
//! may hold credentials.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{sleep, timeout};
use url::Url;

use super::TraceSettings;
use crate::TelemetryError;
use crate::outgoing::client;

/// With all tries.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before second and third tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("no answer within {} s", BATCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("no connection, or it broke: {0}")]
    Connection(String),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl SendError {
    fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Timeout | Self::Connection(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

pub(super) struct Collector {
    client: Client,
    address: Url,
    headers: HeaderMap,
}

impl Collector {
    /// Prepares the client; makes no connection.
    pub(super) fn new(settings: &TraceSettings) -> Result<Self, TelemetryError> {
        let refused = |reason: String| TelemetryError::Traces { endpoint: settings.endpoint.clone(), reason };
        let mut address = Url::parse(&settings.endpoint).map_err(|error| refused(error.to_string()))?;
        match address.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(["v1", "traces"]),
            Err(()) => return Err(refused("it is no http address".to_owned())),
        };
        let mut headers = headers(&settings.headers).ok_or(TelemetryError::TraceHeaders)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let client = client(&address).map_err(|error| refused(error.to_string()))?;
        Ok(Self { client, address, headers })
    }

    /// Brings a batch there; answers how many of its spans were rejected.
    pub(super) async fn send(&self, body: Vec<u8>) -> Result<u64, SendError> {
        let tries = async {
            let mut pauses = PAUSES.into_iter();
            loop {
                let error = match self.once(body.clone()).await {
                    Ok(rejected) => return Ok(rejected),
                    Err(error) => error,
                };
                let Some(pause) = pauses.next().filter(|_| error.is_worth_another_try()) else {
                    return Err(error);
                };
                sleep(pause).await;
            }
        };
        timeout(BATCH_TIMEOUT, tries).await.unwrap_or(Err(SendError::Timeout))
    }

    async fn once(&self, body: Vec<u8>) -> Result<u64, SendError> {
        let request = self.client.post(self.address.clone()).headers(self.headers.clone()).body(body);
        let response = request.send().await.map_err(broken)?;
        match response.status().is_success() {
            true => rejected(response).await,
            false => Err(SendError::Status(response.status())),
        }
    }
}

fn broken(error: reqwest::Error) -> SendError {
    if error.is_timeout() {
        SendError::Timeout
    } else {
        SendError::Connection(error.without_url().to_string())
    }
}

/// How many spans the collector says that it rejected. What is not OTLP says nothing.
async fn rejected(mut response: Response) -> Result<u64, SendError> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Ok(0);
        }
        body.extend_from_slice(&piece);
    }
    let answer = ExportTraceServiceResponse::decode(body.as_slice()).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    Ok(u64::try_from(rejected).unwrap_or(0))
}

/// `name=value` pairs separated by commas, as in `OTEL_EXPORTER_OTLP_HEADERS`.
fn headers(text: &str) -> Option<HeaderMap> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
        .collect()
}
