//! Counting calls, so that a test can prove how often a vendor was asked, and how many calls ran at once.
//!
//! Guarantees: a call is counted when it begins, also if its caller leaves, is refused or meets a fault. Up to 20,000
//! combinations of vendor, operation and handle are told apart; further ones are counted together, in `overflow` and in
//! the vendor's sums. The last calls are kept one by one, with their headers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::json::{self, Refusal};
use crate::recent::{Recent, RecentCall};

const ENTRIES_MAX: usize = 20_000;

/// The counts of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    vendors: BTreeMap<&'static str, VendorTally>,
    entries: BTreeMap<Key, Tally>,
    overflow: u64,
    recent: Recent,
    /// Changes with every reset, so that a call which began before one is not booked after it.
    generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    vendor: &'static str,
    operation: &'static str,
    handle: Option<String>,
}

#[derive(Debug, Default)]
struct VendorTally {
    count: u64,
    in_flight: u64,
    concurrent_max: u64,
    longest_ms: u64,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    statuses: BTreeMap<String, u64>,
    longest_ms: u64,
    last_request_id: Option<String>,
}

impl Calls {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. It is over when the returned value is ended or, if the caller leaves before, dropped.
    pub(crate) fn begin(
        self: &Arc<Self>,
        vendor: &'static str,
        operation: &'static str,
        handle: Option<&str>,
        request_id: Option<&str>,
        headers: &HeaderMap,
    ) -> Call {
        let mut book = self.book();
        let book = &mut *book;
        let sums = book.vendors.entry(vendor).or_default();
        sums.count += 1;
        sums.in_flight += 1;
        sums.concurrent_max = sums.concurrent_max.max(sums.in_flight);
        let key = Key { vendor, operation, handle: handle.map(|text| json::shortened(text, 200)) };
        book.recent.remember(vendor, operation, key.handle.clone(), headers);
        let number = if book.entries.len() < ENTRIES_MAX || book.entries.contains_key(&key) {
            let tally = book.entries.entry(key.clone()).or_default();
            tally.count += 1;
            tally.last_request_id = request_id.map(|text| json::shortened(text, 128));
            tally.count
        } else {
            book.overflow += 1;
            book.overflow
        };
        Call {
            calls: Arc::clone(self),
            key,
            number,
            generation: book.generation,
            began: Instant::now(),
            outcome: None,
        }
    }
}

/// A call in progress.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
    key: Key,
    /// The how manyth of its vendor, operation and handle this is, from 1.
    pub(crate) number: u64,
    generation: u64,
    began: Instant,
    outcome: Option<String>,
}

impl Call {
    pub(crate) fn vendor(&self) -> &'static str {
        self.key.vendor
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.key.operation
    }

    pub(crate) fn handle(&self) -> Option<&str> {
        self.key.handle.as_deref()
    }

    /// Ends the call with the status that was answered, or the name of the fault that stood in its place.
    pub(crate) fn end(mut self, outcome: String) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut book = self.calls.book();
        let same_count = book.generation == self.generation;
        if let Some(sums) = book.vendors.get_mut(self.key.vendor) {
            sums.in_flight = sums.in_flight.saturating_sub(1);
            if same_count {
                sums.longest_ms = sums.longest_ms.max(took_ms);
            }
        }
        if let Some(tally) = book.entries.get_mut(&self.key).filter(|_| same_count) {
            let outcome = self.outcome.take().unwrap_or_else(|| "abandoned".to_owned());
            *tally.statuses.entry(outcome).or_default() += 1;
            tally.longest_ms = tally.longest_ms.max(took_ms);
        }
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/_sandbox/calls", get(list).delete(reset))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    vendor: Option<String>,
    operation: Option<String>,
    handle: Option<String>,
}

impl Filter {
    fn takes(&self, vendor: &str, operation: &str, handle: Option<&str>) -> bool {
        self.vendor.as_deref().is_none_or(|wanted| wanted == vendor)
            && self.operation.as_deref().is_none_or(|wanted| wanted == operation)
            && self.handle.as_deref().is_none_or(|wanted| Some(wanted) == handle)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    total: u64,
    overflow: u64,
    vendors: Vec<VendorRow>,
    calls: Vec<CallRow<'a>>,
    /// The last of them one by one, the oldest first.
    recent: Vec<&'a RecentCall>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VendorRow {
    vendor: &'static str,
    count: u64,
    in_flight: u64,
    concurrent_max: u64,
    longest_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CallRow<'a> {
    vendor: &'static str,
    operation: &'static str,
    handle: Option<&'a str>,
    count: u64,
    statuses: &'a BTreeMap<String, u64>,
    longest_ms: u64,
    last_request_id: Option<&'a str>,
}

async fn list(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Refusal> {
    let filter = json::query(filter)?;
    let book = shared.calls.book();
    let calls: Vec<CallRow<'_>> = book
        .entries
        .iter()
        .filter(|(key, _)| filter.takes(key.vendor, key.operation, key.handle.as_deref()))
        .map(|(key, tally)| CallRow {
            vendor: key.vendor,
            operation: key.operation,
            handle: key.handle.as_deref(),
            count: tally.count,
            statuses: &tally.statuses,
            longest_ms: tally.longest_ms,
            last_request_id: tally.last_request_id.as_deref(),
        })
        .collect();
    let vendors =
        book.vendors.iter().filter(|(name, _)| filter.vendor.as_deref().is_none_or(|v| v == **name));
    let vendors = vendors
        .map(|(vendor, sums)| VendorRow {
            vendor,
            count: sums.count,
            in_flight: sums.in_flight,
            concurrent_max: sums.concurrent_max,
            longest_ms: sums.longest_ms,
        })
        .collect();
    let total = calls.iter().map(|row| row.count).sum();
    let recent =
        book.recent.calls().filter(|call| filter.takes(call.vendor, call.operation, call.handle.as_deref()));
    let recent = recent.collect();
    Ok(json::answer(StatusCode::OK, &Listing { total, overflow: book.overflow, vendors, calls, recent }))
}

/// Forgets all counts. Calls in progress stay visible as such, and are not counted again when they end.
async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    let mut book = shared.calls.book();
    book.generation += 1;
    book.entries.clear();
    book.overflow = 0;
    book.recent = Recent::default();
    for sums in book.vendors.values_mut() {
        *sums = VendorTally {
            in_flight: sums.in_flight,
            concurrent_max: sums.in_flight,
            ..VendorTally::default()
        };
    }
    StatusCode::NO_CONTENT
}
