//! The meter's limits: so many calls in each window, counted from the Unix epoch as its format says, and so many at
//! once. Unless told otherwise they are out of reach, and a window is a clock minute.
//!
//! Guarantees: a call counts in the window in which it arrives and is under way until it is answered or its caller has
//! left; what is over a limit is answered 429, and counted, so that a test can prove that nobody went over it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::json::Refusal;
use crate::{Shared, json};

const WINDOW_MS: i64 = 60_000;
/// Past windows that are remembered.
const WINDOWS_KEPT: usize = 100;

/// The state of the limits.
#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    limits: Limits,
    counts: Counts,
}

/// What may be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    /// Calls in one window; with the usual window, calls a minute.
    #[serde(alias = "perMinute")]
    calls_max: u64,
    #[serde(default = "minute")]
    window_ms: i64,
    /// Calls under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrent_max: Option<u64>,
}

/// What was counted since the limits were last set.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// Calls over the limit of a window.
    over_rate: u64,
    /// Calls over the limit of those at once.
    over_concurrent: u64,
    in_flight: u64,
    concurrent_max: u64,
    /// The present window, and before it the past ones in which calls came, at most a hundred.
    windows: VecDeque<Window>,
    /// Changes when the limits are set, so that a call which began before is not booked after.
    #[serde(skip)]
    generation: u64,
}

/// The calls granted in one window, by its number since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Window {
    number: i64,
    calls: u64,
}

/// What the rate limit headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// Whole seconds until the next window, at least one.
    pub(crate) reset_s: i64,
}

/// A call between its arrival and its end.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    quota: &'a Quota,
    generation: u64,
    pub(crate) over: Option<Over>,
}

/// The limit that a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Rate,
    Concurrent,
}

fn minute() -> i64 {
    WINDOW_MS
}

impl Default for Limits {
    fn default() -> Self {
        Self { calls_max: 1_000_000, window_ms: WINDOW_MS, concurrent_max: None }
    }
}

impl Limits {
    fn check(&self) -> Result<(), Refusal> {
        match (1..=86_400_000).contains(&self.window_ms) {
            true => Ok(()),
            false => Err(Refusal::invalid("windowMs is from 1 ms to a day")),
        }
    }
}

impl Over {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Rate => "the calls of this window are used up",
            Self::Concurrent => "too many calls are under way",
        }
    }
}

impl Quota {
    /// A call arrives.
    pub(crate) fn enter(&self) -> Place<'_> {
        self.enter_at(kernel::clock::now().timestamp_millis())
    }

    fn enter_at(&self, now_ms: i64) -> Place<'_> {
        let mut book = self.book();
        let Book { limits, counts } = &mut *book;
        let in_flight = counts.in_flight;
        let window = counts.window(now_ms.div_euclid(limits.window_ms));
        let over = if window.calls >= limits.calls_max {
            Some(Over::Rate)
        } else if limits.concurrent_max.is_some_and(|max| in_flight >= max) {
            Some(Over::Concurrent)
        } else {
            window.calls += 1;
            None
        };
        counts.over_rate += u64::from(over == Some(Over::Rate));
        counts.over_concurrent += u64::from(over == Some(Over::Concurrent));
        counts.in_flight += 1;
        counts.concurrent_max = counts.concurrent_max.max(counts.in_flight);
        Place { quota: self, generation: counts.generation, over }
    }

    /// How much of the window is left.
    pub(crate) fn standing(&self) -> Standing {
        let now_ms = kernel::clock::now().timestamp_millis();
        let mut book = self.book();
        let Book { limits, counts } = &mut *book;
        let calls = counts.window(now_ms.div_euclid(limits.window_ms)).calls;
        let left_ms = limits.window_ms - now_ms.rem_euclid(limits.window_ms);
        Standing {
            limit: limits.calls_max,
            remaining: limits.calls_max.saturating_sub(calls),
            reset_s: (left_ms + 999) / 1_000,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn window(&mut self, number: i64) -> &mut Window {
        if self.windows.front().is_none_or(|window| window.number != number) {
            self.windows.push_front(Window { number, calls: 0 });
            self.windows.truncate(WINDOWS_KEPT);
        }
        &mut self.windows[0]
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut book = self.quota.book();
        if book.counts.generation == self.generation {
            book.counts.in_flight -= 1;
        }
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/_sandbox/limits", get(show).put(change))
}

/// The limits, and what was counted since they were set.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    limits: Limits,
    counts: Counts,
}

async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let shown = {
        let book = shared.quota.book();
        Shown { limits: book.limits.clone(), counts: book.counts.clone() }
    };
    json::answer(StatusCode::OK, &shown)
}

/// Sets the limits and begins new counts.
async fn change(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let limits = json::read::<Limits>(body).and_then(|limits| limits.check().map(|()| limits));
    match limits {
        Ok(limits) => {
            let answer = json::answer(StatusCode::OK, &limits);
            let mut book = shared.quota.book();
            let generation = book.counts.generation + 1;
            *book = Book { limits, counts: Counts { generation, ..Counts::default() } };
            answer
        }
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(calls_max: u64, concurrent_max: Option<u64>) -> Quota {
        let limits = Limits { calls_max, window_ms: 1_000, concurrent_max };
        Quota(Mutex::new(Book { limits, counts: Counts::default() }))
    }

    #[test]
    fn a_window_ends_by_the_clock_and_not_some_time_after_its_first_call() {
        let quota = quota(2, None);
        let over = [999, 999, 999, 1_000, 1_999, 1_999].map(|now_ms| quota.enter_at(now_ms).over);
        assert_eq!(over, [None, None, Some(Over::Rate), None, None, Some(Over::Rate)]);
        assert_eq!(quota.book().counts.over_rate, 2);
    }

    #[test]
    fn calls_are_under_way_until_they_end() {
        let quota = quota(10, Some(1));
        let first = quota.enter_at(0);
        assert_eq!(quota.enter_at(0).over, Some(Over::Concurrent));
        drop(first);
        assert_eq!(quota.enter_at(0).over, None);
        let counts = quota.book().counts.clone();
        assert_eq!((counts.over_concurrent, counts.in_flight, counts.concurrent_max), (1, 0, 2));
    }
}
