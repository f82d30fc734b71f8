//! What the mail server took, to be looked at over HTTP.
//!
//! Guarantees: every message is kept with its exact text, in the order of arrival, and shown decoded beside it. A message
//! that comes again under the same Message-ID is kept once and counted, as a mailbox that knows its business does. Kept
//! messages take at most 5,000 places and 64 MiB; the oldest make room.

mod decoded;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::Shared;
use crate::json::{self, Refusal};
use decoded::Decoded;

const LETTERS_MAX: usize = 5_000;
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Who sends what to whom, by the protocol's word; the message may say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

/// All mail of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    letters: VecDeque<Letter>,
    bytes: usize,
    sequence: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    /// Rises by one with every message that was not there already.
    sequence: u64,
    received_at: DateTime<Utc>,
    from: String,
    to: Vec<String>,
    /// How often it arrived under its Message-ID.
    arrivals: u64,
    #[serde(flatten)]
    decoded: Decoded,
    raw: String,
}

impl Letter {
    fn bytes(&self) -> usize {
        // Roughly: the text is there twice.
        2 * self.raw.len()
    }

    fn is_for(&self, address: &str) -> bool {
        self.to.iter().any(|to| to.eq_ignore_ascii_case(address))
    }
}

impl Mailbox {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message and answers its number.
    pub(crate) fn take(&self, envelope: Envelope, message: &[u8]) -> u64 {
        self.kept().take(envelope, message)
    }
}

impl Kept {
    fn take(&mut self, envelope: Envelope, message: &[u8]) -> u64 {
        let decoded = Decoded::of(message);
        let known = self.letters.iter_mut().find(|letter| {
            decoded.message_id.is_some()
                && letter.decoded.message_id == decoded.message_id
                && letter.to == envelope.to
        });
        if let Some(known) = known {
            known.arrivals += 1;
            return known.sequence;
        }
        self.sequence += 1;
        let letter = Letter {
            sequence: self.sequence,
            received_at: kernel::clock::now(),
            from: envelope.from,
            to: envelope.to,
            arrivals: 1,
            decoded,
            raw: String::from_utf8_lossy(message).into_owned(),
        };
        self.bytes += letter.bytes();
        self.letters.push_back(letter);
        while self.letters.len() > LETTERS_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.letters.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
        self.sequence
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/mailbox", get(addresses).delete(forget))
        .route("/mailbox/{address}", get(list))
        .route("/mailbox/{address}/latest", get(latest))
}

async fn addresses(State(shared): State<Arc<Shared>>) -> Response {
    let kept = shared.mailbox.kept();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for address in kept.letters.iter().flat_map(|letter| &letter.to) {
        *counts.entry(address.to_ascii_lowercase()).or_default() += 1;
    }
    let rows: Vec<_> = counts
        .iter()
        .map(|(address, count)| serde_json::json!({"address": address, "count": count}))
        .collect();
    json::answer(StatusCode::OK, &serde_json::json!({"addresses": rows}))
}

/// The oldest first.
async fn list(State(shared): State<Arc<Shared>>, Path(address): Path<String>) -> Response {
    let kept = shared.mailbox.kept();
    let letters: Vec<&Letter> = kept.letters.iter().filter(|letter| letter.is_for(&address)).collect();
    json::answer(StatusCode::OK, &serde_json::json!({"address": address, "letters": letters}))
}

async fn latest(State(shared): State<Arc<Shared>>, Path(address): Path<String>) -> Result<Response, Refusal> {
    let kept = shared.mailbox.kept();
    let latest = kept.letters.iter().rev().find(|letter| letter.is_for(&address));
    let latest = latest
        .ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no_mail", "no mail to this address is kept"))?;
    Ok(json::answer(StatusCode::OK, latest))
}

/// Forgets all mail; numbers go on.
async fn forget(State(shared): State<Arc<Shared>>) -> StatusCode {
    let mut kept = shared.mailbox.kept();
    *kept = Kept { sequence: kept.sequence, ..Kept::default() };
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(to: &str) -> Envelope {
        Envelope { from: "pond@example.com".to_owned(), to: vec![to.to_owned()] }
    }

    #[test]
    fn a_repeat_is_kept_once_and_counted() {
        let mut kept = Kept::default();
        let message = b"Message-ID: <1@x>\r\n\r\nhello\r\n";
        assert_eq!([kept.take(envelope("a@x"), message), kept.take(envelope("a@x"), message)], [1, 1]);
        assert_eq!((kept.letters.len(), kept.letters[0].arrivals), (1, 2));
        assert_eq!(kept.take(envelope("b@x"), message), 2, "another recipient has a copy of its own");
        assert_eq!(kept.take(envelope("a@x"), b"\r\nno id"), 3);
        assert_eq!(kept.take(envelope("a@x"), b"\r\nno id"), 4);
    }

    #[test]
    fn a_flood_of_mail_keeps_the_newest() {
        let mut kept = Kept::default();
        let message = vec![b'x'; 500 << 10];
        for _ in 0..200 {
            kept.take(envelope("a@x"), &message);
        }
        assert!(kept.bytes <= KEPT_BYTES_MAX && kept.letters.len() < 200);
        assert_eq!(kept.letters.back().map(|letter| letter.sequence), Some(200));
    }
}
