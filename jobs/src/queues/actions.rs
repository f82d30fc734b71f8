//! What operators do to queues, one function each whatever the door. They want a connection with an open transaction, to
//! be rolled back on an error.

use std::num::NonZeroU16;

use audit::AuditError;
use db::Connection;
use kernel::ids::TenantId;
use queue::{Queue, Scope};
use serde_json::json;

use crate::{ALL, Deed, Door};

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum QueueActionError {
    /// A typing error would pause nothing and say nothing.
    #[error("no kind of the queue {queue} is called {kind:?}; there are: {known}")]
    UnknownKind {
        /// The queue.
        queue: Queue,
        /// The name given.
        kind: String,
        /// The names there are.
        known: String,
    },
    /// It is not paused.
    #[error("{0} is not paused")]
    NotPaused(String),
    /// The queue was not changed.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// No more jobs of the scope are claimed; those that run go on. Answers whether it was not paused before. Draining is
/// this, and then waiting until [`queue::running`] says none.
///
/// # Errors
/// [`QueueActionError`].
pub async fn pause(conn: &mut Connection, door: &Door<'_>, scope: &Scope) -> Result<bool, QueueActionError> {
    check_kind(scope)?;
    let is_new = queue::pause(conn, scope, &door.by()).await?;
    record(conn, door, "queues.pause", scope, (!is_new, true)).await?;
    Ok(is_new)
}

/// Jobs of the scope are claimed again. Wake the queue after the commit.
///
/// # Errors
/// [`QueueActionError::NotPaused`]; a kind that this binary does not know may have been paused by another.
pub async fn resume(conn: &mut Connection, door: &Door<'_>, scope: &Scope) -> Result<(), QueueActionError> {
    if !queue::resume(conn, scope).await? {
        return Err(QueueActionError::NotPaused(name(scope)));
    }
    record(conn, door, "queues.resume", scope, (true, false)).await
}

/// Bounds how many jobs of a queue each worker process runs at once; `None` frees it. Workers see it within about a second.
/// Answers what was.
///
/// # Errors
/// [`QueueActionError`].
pub async fn set_concurrency(
    conn: &mut Connection,
    door: &Door<'_>,
    queue: Queue,
    concurrency_max: Option<NonZeroU16>,
) -> Result<Option<i32>, QueueActionError> {
    let before = queue::set_queue_concurrency(conn, queue, concurrency_max, &door.by()).await?;
    let deed = Deed {
        before: Some(json!({ "concurrencyMax": before })),
        after: Some(json!({ "concurrencyMax": concurrency_max })),
    };
    door.record(conn, "queues.set_concurrency", queue.as_str(), TenantId::SYSTEM, deed).await?;
    Ok(before)
}

async fn record(
    conn: &mut Connection,
    door: &Door<'_>,
    action: &str,
    scope: &Scope,
    (was_paused, is_paused): (bool, bool),
) -> Result<(), QueueActionError> {
    let state = |is_paused| Some(json!({"kind": scope.kind, "isPaused": is_paused}));
    let deed = Deed { before: state(was_paused), after: state(is_paused) };
    Ok(door.record(conn, action, scope.queue.as_str(), TenantId::SYSTEM, deed).await?)
}

fn check_kind(scope: &Scope) -> Result<(), QueueActionError> {
    let Some(kind) = &scope.kind else { return Ok(()) };
    let known: Vec<&str> =
        ALL.iter().filter(|entry| entry.policy.queue == scope.queue).map(|entry| entry.kind).collect();
    if known.contains(&kind.as_str()) {
        return Ok(());
    }
    let known = known.join(", ");
    Err(QueueActionError::UnknownKind { queue: scope.queue, kind: kind.clone(), known })
}

/// The scope in words.
fn name(scope: &Scope) -> String {
    match &scope.kind {
        None => format!("the queue {}", scope.queue),
        Some(kind) => format!("{kind} in the queue {}", scope.queue),
    }
}
