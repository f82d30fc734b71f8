//! Crawling creators' profiles.

mod actions;
mod enrich;
mod fetch;

pub use actions::{NewEnrich, RequestError, request_enrich};
pub use enrich::Enrich;
pub use fetch::Fetch;
pub(crate) use fetch::STALE_AGE_MAX;
