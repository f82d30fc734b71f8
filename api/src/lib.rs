//! The HTTP edge: thin handlers that read a request, call one function, enqueue and answer.
//!
//! `router` is the table of contents; `routes/<area>/<resource>.rs` holds wire types and handlers, `extract` what
//! turns a request into values, `middleware` what surrounds every handler, `error` the one body of all refusals.
//! The API makes no outgoing call but one: it exchanges the code of a single sign-on.

pub mod error;
mod estimate;
pub mod extract;
pub mod middleware;
mod openapi;
pub mod router;
pub mod routes;
pub mod server;
mod single_sign_on;
mod state;

pub use router::router;
pub use server::{Listener, ServerLimits, Tls, TlsError, serve};
pub use single_sign_on::SingleSignOn;
pub use state::{ApiParts, ApiState};
