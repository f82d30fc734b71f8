//! HTTP to addresses that others gave us.
//!
//! Guarantees: no request reaches an address of a private, local or special network, however the address was
//! written or what its name resolves to at that moment; the address that was checked is the one connected to;
//! redirects are answers, not orders; no system proxy, no cookies; each request ends within its time limit,
//! body included, and keeps a bounded part of the answer. Loopback is reachable only where the configuration
//! says so.
//!
//! Failure behaviour: every request ends in a [`Response`] with whatever status came, or in one
//! [`OutboundError`] that says what kept an answer from coming and never names a resolved address. Nothing is
//! retried here: whoever owns the work decides that.

mod address;
mod client;
mod guard;
mod resolver;
mod retry_after;

pub use address::{AddressRefused, URL_CHARS_MAX, check_url};
pub use client::{OutboundClient, OutboundError, OutboundSettings, Response, SetupError};
pub use guard::{Forbidden, check, forbidden};
pub use http::{HeaderMap, HeaderName, HeaderValue};
pub use url::Url;
