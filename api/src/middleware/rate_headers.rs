//! `RateLimit-Policy` and `RateLimit` (the IETF draft of the HTTP API working group) on whatever an authenticated
//! request is answered with, errors included.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use super::context::{RateStanding, RequestContext};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds the headers when the extractor has noted a standing.
pub async fn tell_rate(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let standing = RequestContext::current().and_then(|context| context.rate());
    if let Some(standing) = standing {
        let headers = response.headers_mut();
        insert(headers, &RATE_LIMIT_POLICY, &policy(&standing));
        insert(headers, &RATE_LIMIT, &state(&standing));
    }
    response
}

fn policy(standing: &RateStanding) -> String {
    format!("\"minute\";q={};w=60", standing.limit)
}

fn state(standing: &RateStanding) -> String {
    format!("\"minute\";r={};t={}", standing.remaining, standing.resets_in_s())
}

fn insert(headers: &mut http::HeaderMap, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_headers_follow_the_draft() {
        let standing = RateStanding { limit: 100, remaining: 42, resets_in: Duration::from_millis(17_200) };
        assert_eq!(policy(&standing), "\"minute\";q=100;w=60");
        assert_eq!(state(&standing), "\"minute\";r=42;t=18");
    }

    #[test]
    fn a_window_about_to_end_is_never_said_to_end_in_zero_seconds() {
        let standing = RateStanding { limit: 1, remaining: 0, resets_in: Duration::ZERO };
        assert_eq!(standing.resets_in_s(), 1);
    }
}
