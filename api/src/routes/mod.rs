//! Wire types and handlers, one file a resource.

pub mod admin;
pub mod body;
pub mod docs;
pub mod health;
pub mod jobs;
pub mod ops;
pub mod partners;
pub mod profiles;
pub mod session;
pub mod welcome;

use chrono::{DateTime, SecondsFormat, Utc};

/// An instant as it is written everywhere: RFC 3339 in UTC, milliseconds, ending in `Z`.
fn instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}
