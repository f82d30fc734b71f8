//! Request bodies: JSON objects of bounded size, read strictly.
//!
//! Order of refusals: 415 (not JSON), 413 (too long), 408 (too slow), 400 (all faults at once). A body that is too
//! long is still read to its end within bounds before the refusal, because a client that is busy sending never sees
//! an answer to a connection that was closed on it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, Request};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::fields::Fields;
use super::strict_json;
use crate::error::ApiError;

/// How much more than allowed is read and thrown away so that the client sees the refusal.
const DISCARDED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a body may cost. Part of the state.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Longer bodies are 413.
    pub bytes_max: usize,
    /// Slower bodies are 408.
    pub read_timeout: Duration,
}

/// A JSON object to be read, and its bytes as they came (for the idempotency fingerprint).
#[derive(Debug)]
pub struct JsonBody {
    /// What it says.
    pub fields: Fields,
    /// What was sent.
    pub bytes: Bytes,
}

/// A body of an endpoint that takes none: empty or `{}`.
#[derive(Debug)]
pub struct NoBody;

impl<S> FromRequest<S> for JsonBody
where
    S: Send + Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = read_bytes(request, BodyLimits::from_ref(state)).await?;
        let fields = Fields::new("field", object(&bytes)?, Vec::new());
        Ok(Self { fields, bytes })
    }
}

impl<S> FromRequest<S> for NoBody
where
    S: Send + Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_bytes(request, BodyLimits::from_ref(state)).await?;
        if !bytes.is_empty() {
            Fields::new("field", object(&bytes)?, Vec::new()).finish(|_| Some(()))?;
        }
        Ok(Self)
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match strict_json::parse(bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(ApiError::invalid("body", "WRONG_TYPE", "must be a JSON object")),
        Err(message) => Err(ApiError::invalid("body", "MALFORMED", message)),
    }
}

/// `application/json`, if with a charset then UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    essence.eq_ignore_ascii_case("application/json")
        && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

async fn read_bytes(request: Request, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let too_large = ApiError::PayloadTooLarge { bytes_max: limits.bytes_max };
    let announced = content_length(request.headers()).unwrap_or(0);
    // A client that asks before it sends needs only the answer.
    let asks_first = request.headers().contains_key(header::EXPECT);
    if announced > limits.bytes_max && (asks_first || announced > DISCARDED_BYTES_MAX) {
        return Err(too_large);
    }
    let read = read_to_end(request.into_body(), limits.bytes_max);
    match tokio::time::timeout(limits.read_timeout, read).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large),
        // The client went away or broke off: nobody is there to read this.
        Ok(Err(_)) => Err(ApiError::invalid("body", "INCOMPLETE", "ended before it was complete")),
        Err(_) => Err(ApiError::RequestTimeout),
    }
}

/// The bytes, or `None` if there are more than `bytes_max`.
async fn read_to_end(mut body: Body, bytes_max: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut kept = Vec::new();
    let mut seen = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        seen += data.len();
        if seen <= bytes_max {
            kept.extend_from_slice(&data);
        } else if seen > DISCARDED_BYTES_MAX {
            break;
        } else {
            kept = Vec::new();
        }
    }
    Ok((seen <= bytes_max).then(|| Bytes::from(kept)))
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::fields::text;
    use super::*;

    #[derive(Clone)]
    struct Limits(BodyLimits);

    impl FromRef<Limits> for BodyLimits {
        fn from_ref(limits: &Limits) -> Self {
            limits.0
        }
    }

    fn limits() -> Limits {
        Limits(BodyLimits { bytes_max: 1_000, read_timeout: Duration::from_secs(5) })
    }

    fn request(content_type: &str, body: impl Into<Body>) -> Request {
        Request::post("/").header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()
    }

    async fn code(request: Request) -> &'static str {
        let read = JsonBody::from_request(request, &limits()).await;
        let named = |body: JsonBody| {
            body.fields.finish(|fields| fields.required("name", |value| text(value).map(drop)))
        };
        match read.and_then(named) {
            Ok(()) => "OK",
            Err(ApiError::Validation(faults)) => faults[0].code,
            Err(error) => error.code(),
        }
    }

    #[tokio::test]
    async fn an_object_in_json_is_read() {
        assert_eq!(code(request("application/json", r#"{"name":"a"}"#)).await, "OK");
        assert_eq!(code(request("Application/JSON; charset=\"UTF-8\"", r#"{"name":"a"}"#)).await, "OK");
    }

    #[tokio::test]
    async fn other_media_types_are_refused() {
        for other in ["text/plain", "application/json; charset=latin1", "application/jsonx", ""] {
            assert_eq!(code(request(other, "{}")).await, "UNSUPPORTED_MEDIA_TYPE", "{other}");
        }
    }

    #[tokio::test]
    async fn what_is_not_an_object_is_refused() {
        assert_eq!(code(request("application/json", "[]")).await, "WRONG_TYPE");
        assert_eq!(code(request("application/json", "")).await, "MALFORMED");
        assert_eq!(code(request("application/json", "{\"name\":")).await, "MALFORMED");
        assert_eq!(code(request("application/json", vec![0xff])).await, "MALFORMED");
    }

    #[tokio::test]
    async fn a_body_one_byte_too_long_is_refused_announced_or_not() {
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1_000 - 11 + 1));
        assert_eq!(long.len(), 1_001);
        assert_eq!(code(request("application/json", long.clone())).await, "PAYLOAD_TOO_LARGE");
        let pieces = long
            .into_bytes()
            .chunks(7)
            .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
            .collect::<Vec<_>>();
        let chunked = Body::from_stream(futures::stream::iter(pieces));
        assert_eq!(code(request("application/json", chunked)).await, "PAYLOAD_TOO_LARGE");
        let fitting = format!("{{\"name\":\"{}\"}}", "x".repeat(1_000 - 11));
        assert_eq!(code(request("application/json", fitting)).await, "OK");
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let hurried = Limits(BodyLimits { bytes_max: 1_000, read_timeout: Duration::from_millis(1) });
        let read = JsonBody::from_request(request("application/json", endless), &hurried).await;
        assert!(matches!(read, Err(ApiError::RequestTimeout)));
    }

    #[tokio::test]
    async fn an_endpoint_without_a_body_takes_none() {
        for (body, fits) in [("", true), ("{}", true), ("{\"a\":1}", false), ("null", false)] {
            let read = NoBody::from_request(request("application/json", body), &limits()).await;
            assert_eq!(read.is_ok(), fits, "{body}");
        }
    }
}
