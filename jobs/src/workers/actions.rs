//! What operators ask of worker processes, one function whatever the door. It wants a connection with an open transaction, to
//! be rolled back on an error.

use audit::AuditError;
use db::Connection;
use kernel::ids::TenantId;
use queue::ops::{Asked, Asks};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Deed, Door};

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkerActionError {
    /// It has ended, or never was.
    #[error("no worker process is registered under {0}")]
    NotFound(Uuid),
    /// What ends does not go on.
    #[error("the worker process {0} was asked to stop already")]
    Stopping(Uuid),
    /// The process was not asked.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Asks a worker process to claim nothing more, to claim again, or to drain and end. It sees that within about a second.
/// Answers what is asked of it now.
///
/// # Errors
/// [`WorkerActionError`].
pub async fn ask(
    conn: &mut Connection,
    door: &Door<'_>,
    process: Uuid,
    asks: Asks,
) -> Result<Option<Asked>, WorkerActionError> {
    let answer = queue::ops::ask_worker(conn, process, asks, &door.by()).await?;
    let (before, after) = answer.ok_or(WorkerActionError::NotFound(process))?;
    let is_stopping = before.as_ref().is_some_and(|asked| asked.what == Asks::Stop);
    if is_stopping && asks != Asks::Stop {
        return Err(WorkerActionError::Stopping(process));
    }
    let deed = Deed { before: Some(state(before.as_ref())), after: Some(state(after.as_ref())) };
    let action = match asks {
        Asks::Quiet => "workers.quiet",
        Asks::Resume => "workers.resume",
        Asks::Stop => "workers.stop",
    };
    door.record(conn, action, &process.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(after)
}

fn state(asked: Option<&Asked>) -> Value {
    json!({ "asked": asked.map(|asked| asked.what.as_str()) })
}
