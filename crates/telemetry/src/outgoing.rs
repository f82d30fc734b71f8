//! The client for what the process says about itself elsewhere: spans and error reports.
//!
//! Guarantees: redirects are not followed, because credentials would go along; nothing takes longer than a try may.

use std::time::Duration;

use kernel::is_loopback;
use reqwest::{Client, redirect};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One try, so that a receiver that hangs leaves time for another.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);

#[expect(
    clippy::disallowed_methods,
    reason = "the address is set by the operator, and vendors and outbound are above this crate"
)]
pub(crate) fn client(address: &Url) -> Result<Client, reqwest::Error> {
    // Already installed by main; a program that forgot gets the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("millpond/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TRY_TIMEOUT)
        .redirect(redirect::Policy::none());
    if address.scheme() == "http" {
        // No certificates are needed, and a bare machine may have none to load.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(address) {
        // A proxy set for the outside world cannot reach this machine.
        builder = builder.no_proxy();
    }
    builder.build()
}
