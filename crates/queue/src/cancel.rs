//! Calling a job off, and giving a failed one another life.

use kernel::ids::{JobId, TenantId};
use sqlx::PgConnection;

use crate::{
    CANCELLED, End, Error, Failure, Queue,
    end::{Ending, end_jobs},
};

/// What cancelling came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// The job had no worker and is cancelled now; the queues have jobs that waited for it.
    Now {
        /// Queues to wake after the commit.
        released: Vec<Queue>,
    },
    /// A worker runs it and is told to stop within a heartbeat.
    Asked,
    /// It has ended before, or never was.
    NotLive,
}

/// Cancels a job in the caller's transaction. `by` names who, for the job's error message.
///
/// # Errors
/// [`Error::Database`].
pub async fn cancel(
    conn: &mut PgConnection,
    tenant: TenantId,
    job: JobId,
    by: &str,
) -> Result<Cancelled, Error> {
    let running = sqlx::query_scalar!(
        r#"select state = 'running' as "running!" from jobs where tenant_id = $1 and id = $2 for update"#,
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match running {
        None => Ok(Cancelled::NotLive),
        Some(true) => {
            sqlx::query!(
                "update jobs set cancel_requested = true where tenant_id = $1 and id = $2",
                tenant.uuid(),
                job.uuid(),
            )
            .execute(conn)
            .await?;
            Ok(Cancelled::Asked)
        }
        Some(false) => {
            let failure = Failure { code: CANCELLED.into(), message: format!("cancelled by {by}") };
            let ending =
                Ending { tenant, job, token: None, end: End::Cancelled(failure), entry: None, subject: None };
            let ended = end_jobs(conn, &[ending]).await?;
            Ok(Cancelled::Now { released: ended.released })
        }
    }
}

/// What redriving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// The job is ready again with all its attempts, on this queue (`None`: one this binary does not know).
    Ready(Option<Queue>),
    /// Another job holds its unique key, so this one may not run beside it.
    KeyTaken,
    /// No failed or cancelled job has this id.
    NotFailed,
}

/// Moves a failed or cancelled job from history back to work, with its attempts counted anew and its history
/// of errors kept. Callbacks that told of its failure are not sent a second time.
///
/// # Errors
/// [`Error::Database`].
pub async fn redrive(conn: &mut PgConnection, tenant: TenantId, job: JobId) -> Result<Redriven, Error> {
    let failed = sqlx::query!(
        "select kind, unique_key from jobs_finished
         where tenant_id = $1 and id = $2 and ended in ('failed', 'cancelled')",
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(failed) = failed else { return Ok(Redriven::NotFailed) };
    if let Some(key) = &failed.unique_key
        && !take_key(conn, tenant, &failed.kind, key, job).await?
    {
        return Ok(Redriven::KeyTaken);
    }
    let row = sqlx::query!(
        "with back as (
             delete from jobs_finished
             where tenant_id = $1 and id = $2 and ended in ('failed', 'cancelled')
             returning *
         )
         insert into jobs (
             tenant_id, id, queue, kind, priority, attempts_max, unique_key, subject_id, request_id,
             created_at, args, errors
         )
         select
             tenant_id, id, queue, kind, priority, attempts_max, unique_key, subject_id, request_id,
             created_at, args, errors
         from back
         returning queue",
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    // Gone: somebody else redrove it at this moment.
    Ok(row.map_or(Redriven::NotFailed, |row| Redriven::Ready(row.queue.parse().ok())))
}

/// Takes a unique key for a job and answers whether it has it. Whoever else is taking it is waited for, so that
/// afterwards it is the one's or the other's.
async fn take_key(
    conn: &mut PgConnection,
    tenant: TenantId,
    kind: &str,
    key: &str,
    job: JobId,
) -> Result<bool, Error> {
    sqlx::query!(
        "insert into job_unique_keys (tenant_id, kind, key, job_id) values ($1, $2, $3, $4)
         on conflict do nothing",
        tenant.uuid(),
        kind,
        key,
        job.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    let holder = sqlx::query_scalar!(
        "select job_id from job_unique_keys where tenant_id = $1 and kind = $2 and key = $3",
        tenant.uuid(),
        kind,
        key,
    )
    .fetch_optional(conn)
    .await?;
    Ok(holder == Some(job.uuid()))
}
