//! Clients for the vendors Millpond relies on: one file per vendor, speaking its real wire format over one shared HTTP
//! stack ([`http`]); mail has a line of its own ([`smtp`]). Only for hosts that the installation's own settings name; addresses that others give us go through
//! the `outbound` crate.
//!
//! Guarantees: no call takes longer than its vendor's timeout, retries and reading included; no answer is read beyond
//! its size limit; nothing a vendor sends is handed on unchecked; every call is counted and timed by outcome.
//!
//! On failure: a [`VendorError`] says what happened, whether another try may help and when the vendor wants it.

mod error;
mod gate;
pub mod http;
pub mod meter;
pub mod oidc;
mod retry_after;
pub mod smtp;

pub use error::{SetupError, VendorError};
pub use gate::{Gate, Pass, Passing, Refused};
pub use http::Origin;
