//! A partner's webhook receiver: it records what arrives and answers 200, or whatever a fault wants.
//!
//! Guarantees: every callback that arrives whole is recorded with its headers and its exact bytes, in the order of
//! arrival, also when a fault answers it. Recorded callbacks take at most 64 MiB and 20,000 places; the oldest make
//! room, but stay counted. Up to 1,000 inboxes; calls for further ones are answered with 507.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::exchange::Exchange;
use crate::json::{self, Refusal};

const BODY_BYTES_MAX: usize = 256 << 10;
const CALLBACKS_MAX: usize = 20_000;
const KEPT_BYTES_MAX: usize = 64 << 20;
const INBOXES_MAX: usize = 1_000;
const NAME_CHARACTERS_MAX: usize = 100;
const LISTED_MAX: usize = 5_000;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All inboxes of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Inboxes(Mutex<Mail>);

#[derive(Debug, Default)]
struct Mail {
    counts: BTreeMap<String, u64>,
    kept: VecDeque<Callback>,
    kept_bytes: usize,
    sequence: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Callback {
    /// Rises by one with every callback of the whole sandbox.
    sequence: u64,
    #[serde(skip)]
    inbox: String,
    received_at: DateTime<Utc>,
    /// By lower-case name; the values of a repeated header are joined with a comma.
    headers: BTreeMap<String, String>,
    /// The exact text, when it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The exact bytes, when they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    /// The status that was answered, or the fault that stood in its place.
    answered: String,
}

impl Callback {
    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let body = self.body.as_deref().or(self.body_base64.as_deref()).map_or(0, str::len);
        headers + body + self.inbox.len()
    }
}

impl Inboxes {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    /// Records a callback, if there is or can be such an inbox.
    fn receive(
        &mut self,
        inbox: &str,
        headers: &HeaderMap,
        body: &Bytes,
        answered: String,
    ) -> Result<(), Refusal> {
        if !self.counts.contains_key(inbox) && self.counts.len() >= INBOXES_MAX {
            let message = "the sandbox has 1,000 inboxes already; DELETE /_sandbox/callbacks forgets them";
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_inboxes", message));
        }
        *self.counts.entry(inbox.to_owned()).or_default() += 1;
        self.sequence += 1;
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        let callback = Callback {
            sequence: self.sequence,
            inbox: inbox.to_owned(),
            received_at: kernel::clock::now(),
            headers: readable(headers),
            body_base64: text.is_none().then(|| STANDARD.encode(body)),
            body: text,
            answered,
        };
        self.kept_bytes += callback.bytes();
        self.kept.push_back(callback);
        while self.kept.len() > CALLBACKS_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.bytes();
        }
        Ok(())
    }

    fn forget(&mut self, inbox: &str) {
        self.counts.remove(inbox);
        self.kept.retain(|callback| callback.inbox != inbox);
        self.kept_bytes = self.kept.iter().map(Callback::bytes).sum();
    }
}

fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let joined = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(", ")
    };
    headers.keys().map(|name| (name.as_str().to_owned(), joined(name))).collect()
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/partner/callbacks/{inbox}", post(receive).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/_sandbox/callbacks", get(inboxes).delete(forget_all))
        .route("/_sandbox/callbacks/{inbox}", get(list).delete(forget))
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(inbox): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request_id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let exchange = Exchange::begin(&shared, "partner", "callback", Some(&inbox), request_id, &headers);
    let answered = exchange.fault_label().unwrap_or_else(|| "200".to_owned());
    let recorded = json::bytes(body).and_then(|body| {
        if inbox.chars().count() > NAME_CHARACTERS_MAX {
            return Err(Refusal::invalid("an inbox's name has at most 100 characters"));
        }
        shared.inboxes.mail().receive(&inbox, &headers, &body, answered)
    });
    exchange
        .carry_out(async {
            match recorded {
                Ok(()) => json::answer(StatusCode::OK, &serde_json::json!({"received": true})),
                Err(refusal) => refusal.into_response(),
            }
        })
        .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default = "listed_max")]
    limit: usize,
}

fn listed_max() -> usize {
    LISTED_MAX
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    inbox: &'a str,
    /// All that arrived, also those no longer kept.
    count: u64,
    /// The oldest first.
    callbacks: Vec<&'a Callback>,
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Path(inbox): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refusal> {
    let page = json::query(page)?;
    let mail = shared.inboxes.mail();
    let callbacks = mail
        .kept
        .iter()
        .filter(|callback| callback.inbox == inbox && callback.sequence > page.after)
        .take(page.limit.min(LISTED_MAX))
        .collect();
    let count = mail.counts.get(&inbox).copied().unwrap_or(0);
    Ok(json::answer(StatusCode::OK, &Listing { inbox: &inbox, count, callbacks }))
}

async fn inboxes(State(shared): State<Arc<Shared>>) -> Response {
    let mail = shared.inboxes.mail();
    let rows: Vec<_> = mail
        .counts
        .iter()
        .map(|(inbox, count)| serde_json::json!({"inbox": inbox, "count": count}))
        .collect();
    json::answer(StatusCode::OK, &serde_json::json!({"inboxes": rows}))
}

async fn forget(State(shared): State<Arc<Shared>>, Path(inbox): Path<String>) -> StatusCode {
    shared.inboxes.mail().forget(&inbox);
    StatusCode::NO_CONTENT
}

/// Forgets all inboxes; sequence numbers go on.
async fn forget_all(State(shared): State<Arc<Shared>>) -> StatusCode {
    let mut mail = shared.inboxes.mail();
    *mail = Mail { sequence: mail.sequence, ..Mail::default() };
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_callbacks_keeps_the_newest_and_counts_all() {
        let mut mail = Mail::default();
        let body = Bytes::from(vec![b'x'; 200 << 10]);
        for _ in 0..400 {
            mail.receive("acme", &HeaderMap::new(), &body, "200".to_owned()).unwrap();
        }
        assert_eq!(mail.counts["acme"], 400);
        assert!(mail.kept_bytes <= KEPT_BYTES_MAX && mail.kept.len() < 400);
        assert_eq!(mail.kept.back().unwrap().sequence, 400);
        mail.forget("acme");
        assert_eq!((mail.kept.len(), mail.kept_bytes), (0, 0));
    }

    #[test]
    fn inboxes_are_bounded() {
        let mut mail = Mail::default();
        let mut receive =
            |n: usize| mail.receive(&n.to_string(), &HeaderMap::new(), &Bytes::new(), "200".to_owned());
        assert!((0..INBOXES_MAX).all(|n| receive(n).is_ok()));
        assert_eq!(receive(INBOXES_MAX).unwrap_err().status, StatusCode::INSUFFICIENT_STORAGE);
    }
}
