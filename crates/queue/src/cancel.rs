//! Calling a job off.

use db::Connection;
use kernel::ids::{JobId, TenantId};

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
    conn: &mut Connection,
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
            let end = End::Cancelled(failure);
            let ended = end_jobs(conn, &[Ending::of_unheld(tenant, job, &end)]).await?;
            Ok(Cancelled::Now { released: ended.released })
        }
    }
}
