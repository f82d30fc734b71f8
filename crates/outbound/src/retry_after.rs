//! The `Retry-After` header: seconds, or an instant (RFC 9110 10.2.3).

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How long the receiver asks us to wait, counted from `now`. Unreadable values and past instants ask nothing.
pub(crate) fn parse(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    until.signed_duration_since(now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_instants_are_understood_and_nonsense_is_not() {
        let now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
        assert_eq!(parse("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(parse("Sat, 21 Nov 2026 12:01:30 GMT", now), Some(Duration::from_secs(90)));
        assert_eq!(parse("Sat, 21 Nov 2026 11:00:00 GMT", now), None);
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999"] {
            assert_eq!(parse(nonsense, now), None, "{nonsense}");
        }
    }
}
