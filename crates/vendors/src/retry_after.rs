//! Reading `Retry-After` (RFC 9110, 10.2.3).

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// A vendor that names a longer wait than a day is taken to mean a day.
const WAIT_S_MAX: u64 = 24 * 3_600;

/// The wait that an answer asks for. A date is measured against the answer's own `Date`, because the vendor's clock and
/// ours may differ; without one, against `now`. `None` when there is no such header or it cannot be read.
pub(crate) fn of(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let sent = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
    wait(value, sent.unwrap_or(now))
}

fn wait(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are still a wait, only an absurd one.
        value.parse().unwrap_or(u64::MAX)
    } else {
        // A date that has passed means no wait.
        u64::try_from((http_date(value)? - now).num_seconds()).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds.min(WAIT_S_MAX)))
}

/// The three forms of an HTTP date, of which the last two are obsolete but must be understood (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(|at| at.and_utc())
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(1994, 11, 6, 8, 49, 0).unwrap()
    }

    #[test]
    fn seconds_and_all_three_forms_of_dates_are_understood() {
        for (value, seconds) in [
            ("0", 0),
            (" 120 ", 120),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 37),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 37),
            ("Sun Nov  6 08:49:37 1994", 37),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            ("999999", WAIT_S_MAX),
            ("99999999999999999999999999", WAIT_S_MAX),
            ("Sun, 06 Nov 2044 08:49:37 GMT", WAIT_S_MAX),
        ] {
            assert_eq!(wait(value, now()), Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn anything_else_asks_for_nothing() {
        for value in ["", "soon", "-1", "1.5", "+3", "1 2", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(wait(value, now()), None, "{value}");
        }
    }

    #[test]
    fn a_date_is_measured_by_the_vendors_own_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(of(&headers, now()), Some(Duration::from_secs(37)));
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:32 GMT".parse().unwrap());
        assert_eq!(of(&headers, now()), Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_or_wait_longer_than_a_day(value in ".{0,60}") {
            if let Some(wait) = wait(&value, now()) {
                prop_assert!(wait <= Duration::from_secs(WAIT_S_MAX));
            }
        }
    }
}
