//! Whole requests that a protocol's library wrote, sent over the same stack: for protocols that name their own addresses.
//!
//! Guarantees: as those of the stack, but without quick retries, since what is sent may be good only once. A request
//! goes over TLS, or to this very machine when the base address does too: no answer can talk us into less.

use http::{Request, Response};
use kernel::is_loopback;
use reqwest::{Client, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::{base_url, bounded_body, client, no_answer};
use crate::{SetupError, VendorError, retry_after};

/// A client for whole requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    client: Client,
    vendor: &'static str,
    /// The base is this very machine without TLS, as a sandbox is.
    may_be_plain: bool,
}

impl Whole {
    /// Prepares a client for a vendor that is first met at `base`. Makes no connection.
    pub(crate) fn new(vendor: &'static str, base: &str) -> Result<Self, SetupError> {
        let refused = |reason: String| SetupError::BaseUrl { vendor, reason };
        let base = base_url(base).map_err(refused)?;
        let may_be_plain = base.scheme() == "http";
        if may_be_plain && !is_loopback(&base) {
            return Err(refused("it must be https, except on this machine".to_owned()));
        }
        let client = client(&base).map_err(|source| SetupError::Client { vendor, source })?;
        Ok(Self { client, vendor, may_be_plain })
    }

    /// Whether a request may go there.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.may_be_plain && is_loopback(url),
            _ => false,
        }
    }

    /// Sends a request once. Any answer but 3xx, 408, 425, 429 and 5xx is the protocol's matter.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        request: Request<Vec<u8>>,
        deadline: Instant,
    ) -> Result<Response<Vec<u8>>, VendorError> {
        let began = Instant::now();
        let sent = tokio::time::timeout_at(deadline, self.once(request)).await;
        let result = sent.unwrap_or(Err(VendorError::Timeout));
        let outcome = result.as_ref().err().map_or("ok", VendorError::outcome);
        metrics::counter!("millpond_vendor_calls_total", "vendor" => self.vendor, "operation" => operation, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("millpond_vendor_call_duration_seconds", "vendor" => self.vendor, "operation" => operation)
            .record(began.elapsed());
        result
    }

    async fn once(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, VendorError> {
        let request = reqwest::Request::try_from(request)
            .map_err(|_| VendorError::malformed("it names an address that is none"))?;
        if !self.allows(request.url()) {
            return Err(VendorError::malformed("it names an address that is not protected by TLS"));
        }
        let response = self.client.execute(request).await.map_err(no_answer)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let retry_after = retry_after::of(&headers, kernel::clock::now());
        match status.as_u16() {
            429 => return Err(VendorError::RateLimited { retry_after }),
            408 | 425 | 500.. => return Err(VendorError::Server { status: status.as_u16(), retry_after }),
            300..=399 => return Err(redirected(status)),
            _ => {}
        }
        let mut whole = Response::new(bounded_body(response).await?);
        *whole.status_mut() = status;
        *whole.headers_mut() = headers;
        Ok(whole)
    }
}

fn redirected(status: StatusCode) -> VendorError {
    VendorError::Rejected {
        status: status.as_u16(),
        code: "unexpected_status".to_owned(),
        message: "redirects are not followed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_talks_us_into_an_unprotected_line() {
        let real = Whole::new("test", "https://id.example").unwrap();
        let fake = Whole::new("test", "http://127.0.0.1:8081/oidc").unwrap();
        for (url, really, fakely) in [
            ("https://elsewhere.example/token", true, true),
            ("http://id.example/token", false, false),
            ("http://127.0.0.1:8081/token", false, true),
            ("javascript:alert(1)", false, false),
            ("file:///etc/passwd", false, false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!((real.allows(&url), fake.allows(&url)), (really, fakely), "{url}");
        }
        assert!(matches!(Whole::new("test", "http://id.example"), Err(SetupError::BaseUrl { .. })));
    }
}
