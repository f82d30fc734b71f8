//! Calling many live jobs off.
//!
//! A chunk locks its jobs in the order of their ids; who ends one job locks that, then those that share its end or wait for it,
//! wherever their ids stand. So the two can wait for each other, and the chunk is the one that gives way: it can be done anew.

use db::Connection;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use super::{BulkDone, BulkState};
use crate::{
    CANCELLED, End, Error, Failure, FoundJob,
    end::{Ending, end_jobs},
};

/// How long a chunk waits for a lock: less than workers wait that end a job, and than it takes the database to look for a
/// deadlock.
const LOCK_WAIT_MS_MAX: u32 = 100;

/// Calls off those of the jobs that are still live: at once where no worker has them, else their workers are told.
pub(super) async fn cancel(
    conn: &mut Connection,
    jobs: &[FoundJob],
    by: &str,
    state: &mut BulkState,
) -> Result<BulkDone, Error> {
    sqlx::query!("select set_config('lock_timeout', $1, true)", LOCK_WAIT_MS_MAX.to_string())
        .fetch_one(&mut *conn)
        .await?;
    let tenants: Vec<Uuid> = jobs.iter().map(|job| job.tenant.uuid()).collect();
    let ids: Vec<Uuid> = jobs.iter().map(|job| job.id.uuid()).collect();
    let live = sqlx::query!(
        r#"select j.tenant_id, j.id, j.state = 'running' as "running!"
           from unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id)
           join jobs j on j.tenant_id = i.tenant_id and j.id = i.id
           order by j.tenant_id, j.id
           for update of j"#,
        &tenants,
        &ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    let failure = Failure { code: CANCELLED.into(), message: format!("cancelled by {by}") };
    let end = End::Cancelled(failure);
    let endings: Vec<Ending<'_>> = live
        .iter()
        .filter(|row| !row.running)
        .map(|row| Ending::of_unheld(TenantId::from_uuid(row.tenant_id), JobId::from_uuid(row.id), &end))
        .collect();
    let ended = end_jobs(conn, &endings).await?;
    let (tenants, running): (Vec<Uuid>, Vec<Uuid>) =
        live.iter().filter(|row| row.running).map(|row| (row.tenant_id, row.id)).unzip();
    if !running.is_empty() {
        sqlx::query!(
            "update jobs j set cancel_requested = true
             from unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id)
             where j.tenant_id = i.tenant_id and j.id = i.id and not j.cancel_requested",
            &tenants,
            &running,
        )
        .execute(conn)
        .await?;
    }
    // One of them may have ended with another of them, whose end it shares.
    state.changed += endings.len() as u64;
    state.asked += running.len() as u64;
    state.gone += (jobs.len() - live.len()) as u64;
    Ok(BulkDone {
        redriven: Vec::new(),
        queues: ended.released,
        is_cancel_asked: !running.is_empty(),
        has_ended: !endings.is_empty(),
    })
}
