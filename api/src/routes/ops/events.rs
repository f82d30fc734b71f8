//! `GET /api/v1/ops/events`: what happens, as it happens, by server-sent events.
//!
//! One task of a process asks the database once a second, while anybody listens, and tells all who do: so a hundred who
//! watch cost what one costs. `overview` comes when it has changed, `change` for every action of the audit log, without its
//! details; those about people are told to admins alone, who may read of them elsewhere. A listener that cannot keep up
//! misses what is between, and is told the latest overview next. A session that has ended hears no more, and one whose
//! person has another role hears what belongs to it, within [`SESSION_LOOKED_AT_EVERY`].

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::{Cursor, Filter, Order};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use identity::{Role, Session};
use kernel::ids::{SessionId, UserId};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::time::Instant;

use super::overview::OverviewView;
use crate::error::{ApiError, ErrorBody};
use crate::extract::person::Viewer;
use crate::routes::instant;
use crate::state::ApiState;

/// How often the database is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a listener's session is looked at.
const SESSION_LOOKED_AT_EVERY: Duration = Duration::from_secs(5);
/// Those who listen to one process at once.
const LISTENERS_MAX: usize = 200;
/// Of those, with one session: so that nobody takes the places of all others.
const LISTENERS_OF_SESSION_MAX: usize = 5;
/// Events that a slow listener may be behind.
const BEHIND_MAX: usize = 256;
/// Changes told in one look.
const CHANGES_MAX: usize = 200;
/// Entries are looked for again for so long: they become visible when they commit, in any order.
const CHANGES_SINCE: Duration = Duration::from_secs(10);

/// An event, written once for all.
#[derive(Debug, Clone)]
struct Told {
    name: &'static str,
    data: Arc<str>,
    /// Who may hear it.
    least: Role,
}

/// Who listens. Part of the state.
#[derive(Debug, Clone)]
pub struct Listeners(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: Sender<Told>,
    /// The session of each who listens.
    listening: Mutex<Vec<SessionId>>,
    latest: Mutex<Option<Arc<str>>>,
    is_looking: Mutex<bool>,
}

impl Default for Listeners {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        let (latest, is_looking) = (Mutex::new(None), Mutex::new(false));
        Self(Arc::new(Inner { sender, listening: Mutex::default(), latest, is_looking }))
    }
}

/// One who listens; leaving counts.
struct Listener {
    all: Listeners,
    receiver: Receiver<Told>,
    state: ApiState,
    session: SessionId,
    person: UserId,
    role: Role,
    looked_at: Instant,
    first: Option<Arc<str>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listening = self.all.listening();
        if let Some(place) = listening.iter().position(|session| *session == self.session) {
            listening.swap_remove(place);
        }
    }
}

impl Listeners {
    /// Begins to listen, and to look where nobody did.
    fn join(&self, state: &ApiState, me: &Session) -> Result<Listener, ApiError> {
        self.take_place(me.id)?;
        let listener = Listener {
            all: self.clone(),
            receiver: self.0.sender.subscribe(),
            state: state.clone(),
            session: me.id,
            person: me.person,
            role: me.role,
            looked_at: Instant::now(),
            first: self.latest(),
        };
        let mut is_looking = self.0.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_looking {
            *is_looking = true;
            tokio::spawn(self.clone().look(state.clone()));
        }
        Ok(listener)
    }

    /// Counts one more who listens, where there is room; who leaves is no longer counted.
    fn take_place(&self, session: SessionId) -> Result<(), ApiError> {
        let mut listening = self.listening();
        let of_session = listening.iter().filter(|listens| **listens == session).count();
        if listening.len() >= LISTENERS_MAX || of_session >= LISTENERS_OF_SESSION_MAX {
            return Err(ApiError::Overloaded);
        }
        listening.push(session);
        Ok(())
    }

    fn listening(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.0.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn latest(&self) -> Option<Arc<str>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks until nobody listens.
    async fn look(self, state: ApiState) {
        let mut told = BTreeSet::new();
        let mut since = kernel::clock::now();
        while self.goes_on(&state) {
            // What cannot be read now is read with the next look.
            if let Err(error) = self.tell(&state, &mut told, &mut since).await {
                tracing::warn!(%error, "live events could not be read");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether anybody listens. Asked and answered under one lock, so that whoever joins meanwhile is not left without.
    fn goes_on(&self, state: &ApiState) -> bool {
        let mut is_looking = self.0.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        *is_looking = self.0.sender.receiver_count() > 0 && !state.stop().is_cancelled();
        if !*is_looking {
            *self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        *is_looking
    }

    async fn tell(
        &self,
        state: &ApiState,
        told: &mut BTreeSet<Cursor>,
        since: &mut chrono::DateTime<chrono::Utc>,
    ) -> Result<(), ApiError> {
        let mut conn = super::reading(state).await?;
        let overview = queue::ops::overview(&mut conn, state.lease()).await?;
        let now = overview.at;
        let overview = json!(OverviewView::from(overview));
        if self.is_news(&overview) {
            let data: Arc<str> = overview.to_string().into();
            *self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&data));
            let _ = self.0.sender.send(Told { name: "overview", data, least: Role::Viewer });
        }
        let filter = Filter { from: Some(*since), ..Filter::default() };
        let changes = audit::list(&mut conn, &filter, Order::Oldest, None, CHANGES_MAX).await?;
        for entry in changes.entries {
            if told.insert(entry.id) {
                let change = json!({
                    "at": instant(entry.at),
                    "action": entry.action,
                    "target": entry.target,
                    "actorKind": entry.actor_kind,
                    "requestId": entry.request_id,
                });
                let least = if is_about_people(&entry.action) { Role::Admin } else { Role::Viewer };
                let _ = self.0.sender.send(Told { name: "change", data: change.to_string().into(), least });
            }
        }
        *since = (*since).max(now - CHANGES_SINCE);
        while told.len() > 2 * CHANGES_MAX {
            told.pop_first();
        }
        Ok(())
    }

    /// Whether it differs from the last one by more than when it was read.
    fn is_news(&self, overview: &Value) -> bool {
        let without_time = |value: &Value| {
            let mut value = value.clone();
            value["at"] = Value::Null;
            for queue in value["queues"].as_array_mut().into_iter().flatten() {
                // Grows by itself while nothing happens.
                queue["oldestReadyS"] = queue["oldestReadyS"].as_f64().map(f64::floor).into();
            }
            value
        };
        let latest = self.latest().and_then(|latest| serde_json::from_str(&latest).ok());
        latest.is_none_or(|latest: Value| without_time(&latest) != without_time(overview))
    }
}

/// Whether an action says who may sign in, or does.
fn is_about_people(action: &str) -> bool {
    action.starts_with("users.") || action.starts_with("sessions.")
}

impl Listener {
    /// The next event; none: the session has ended, or the process is to stop.
    async fn next(&mut self) -> Option<Told> {
        if let Some(data) = self.first.take() {
            return Some(Told { name: "overview", data, least: Role::Viewer });
        }
        loop {
            if self.looked_at.elapsed() >= SESSION_LOOKED_AT_EVERY {
                self.looked_at = Instant::now();
                match self.look_at_session().await {
                    Ok(true) => {}
                    Ok(false) => return None,
                    // Nothing is told to whom nobody vouches for; they may come again.
                    Err(error) => {
                        tracing::warn!(%error, "the session of a listener could not be looked at");
                        return None;
                    }
                }
            }
            let stop = self.state.stop().clone();
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.looked_at + SESSION_LOOKED_AT_EVERY) => {}
                told = self.receiver.recv() => match told {
                    Ok(told) if told.least <= self.role => return Some(told),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.first = self.all.latest(),
                    Err(RecvError::Closed) => return None,
                },
            }
            if let Some(data) = self.first.take() {
                return Some(Told { name: "overview", data, least: Role::Viewer });
            }
        }
    }

    /// Whether the session still works. A change of role ends no session: what its person may hear is looked at too.
    async fn look_at_session(&mut self) -> Result<bool, ApiError> {
        let mut conn = self.state.pool().acquire().await?;
        if !identity::session_works(&mut conn, self.session).await? {
            return Ok(false);
        }
        let found = identity::find(&mut conn, self.state.keyring(), self.person).await?;
        let Some(found) = found else { return Ok(false) };
        self.role = found.person.role;
        Ok(true)
    }
}

fn stream(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold(listener, |mut listener| async move {
        let told = listener.next().await?;
        Some((Ok(Event::default().event(told.name).data(&*told.data)), listener))
    })
}

/// Live events
///
/// Server-sent events: `overview` with the body of `GET /api/v1/ops/overview` whenever it has changed, looked at once a
/// second; `change` with `at`, `action`, `target`, `actorKind` and `requestId` for everything that anybody changes, of people
/// and their sessions for admins alone. Lines of comment keep the connection open. At most 5 streams for each session.
#[utoipa::path(
    get, path = "/api/v1/ops/events", tag = "Overview", operation_id = "listenToEvents",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    responses((status = 200, description = "events until the session ends", body = String,
        content_type = "text/event-stream"),
        (status = 503, description = "OVERLOADED: too many listen already", body = ErrorBody)))]
pub async fn listen(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let listener = state.listeners().join(&state, &me)?;
    Ok(Sse::new(stream(listener)).keep_alive(KeepAlive::default()))
}
