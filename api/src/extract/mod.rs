//! From a request to typed values. Every rejection is an `ApiError`, and what can be checked together is told
//! together.

pub mod body;
pub mod credential_cache;
pub mod failed_attempts;
pub mod fields;
pub mod idempotency;
pub mod partner;
pub mod path_id;
pub mod peer;
pub mod person;
pub mod prefer;
pub mod query;
pub mod rate_limit;

mod strict_json;
