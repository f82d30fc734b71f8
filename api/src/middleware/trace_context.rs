//! `traceparent` in: the caller's trace where its header is usable, else a new one. It goes along with the request's id
//! to jobs, vendor calls and callbacks, and stands in every log line. It is not answered: the recommendation has no
//! header for that yet, and the request's id is enough to find the trace.

use http::{HeaderMap, HeaderName};
use kernel::trace::{TRACEPARENT, TraceParent};

static HEADER: HeaderName = HeaderName::from_static(TRACEPARENT);

/// The caller's span, if these headers name one. Nothing of it is believed beyond its syntax, and a header that is given
/// twice is none.
pub(super) fn given(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(&HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().and_then(TraceParent::parse)
}

/// The span of a request from there. Whether it is recorded is not the caller's to say.
pub(super) fn under(given: Option<TraceParent>) -> TraceParent {
    given.map_or_else(TraceParent::begin, TraceParent::follow)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(values: &[&[u8]]) -> TraceParent {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        under(given(&headers))
    }

    #[test]
    fn a_request_is_a_span_of_its_own_in_the_callers_trace() {
        let given = TraceParent::parse(GIVEN).unwrap();
        let request = trace(&[GIVEN.as_bytes()]);
        assert_eq!(request.trace_id(), given.trace_id());
        assert_ne!(request.span_id(), given.span_id());
    }

    #[test]
    fn no_header_an_unreadable_one_and_two_of_them_begin_a_new_trace() {
        let given = TraceParent::parse(GIVEN).unwrap();
        let two = [GIVEN.as_bytes(), GIVEN.as_bytes()];
        for values in [&[][..], &[b"00-garbage".as_slice()], &["größe".as_bytes()], &two] {
            assert_ne!(trace(values).trace_id(), given.trace_id(), "{values:?}");
        }
    }
}
