//! Request bodies: JSON objects of bounded size, read strictly.
//!
//! Order of refusals: 415 (not JSON, or compressed otherwise than by gzip), 413 (too long), 408 (too slow), 400 (all faults at
//! once). A body that is too long is still read to its end within bounds before the refusal, because a client that is
//! busy sending never sees an answer to a connection that was closed on it.

mod reading;

use axum::body::Bytes;
use axum::extract::{FromRef, FromRequest, Request};
use http::{HeaderMap, header};
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::fields::Fields;
use super::strict_json;
use crate::error::ApiError;
pub use reading::BodyLimits;
use reading::{Read, read_bytes};

/// A JSON object to be read, and its bytes (for the idempotency fingerprint).
#[derive(Debug)]
pub struct JsonBody {
    /// What it says.
    pub fields: Fields,
    /// What was sent, decoded.
    pub bytes: Bytes,
    /// Given back when the request is answered.
    _counted: Option<OwnedSemaphorePermit>,
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
        let Read { bytes, counted } = read_bytes(request, &BodyLimits::from_ref(state)).await?;
        let fields = Fields::new("field", object(&bytes)?, Vec::new());
        Ok(Self { fields, bytes, _counted: counted })
    }
}

impl<S> FromRequest<S> for NoBody
where
    S: Send + Sync,
    BodyLimits: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = read_bytes(request, &BodyLimits::from_ref(state)).await?.bytes;
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tokio::sync::Semaphore;

    use super::super::fields::text;
    use super::*;

    #[derive(Clone)]
    struct Limits(BodyLimits);

    impl FromRef<Limits> for BodyLimits {
        fn from_ref(limits: &Limits) -> Self {
            limits.0.clone()
        }
    }

    fn limits_of(read_timeout: Duration) -> Limits {
        Limits(BodyLimits::new(1_000, read_timeout, Arc::new(Semaphore::new(8))))
    }

    fn limits() -> Limits {
        limits_of(Duration::from_secs(5))
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
        let hurried = limits_of(Duration::from_millis(1));
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

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(encoding: &str, body: Vec<u8>) -> Request {
        let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        request.header(header::CONTENT_ENCODING, encoding).body(body.into()).unwrap()
    }

    #[tokio::test]
    async fn a_compressed_body_is_read_as_what_comes_out_of_it() {
        let small = gzip(br#"{"name":"a"}"#);
        assert_eq!(code(encoded("gzip", small.clone())).await, "OK");
        let read = JsonBody::from_request(encoded("X-Gzip", small.clone()), &limits()).await.unwrap();
        assert_eq!(read.bytes, &br#"{"name":"a"}"#[..], "one fingerprint, compressed or not");
        assert_eq!(code(encoded("identity", br#"{"name":"a"}"#.to_vec())).await, "OK");
        assert_eq!(code(encoded("gzip", br#"{"name":"a"}"#.to_vec())).await, "MALFORMED");
        assert_eq!(code(encoded("gzip", small[..small.len() - 4].to_vec())).await, "MALFORMED");
        for other in ["br", "gzip, gzip", "deflate", "\u{e9}"] {
            assert_eq!(code(encoded(other, small.clone())).await, "UNSUPPORTED_MEDIA_TYPE", "{other}");
        }
    }

    #[tokio::test]
    async fn a_small_body_that_becomes_a_huge_one_is_refused_before_it_does() {
        let bomb = gzip(&vec![b' '; 10_000_000]);
        assert!(bomb.len() < 20_000);
        assert_eq!(code(encoded("gzip", bomb)).await, "PAYLOAD_TOO_LARGE");
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_those_that_ended_count_no_more() {
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(8_000));
        let Limits(mut bounded) = limits();
        (bounded.bytes_max, bounded.kept) = (10_000, Arc::new(Semaphore::new(9_000)));
        let bounded = Limits(bounded);
        let others = Arc::clone(&bounded.0.kept).try_acquire_many_owned(5_000).unwrap();
        let read = JsonBody::from_request(request("application/json", long.clone()), &bounded).await;
        assert!(matches!(read, Err(ApiError::Overloaded)));
        drop(others);
        for _ in 0..3 {
            JsonBody::from_request(request("application/json", long.clone()), &bounded).await.unwrap();
        }
    }
}
