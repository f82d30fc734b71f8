//! Crawling creators' profiles.

mod actions;
mod enrich;
mod fetch;
mod metered;

pub use actions::{NewEnrich, RequestError, request_enrich};
pub use enrich::Enrich;
pub use fetch::Fetch;
pub(crate) use fetch::STALE_AGE_MAX;
pub use metered::meter_limits;
