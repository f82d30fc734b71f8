//! What people do to one job, one function each whatever the door: a partner's own jobs through its API, any job through
//! the operators' API and the command line. They want a connection with an open transaction, to be rolled back on an
//! error.

use audit::AuditError;
use db::Connection;
use kernel::ids::{JobId, TenantId};
use queue::{Cancelled, JobRecord, JobStatus, Queue, Redriven};
use serde_json::{Value, json};

use crate::{Deed, Door, webhooks};

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JobActionError {
    /// The tenant has no such job.
    #[error("no job has the id {0}")]
    NotFound(JobId),
    /// Another job holds its unique key.
    #[error("{0} is not tried again: another job does the same work already")]
    KeyTaken(JobId),
    /// Only failed and cancelled jobs can be tried again.
    #[error("{job} is {status}: only failed and cancelled jobs can be tried again")]
    NotFailed {
        /// The job.
        job: JobId,
        /// What it is.
        status: JobStatus,
    },
    /// It has ended, and not by being cancelled.
    #[error("{job} has ended already: it is {status}")]
    HasEnded {
        /// The job.
        job: JobId,
        /// How it ended.
        status: JobStatus,
    },
    /// The job was not read or changed.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The delivery that it carries out was not reopened.
    #[error("the delivery of a job was not reopened")]
    Webhooks(#[from] ::webhooks::WebhookError),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Gives a failed or cancelled job another life, with all its attempts, and what it needs beside its row. Answers the
/// queue to wake after the commit; none: one that this binary does not know.
///
/// # Errors
/// [`JobActionError`].
pub async fn retry(
    conn: &mut Connection,
    door: &Door<'_>,
    tenant: TenantId,
    id: JobId,
) -> Result<Option<Queue>, JobActionError> {
    let job = found(conn, tenant, id).await?;
    let queue = match queue::redrive(conn, tenant, id).await? {
        Redriven::Ready(queue) => queue,
        Redriven::KeyTaken => return Err(JobActionError::KeyTaken(id)),
        Redriven::NotFailed => return Err(JobActionError::NotFailed { job: id, status: job.status }),
    };
    webhooks::reopen_for(conn, &job).await?;
    let deed = Deed { before: Some(state(job.status)), after: Some(state(JobStatus::Queued)) };
    door.record(conn, "jobs.retry", &id.to_string(), tenant, deed).await?;
    Ok(queue)
}

/// A job that was called off.
#[derive(Debug, Clone)]
pub struct CancelledJob {
    /// It, as it is now.
    pub job: JobRecord,
    /// What became of it, and whom to wake after the commit. [`Cancelled::NotLive`]: it was cancelled before.
    pub outcome: Cancelled,
}

/// Calls a job off. One that is cancelled already stays so, and a repeat after a lost answer is the same answer.
///
/// # Errors
/// [`JobActionError`].
pub async fn cancel(
    conn: &mut Connection,
    door: &Door<'_>,
    tenant: TenantId,
    id: JobId,
) -> Result<CancelledJob, JobActionError> {
    let before = found(conn, tenant, id).await?;
    let outcome = queue::cancel(conn, tenant, id, &door.by_in_public()).await?;
    let job = found(conn, tenant, id).await?;
    if outcome == Cancelled::NotLive && job.status != JobStatus::Cancelled {
        return Err(JobActionError::HasEnded { job: id, status: job.status });
    }
    let mut after = state(job.status);
    after["isAsked"] = (outcome == Cancelled::Asked).into();
    let deed = Deed { before: Some(state(before.status)), after: Some(after) };
    door.record(conn, "jobs.cancel", &id.to_string(), tenant, deed).await?;
    Ok(CancelledJob { job, outcome })
}

async fn found(conn: &mut Connection, tenant: TenantId, id: JobId) -> Result<JobRecord, JobActionError> {
    queue::get(conn, tenant, id).await?.ok_or(JobActionError::NotFound(id))
}

fn state(status: JobStatus) -> Value {
    json!({ "status": status })
}
