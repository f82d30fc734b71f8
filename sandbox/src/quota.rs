//! The meter's rate limit: so many calls in each clock minute, as its format says. Unless told otherwise the limit is
//! out of reach.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::{Shared, json};

const WINDOW_S: i64 = 60;

/// The current window.
#[derive(Debug)]
pub(crate) struct Quota(Mutex<Window>);

#[derive(Debug)]
struct Window {
    number: i64,
    used: u64,
    per_minute: u64,
}

/// What the rate limit headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset_s: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    per_minute: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self(Mutex::new(Window { number: 0, used: 0, per_minute: 1_000_000 }))
    }
}

impl Quota {
    /// Takes one call from the window, unless it is used up.
    pub(crate) fn take(&self) -> bool {
        self.with_window(|window| {
            let left = window.used < window.per_minute;
            window.used += u64::from(left);
            left
        })
    }

    /// How much of the window is left.
    pub(crate) fn standing(&self) -> Standing {
        let reset_s = WINDOW_S - kernel::clock::now().timestamp().rem_euclid(WINDOW_S);
        self.with_window(|window| Standing {
            limit: window.per_minute,
            remaining: window.per_minute.saturating_sub(window.used),
            reset_s,
        })
    }

    fn with_window<T>(&self, act: impl FnOnce(&mut Window) -> T) -> T {
        let number = kernel::clock::now().timestamp().div_euclid(WINDOW_S);
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.number != number {
            *window = Window { number, used: 0, per_minute: window.per_minute };
        }
        act(&mut window)
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/_sandbox/limits", get(show).put(change))
}

async fn show(State(shared): State<Arc<Shared>>) -> Response {
    json::answer(StatusCode::OK, &Limits { per_minute: shared.quota.standing().limit })
}

/// Sets the limit and begins a new count.
async fn change(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    match json::read::<Limits>(body) {
        Ok(limits) => {
            shared.quota.with_window(|window| (window.per_minute, window.used) = (limits.per_minute, 0));
            json::answer(StatusCode::OK, &limits)
        }
        Err(refusal) => refusal.into_response(),
    }
}
