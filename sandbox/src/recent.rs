//! The last calls one by one, with what came along in their headers.

use std::collections::{BTreeMap, VecDeque};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use serde::Serialize;

use crate::json;

const CALLS_MAX: usize = 200;
const HEADERS_MAX: usize = 50;
const HEADER_CHARACTERS_MAX: usize = 300;

/// At most 200 calls; the oldest make room.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<RecentCall>);

#[derive(Debug, Serialize)]
pub(crate) struct RecentCall {
    pub(crate) vendor: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) handle: Option<String>,
    /// By lower-case name, without credentials; the values of a repeated header are joined with a comma.
    headers: BTreeMap<String, String>,
}

impl Recent {
    pub(crate) fn remember(
        &mut self,
        vendor: &'static str,
        operation: &'static str,
        handle: Option<String>,
        headers: &HeaderMap,
    ) {
        if self.0.len() == CALLS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(RecentCall { vendor, operation, handle, headers: readable(headers) });
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &RecentCall> {
        self.0.iter()
    }
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let names = headers.keys().filter(|name| **name != AUTHORIZATION && **name != COOKIE).take(HEADERS_MAX);
    let joined = |name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        json::shortened(&values.collect::<Vec<_>>().join(", "), HEADER_CHARACTERS_MAX)
    };
    names.map(|name| (name.as_str().to_owned(), joined(name))).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_last_calls_are_kept_without_credentials() {
        let mut recent = Recent::default();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        for number in 0..300 {
            headers.insert("x-request-id", HeaderValue::from(number));
            recent.remember("meter", "enrich", None, &headers);
        }
        let kept: Vec<_> = recent.calls().map(|call| call.headers["x-request-id"].as_str()).collect();
        assert_eq!((kept.len(), kept[0], kept[199]), (200, "100", "299"));
        assert!(recent.calls().all(|call| call.headers.len() == 1));
    }
}
