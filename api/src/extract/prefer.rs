//! `Prefer: wait=N` (RFC 7240): hold the answer open for the result.
//!
//! As the RFC asks, what is not understood is ignored, the first of several `wait`s counts, and what was honoured is
//! said in `Preference-Applied`. More than 25 seconds are taken as 25: proxies commonly give up at 30.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest wait, for `Prefer` and for the `wait` parameter alike.
pub const WAIT_S_MAX: u32 = 25;

/// The header a response says it in.
pub static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long the caller prefers to wait for the final answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PreferWait {
    /// Seconds, at most [`WAIT_S_MAX`]; `None` when nothing valid was asked.
    pub seconds: Option<u32>,
}

impl PreferWait {
    /// The wait, if a positive one was asked.
    pub fn duration(self) -> Option<Duration> {
        self.seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// The header that says what was honoured.
    pub fn applied(self) -> Option<(HeaderName, HeaderValue)> {
        let seconds = self.seconds?;
        let value = HeaderValue::from_str(&format!("wait={seconds}")).ok()?;
        Some((PREFERENCE_APPLIED.clone(), value))
    }
}

impl<S: Sync> FromRequestParts<S> for PreferWait {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { seconds: wait_s(&parts.headers) })
    }
}

fn wait_s(headers: &HeaderMap) -> Option<u32> {
    let values = headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
    let first = values.flat_map(preferences).find(|(name, _)| name.eq_ignore_ascii_case("wait"))?;
    let digits = first.1.as_str();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that overflow ask for more than the longest wait too.
    plain.then(|| digits.parse::<u32>().map_or(WAIT_S_MAX, |seconds| seconds.min(WAIT_S_MAX)))
}

/// The names and values of a `Prefer` header: `name[=value][;parameter…]`, separated by commas, values perhaps
/// quoted. Parameters are dropped: none of ours has any.
fn preferences(header: &str) -> Vec<(String, String)> {
    split_outside_quotes(header, ',')
        .into_iter()
        .filter_map(|preference| split_outside_quotes(preference, ';').first().copied())
        .map(|preference| {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            (name.trim().to_owned(), unquoted(value.trim()))
        })
        .collect()
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(|character| {
        let was_escaped = escaped;
        escaped = quoted && character == '\\' && !was_escaped;
        if character == '"' && !was_escaped {
            quoted = !quoted;
        }
        character == separator && !quoted
    })
    .collect()
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace('\\', ""),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&'static str]) -> Option<u32> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER.clone(), HeaderValue::from_static(value));
        }
        wait_s(&headers)
    }

    #[test]
    fn a_wait_is_found_among_other_preferences() {
        assert_eq!(asked(&["wait=10"]), Some(10));
        assert_eq!(asked(&["respond-async, Wait = \"7\"; x=1"]), Some(7));
        assert_eq!(asked(&["return=minimal", "foo=\"a, wait=3\", wait=4"]), Some(4));
    }

    #[test]
    fn the_first_wait_counts() {
        assert_eq!(asked(&["wait=1, wait=2"]), Some(1));
        assert_eq!(asked(&["wait=3", "wait=2"]), Some(3));
    }

    #[test]
    fn a_long_wait_is_shortened() {
        assert_eq!(asked(&["wait=26"]), Some(25));
        assert_eq!(asked(&["wait=99999999999999999999"]), Some(25));
    }

    #[test]
    fn what_is_not_a_number_of_seconds_is_ignored() {
        for value in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", "respond-async", ""] {
            assert_eq!(asked(&[value]), None, "{value}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn what_was_honoured_is_said() {
        let applied = PreferWait { seconds: Some(25) }.applied().unwrap();
        assert_eq!(applied.1, "wait=25");
        assert_eq!(PreferWait { seconds: Some(0) }.duration(), None);
    }
}
