//! What surrounds every handler, one concern a file. Their order is in `router.rs`.

pub mod access_log;
pub mod context;
pub mod rate_headers;
pub mod request_id;
pub mod request_metrics;
pub mod security_headers;
pub mod shed;
pub mod time_limit;
pub mod trace_context;
