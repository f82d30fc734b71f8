//! The client: one POST, one bounded answer.

use std::error::Error;
use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use url::Url;

use crate::address::{self, AddressRefused};
use crate::resolver::{GuardedResolver, ResolveError};
use crate::retry_after;

const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 4;

/// Limits of the client.
#[derive(Debug, Clone, Copy)]
pub struct OutboundSettings {
    /// From the first look-up to the last byte of the answer that is kept.
    pub timeout: Duration,
    /// May this machine be reached? Only for a sandbox.
    pub allow_loopback: bool,
    /// How much of an answer is read and kept.
    pub body_bytes_max: usize,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(15), allow_loopback: false, body_bytes_max: 16 * 1024 }
    }
}

/// What the receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status, redirects included.
    pub status: u16,
    /// How long it asks us to wait before the next try.
    pub retry_after: Option<Duration>,
    /// The beginning of its body, unreadable bytes replaced.
    pub body: String,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// We do not send there.
    #[error("the address {0}")]
    Refused(#[from] AddressRefused),
    /// The host's name could not be turned into an address.
    #[error("name look-up: {0}")]
    Dns(String),
    /// No connection.
    #[error("connecting: {0}")]
    Connect(String),
    /// A connection, but no trusted encryption on it.
    #[error("TLS: {0}")]
    Tls(String),
    /// The time limit passed first.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Not an HTTP answer, or one cut short.
    #[error("HTTP: {0}")]
    Protocol(String),
}

impl OutboundError {
    /// One word for the kind of failure, for records.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "timeout",
            Self::Protocol(_) => "protocol",
        }
    }
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the outgoing HTTP client could not be set up")]
pub struct SetupError(#[source] Box<dyn Error + Send + Sync>);

/// Sends to addresses that others gave us. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct OutboundClient {
    http: reqwest::Client,
    settings: OutboundSettings,
}

impl OutboundClient {
    /// A client with the system's name resolution and trusted roots.
    ///
    /// Installs ring as rustls' provider if the process has none yet. On a machine without trusted roots every
    /// https request ends in [`OutboundError::Tls`].
    pub fn new(settings: OutboundSettings) -> Result<Self, SetupError> {
        let resolver = GuardedResolver::from_system(settings.allow_loopback)
            .map_err(|error| SetupError(Box::new(error)))?;
        Self::with_resolver(settings, resolver)
    }

    fn with_resolver(settings: OutboundSettings, resolver: GuardedResolver) -> Result<Self, SetupError> {
        // An error here means that a provider is installed already, which is all we need.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = builder(&settings, resolver.clone())
            .build()
            .or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "no trusted roots found: https requests will fail"
                );
                builder(&settings, resolver).tls_certs_only([]).build()
            })
            .map_err(|error| SetupError(Box::new(error)))?;
        Ok(Self { http, settings })
    }

    /// Posts `body` to `url`, which is checked again here.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, OutboundError> {
        address::check(url, self.settings.allow_loopback)?;
        self.send(url, headers, body).await
    }

    async fn send(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<Response, OutboundError> {
        let exchange = async {
            let request = self.http.post(url.clone()).headers(headers).body(body);
            let mut response = request.send().await?;
            let body = self.read(&mut response).await?;
            Ok::<_, reqwest::Error>((response, body))
        };
        let limit = self.settings.timeout;
        let (response, body) = tokio::time::timeout(limit, exchange)
            .await
            .map_err(|_| OutboundError::Timeout(limit))?
            .map_err(|error| classify(&error, limit))?;
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        Ok(Response {
            status: response.status().as_u16(),
            retry_after: asked.and_then(|value| retry_after::parse(value, kernel::clock::now())),
            body: readable(&body, self.settings.body_bytes_max),
        })
    }

    /// Reads until the end or the limit. What is beyond the limit is left unread, which closes the connection.
    async fn read(&self, response: &mut reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
        let mut body = Vec::new();
        while body.len() < self.settings.body_bytes_max {
            let Some(chunk) = response.chunk().await? else { break };
            let room = self.settings.body_bytes_max - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(body)
    }
}

/// The one place besides `vendors` where an HTTP client is made.
#[allow(clippy::disallowed_methods)]
fn builder(settings: &OutboundSettings, resolver: GuardedResolver) -> reqwest::ClientBuilder {
    // Decompression is off even if another crate turns the feature on: a small body must not unpack into a
    // large one, and what is kept should be what was sent.
    reqwest::Client::builder()
        .user_agent(concat!("Millpond/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(resolver)
        .redirect(Policy::none())
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .referer(false)
        .http1_only()
        .connect_timeout(settings.timeout)
        .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
}

fn readable(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    // Each replaced byte grew to three.
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

fn classify(error: &reqwest::Error, limit: Duration) -> OutboundError {
    if let Some(resolve) = cause::<ResolveError>(error) {
        return match resolve {
            ResolveError::Forbidden(reason) => AddressRefused::Forbidden(*reason).into(),
            ResolveError::NoAddress | ResolveError::Failed(_) => OutboundError::Dns(resolve.to_string()),
        };
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return OutboundError::Tls(tls.to_string());
    }
    if error.is_timeout() {
        return OutboundError::Timeout(limit);
    }
    // The innermost message: the outer ones repeat the URL, which may hold its owner's secrets.
    let message = innermost(error).to_string();
    if error.is_connect() { OutboundError::Connect(message) } else { OutboundError::Protocol(message) }
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

/// The errors below `error`. An I/O error's `source` skips the error it wraps, which is the one looked for.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
