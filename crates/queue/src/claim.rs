//! Taking jobs under lease: one short statement, before and outside any handler.

use kernel::ids::{JobId, TenantId};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Error, Queue};

/// A job that this process holds the lease on.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// What every write about the job must name.
    pub lease: LeaseKey,
    /// The kind, perhaps one that this binary does not know.
    pub kind: String,
    /// This attempt's number; 1 is the first.
    pub attempt: i16,
    /// The attempts the job was given when it was stored.
    pub attempts_max: i16,
    /// The arguments.
    pub args: Value,
    /// The id of the request that asked for it.
    pub request_id: Option<String>,
    /// Somebody cancelled it while an earlier attempt ran: end it instead of running it.
    pub cancel_requested: bool,
}

/// One claim of one job. The token is the fencing token: it grows with every claim, so that a worker that
/// lost its lease can change nothing, however late it wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// The job's tenant.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// The fencing token.
    pub token: i32,
}

/// Takes up to `count_max` ready jobs of a queue for a process, the most urgent first.
///
/// A process that is no longer registered gets none: its leases would be taken back at once.
///
/// # Errors
/// [`Error::Database`].
pub async fn claim(
    pool: &PgPool,
    process: Uuid,
    queue: Queue,
    count_max: i64,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query_file!("src/claim.sql", queue.as_str(), process, count_max).fetch_all(pool).await?;
    let claimed = rows.into_iter().map(|row| Claimed {
        lease: LeaseKey {
            tenant: TenantId::from_uuid(row.tenant_id),
            job: JobId::from_uuid(row.id),
            token: row.lease_token,
        },
        kind: row.kind,
        attempt: row.attempt,
        attempts_max: row.attempts_max,
        args: row.args,
        request_id: row.request_id,
        cancel_requested: row.cancel_requested,
    });
    Ok(claimed.collect())
}
