//! `X-Request-Id` in and out: the caller's where it is usable, else ours.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::context::RequestContext;
use super::trace_context;

/// The header both ways.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids are replaced: they end up in logs, jobs and vendor calls.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Names the request and its place in a trace, makes both known to everything below, and puts the name on the response.
pub async fn name_request(request: Request, next: Next) -> Response {
    let id = given(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let parent = trace_context::given(request.headers());
    let trace = trace_context::under(parent);
    let header = HeaderValue::from_str(&id).ok();
    let mut response = RequestContext::new(id, trace, parent).scope(next.run(request)).await;
    if let Some(value) = header {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
    response
}

/// The caller's id, if it is 1 to 128 visible ASCII characters and given once.
fn given(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(&X_REQUEST_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let usable = (1..=REQUEST_ID_CHARS_MAX).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic);
    usable.then(|| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_usable_id_is_kept() {
        assert_eq!(given(&headers(&[b"order-4711/a"])), Some("order-4711/a".to_owned()));
        assert_eq!(given(&headers(&[&[b'x'; 128]])).map(|id| id.len()), Some(128));
    }

    #[test]
    fn an_unusable_id_is_replaced() {
        assert_eq!(given(&headers(&[])), None);
        assert_eq!(given(&headers(&[b""])), None);
        assert_eq!(given(&headers(&[b"with space"])), None);
        assert_eq!(given(&headers(&["größe".as_bytes()])), None);
        assert_eq!(given(&headers(&[&[b'x'; 129]])), None);
        assert_eq!(given(&headers(&[b"one", b"two"])), None);
    }
}
