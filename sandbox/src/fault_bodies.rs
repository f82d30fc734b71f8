//! What broken answers look like on the wire.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;

use crate::json::Refusal;

const PIECES: u32 = 10;
const OVERSIZED_PIECE_BYTES: u64 = 64 * 1024;

/// Marks an answer in whose place the connection is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropConnection;

/// An answer that makes the server close the connection without sending anything.
pub(crate) fn dropped() -> Response {
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(DropConnection);
    response
}

/// An answer with a chosen status and the meter's error body.
pub(crate) fn with_status(status: u16, retry_after: Option<&str>, location: Option<&str>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = match status.as_u16() {
        401 => "unauthorized",
        429 => "rate_limited",
        503 => "crawl_failed",
        _ => "internal",
    };
    let mut response = Refusal::new(status, code, "a fault on demand").into_response();
    for (name, value) in [(RETRY_AFTER, retry_after), (LOCATION, location)] {
        if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The answer announces its whole length, sends half of it and closes the connection.
pub(crate) async fn truncated(response: Response) -> Response {
    let (mut parts, bytes) = taken_apart(response).await;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.slice(..bytes.len() / 2);
    let body = stream::unfold(Some(half), |left| async move {
        match left {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                // The server sends what it has only when the body makes it wait; an error at once would swallow it.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Some((Err(io::Error::other("broken off on demand")), None))
            }
            None => None,
        }
    });
    Response::from_parts(parts, Body::from_stream(body))
}

/// The answer has the right status and the right type, but is no JSON.
pub(crate) async fn malformed(response: Response) -> Response {
    let (mut parts, bytes) = taken_apart(response).await;
    parts.headers.remove(CONTENT_LENGTH);
    let text = String::from_utf8_lossy(&bytes).replace(':', ";");
    Response::from_parts(parts, Body::from(text + "}"))
}

/// An answer of this many bytes whose length is not announced.
pub(crate) fn oversized(bytes: u64) -> Response {
    let piece = Bytes::from(vec![b' '; OVERSIZED_PIECE_BYTES as usize]);
    let body = stream::unfold((piece, bytes), |(piece, left)| async move {
        let length = left.min(OVERSIZED_PIECE_BYTES);
        let now = piece.slice(..length as usize);
        (length > 0).then(|| (Ok::<_, io::Error>(now), (piece, left - length)))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer's head at once, its body in pieces over this time.
pub(crate) async fn slow(response: Response, over: Duration) -> Response {
    let (mut parts, bytes) = taken_apart(response).await;
    parts.headers.remove(CONTENT_LENGTH);
    let size = bytes.len().div_ceil(PIECES as usize).max(1);
    let body = stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(over / PIECES).await;
        let piece = left.split_to(size.min(left.len()));
        Some((Ok::<_, io::Error>(piece), left))
    });
    Response::from_parts(parts, Body::from_stream(body))
}

/// The sandbox's own answers are small and in memory, so reading them cannot fail. An empty one gets something that
/// can be broken.
async fn taken_apart(response: Response) -> (axum::http::response::Parts, Bytes) {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if bytes.is_empty() {
        parts.status = StatusCode::OK;
        return (parts, Bytes::from_static(br#"{"received": true, "padding": "................"}"#));
    }
    (parts, bytes)
}
