//! The one HTTP stack for vendors.
//!
//! Guarantees: one deadline covers a whole [`Transport::call`] with all its tries; at most two quick retries, only after
//! faults that pass quickly; bodies are read up to a limit and no further; redirects are never followed, because the
//! token would go along. Each try increments `millpond_vendor_calls_total{vendor, operation, outcome}` and is timed in
//! `millpond_vendor_call_duration_seconds{vendor, operation}`.
//!
//! On failure: what is common to all vendors is classified here (timeouts, connections, 401, 429, 5xx); the other 4xx
//! are a vendor's own words and are read by its [`Dialect`].

pub(crate) mod whole;

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use kernel::is_loopback;
use kernel::trace::{TRACEPARENT, TraceParent};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use telemetry::span::{self, Kind, Span};
use tokio::time::Instant;
use url::Url;

use crate::{Gate, SetupError, VendorError, retry_after};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 1 << 20;
const QUICK_RETRIES_MAX: usize = 2;
const QUICK_RETRY_MIN: Duration = Duration::from_millis(100);
const QUICK_RETRY_MAX: Duration = Duration::from_secs(1);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE: HeaderName = HeaderName::from_static(TRACEPARENT);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const HEADER_CHARACTERS_MAX: usize = 128;

/// What differs from vendor to vendor.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The vendor's name in metrics and errors.
    pub vendor: &'static str,
    /// Reads a 4xx other than 401, 408, 425 and 429.
    pub refusal: fn(StatusCode, &[u8]) -> VendorError,
}

/// How a vendor is reached.
#[derive(Clone)]
pub struct Access {
    /// The absolute base address; paths are appended to it.
    pub base_url: String,
    /// The bearer token.
    pub token: String,
    /// The time that one call may take, with everything.
    pub timeout: Duration,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One operation of a vendor, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The operation's name in metrics.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path below the base address, segment by segment; each is percent-encoded.
    pub path: &'a [&'a str],
    /// The JSON body.
    pub body: Option<serde_json::Value>,
    /// On whose behalf this happens.
    pub origin: Origin<'a>,
    /// The same for all tries of one piece of work; up to 128 visible ASCII characters.
    pub idempotency_key: Option<&'a str>,
}

/// What a call is made for, so that the vendor's records can be found from ours and ours from the vendor's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The request on whose behalf this happens, for `X-Request-Id`. Left out when it cannot stand in a header: the
    /// trace is not worth failing the call.
    pub request_id: Option<&'a str>,
    /// The span that makes the call, for `traceparent`; every try is a child of it.
    pub trace: Option<TraceParent>,
    /// Asked before every try; none: calls are not counted by anybody.
    pub gate: Option<&'a dyn Gate>,
}

/// A request that is in no trace.
impl<'a> From<Option<&'a str>> for Origin<'a> {
    fn from(request_id: Option<&'a str>) -> Self {
        Self { request_id, trace: None, gate: None }
    }
}

/// A vendor's client: its address, token and limits, over pooled connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client,
    base: Url,
    authorization: HeaderValue,
    timeout: Duration,
    dialect: Dialect,
}

impl Transport {
    /// Prepares a vendor's client. Makes no connection.
    ///
    /// # Errors
    /// When the address or token cannot be used, or the machine lacks certificates for an https address.
    pub fn new(access: &Access, dialect: Dialect) -> Result<Self, SetupError> {
        let vendor = dialect.vendor;
        let base = base_url(&access.base_url).map_err(|reason| SetupError::BaseUrl { vendor, reason })?;
        let mut authorization = Some(access.token.as_str())
            .filter(|token| !token.is_empty())
            .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok())
            .ok_or(SetupError::Token { vendor })?;
        authorization.set_sensitive(true);
        let client = client(&base).map_err(|source| SetupError::Client { vendor, source })?;
        Ok(Self { client, base, authorization, timeout: access.timeout, dialect })
    }

    /// Sends a call and reads the 2xx body with `read`, trying again at once up to twice where that may help.
    ///
    /// # Errors
    /// As [`VendorError`] says. Never later than the timeout, not counting the wait for permits.
    pub async fn call<T, R>(&self, call: &Call<'_>, read: R) -> Result<T, VendorError>
    where
        R: Fn(&[u8]) -> Result<T, VendorError>,
    {
        let mut deadline = Instant::now() + self.timeout;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(QUICK_RETRY_MIN)
            .with_max_delay(QUICK_RETRY_MAX)
            .with_factor(3.0)
            .with_max_times(QUICK_RETRIES_MAX)
            .with_jitter()
            .build();
        let mut failed = None;
        let mut tries = 0;
        loop {
            let asked_at = Instant::now();
            let pass = match call.origin.gate {
                Some(gate) => match gate.pass().await {
                    Ok(pass) => Some(pass),
                    // What the vendor did comes before what it would have been asked next.
                    Err(source) => return Err(failed.unwrap_or(VendorError::NotPermitted { source })),
                },
                None => None,
            };
            // The vendor's time is not spent by waiting for our own permission.
            deadline += asked_at.elapsed();
            let error = match self.measured(call, tries, deadline, &read).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            drop(pass);
            // A pause that would outlast the deadline helps nobody: better the real error now than a timeout later.
            let pause = pauses.next().filter(|pause| error.is_brief() && Instant::now() + *pause < deadline);
            let Some(pause) = pause else { return Err(error) };
            tracing::debug!(
                vendor = self.dialect.vendor,
                operation = call.operation,
                outcome = error.outcome(),
                pause_ms = pause.as_millis() as u64,
                "the vendor is called again"
            );
            tokio::time::sleep(pause).await;
            failed = Some(error);
            tries += 1;
        }
    }

    /// One try, cut off at the deadline, counted, timed, and a span of its own.
    async fn measured<T, R>(
        &self,
        call: &Call<'_>,
        tries_before: u16,
        deadline: Instant,
        read: &R,
    ) -> Result<T, VendorError>
    where
        R: Fn(&[u8]) -> Result<T, VendorError>,
    {
        let began = Instant::now();
        let trace = call.origin.trace.map(TraceParent::child);
        let mut span = self.span(call, trace, tries_before);
        let result = match tokio::time::timeout_at(deadline, self.once(call, trace, &mut span)).await {
            Ok(result) => result.and_then(|body| read(&body)),
            Err(_) => Err(VendorError::Timeout),
        };
        let (vendor, operation) = (self.dialect.vendor, call.operation);
        let outcome = result.as_ref().err().map_or("ok", VendorError::outcome);
        match &result {
            Ok(_) => span.succeed(),
            Err(error) => span.fail(error.outcome()),
        }
        metrics::counter!("millpond_vendor_calls_total", "vendor" => vendor, "operation" => operation, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("millpond_vendor_call_duration_seconds", "vendor" => vendor, "operation" => operation)
            .record(began.elapsed());
        result
    }

    /// The span of a try, for the collector. It names no path: that may hold a creator's name.
    fn span(&self, call: &Call<'_>, trace: Option<TraceParent>, tries_before: u16) -> Span {
        let Some(trace) = trace else { return Span::default() };
        let mut span = span::start(Kind::Client, trace, call.origin.trace, "HTTP");
        span.note(|span| {
            let (vendor, operation) = (self.dialect.vendor, call.operation);
            span.name(format!("{} {vendor}.{operation}", call.method))
                .set("http.request.method", span::text(call.method.to_string()))
                .set("http.request.resend_count", (tries_before > 0).then(|| span::whole(tries_before)))
                .set("server.address", self.base.host_str().map(|host| span::text(host.to_owned())))
                .set("server.port", self.base.port_or_known_default().map(span::whole))
                .set("vendor.name", span::text(vendor))
                .set("vendor.operation", span::text(operation))
                .set("request.id", call.origin.request_id.map(|id| span::text(id.to_owned())));
        });
        span
    }

    /// Sends the request and returns the body of a 2xx.
    async fn once(
        &self,
        call: &Call<'_>,
        trace: Option<TraceParent>,
        span: &mut Span,
    ) -> Result<Vec<u8>, VendorError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(call.path);
        }
        let mut request = self.client.request(call.method.clone(), url).headers(self.headers(call, trace)?);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(no_answer)?;
        let status = response.status();
        span.note(|span| {
            span.set("http.response.status_code", span::whole(status.as_u16()));
        });
        let retry_after = retry_after::of(response.headers(), kernel::clock::now());
        match status.as_u16() {
            200..=299 => bounded_body(response).await,
            401 => Err(VendorError::Unauthorized),
            429 => Err(VendorError::RateLimited { retry_after }),
            408 | 425 | 500.. => Err(VendorError::Server { status: status.as_u16(), retry_after }),
            400..=499 => Err((self.dialect.refusal)(status, &bounded_body(response).await?)),
            _ => Err(VendorError::Rejected {
                status: status.as_u16(),
                code: "unexpected_status".to_owned(),
                message: "redirects and other special answers are not followed".to_owned(),
            }),
        }
    }

    fn headers(&self, call: &Call<'_>, trace: Option<TraceParent>) -> Result<HeaderMap, VendorError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        if let Some(trace) = trace {
            tracing::debug!(
                vendor = self.dialect.vendor,
                operation = call.operation,
                trace.id = trace.trace_id(),
                trace.span = trace.span_id(),
                "the vendor is called"
            );
            headers.extend(short_header(&trace.to_string()).map(|value| (TRACE, value)));
        }
        if let Some(request_id) = call.origin.request_id.and_then(short_header) {
            headers.insert(REQUEST_ID, request_id);
        }
        if let Some(key) = call.idempotency_key {
            let value = short_header(key).ok_or_else(|| VendorError::Rejected {
                status: StatusCode::BAD_REQUEST.as_u16(),
                code: "invalid_request".to_owned(),
                message: "an idempotency key is 1 to 128 visible ASCII characters; nothing was sent"
                    .to_owned(),
            })?;
            headers.insert(IDEMPOTENCY_KEY, value);
        }
        Ok(headers)
    }
}

/// The one place where clients for vendors are made.
#[allow(clippy::disallowed_methods)]
fn client(base: &Url) -> Result<Client, reqwest::Error> {
    // The process installs its provider at start; where it did not (tests, tools), this is the same one. An error only
    // says that one is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::none());
    if base.scheme() == "http" {
        // No certificates are needed, and a bare machine may have none to load.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(base) {
        // A proxy set for the outside world cannot reach this machine's own sandbox.
        builder = builder.no_proxy();
    }
    builder.build()
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|fault| fault.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme must be http or https".to_owned());
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("it must not hold credentials, a query or a fragment".to_owned());
    }
    Ok(url)
}

fn short_header(text: &str) -> Option<HeaderValue> {
    let fits =
        (1..=HEADER_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| HeaderValue::from_str(text).ok()).flatten()
}

/// Nothing came back. A slow connection attempt counts as no connection: another one may be quick.
fn no_answer(error: reqwest::Error) -> VendorError {
    if error.is_timeout() && !error.is_connect() {
        VendorError::Timeout
    } else {
        VendorError::Connect { source: error.without_url().into() }
    }
}

async fn bounded_body(mut response: Response) -> Result<Vec<u8>, VendorError> {
    let too_large = || VendorError::malformed(format!("the body is larger than {BODY_BYTES_MAX} bytes"));
    if response.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) if body.len() + piece.len() > BODY_BYTES_MAX => return Err(too_large()),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(VendorError::Timeout),
            Err(_) => return Err(VendorError::malformed("the body broke off")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect { vendor: "test", refusal: |_, _| VendorError::NotFound };

    fn transport(base_url: &str, token: &str) -> Result<Transport, SetupError> {
        let access = Access {
            base_url: base_url.to_owned(),
            token: token.to_owned(),
            timeout: Duration::from_secs(1),
        };
        Transport::new(&access, DIALECT)
    }

    #[test]
    fn addresses_that_cannot_be_called_are_refused_at_start() {
        for address in [
            "",
            "meter",
            "/v1",
            "ftp://meter.example",
            "http://",
            "http://u:p@meter.example",
            "http://m.example/?x=1",
        ] {
            assert!(matches!(transport(address, "t"), Err(SetupError::BaseUrl { .. })), "{address}");
        }
        assert!(transport("http://meter.internal:8080/api/", "t").is_ok());
    }

    #[test]
    fn tokens_that_cannot_be_sent_are_refused_at_start() {
        for token in ["", "a\nb", "\u{7f}"] {
            assert!(
                matches!(transport("http://127.0.0.1", token), Err(SetupError::Token { .. })),
                "{token:?}"
            );
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let access = Access {
            base_url: "http://127.0.0.1".to_owned(),
            token: "s3cret".to_owned(),
            timeout: Duration::ZERO,
        };
        let transport = Transport::new(&access, DIALECT).unwrap();
        assert!(!format!("{access:?} {transport:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_recognised() {
        assert!(short_header("req_01jd").is_some());
        for text in ["", "a b", "a\r\nb", "é", &"x".repeat(129)] {
            assert!(short_header(text).is_none(), "{text:?}");
        }
    }
}
