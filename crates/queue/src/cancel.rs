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
    let row = sqlx::query!(
        "with back as (
             delete from jobs_finished f
             where f.tenant_id = $1 and f.id = $2 and f.ended in ('failed', 'cancelled')
               and not exists (
                   select from job_unique_keys k
                   where k.tenant_id = f.tenant_id and k.kind = f.kind and k.key = f.unique_key
                     and k.job_id <> f.id
               )
             returning f.*
         ),
         keyed as (
             insert into job_unique_keys (tenant_id, kind, key, job_id)
             select tenant_id, kind, unique_key, id from back where unique_key is not null
             on conflict do nothing
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
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        return Ok(Redriven::Ready(row.queue.parse().ok()));
    }
    let failed = sqlx::query_scalar!(
        r#"select exists (
               select from jobs_finished
               where tenant_id = $1 and id = $2 and ended in ('failed', 'cancelled')
           ) as "failed!""#,
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(if failed { Redriven::KeyTaken } else { Redriven::NotFailed })
}
