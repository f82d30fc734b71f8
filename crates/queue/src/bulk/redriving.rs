//! Another life for many dead jobs.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use serde_json::Value;
use uuid::Uuid;

use super::{BulkDone, BulkState, after};
use crate::{
    Error, FoundJob, Queue,
    redrive::{Locked, move_back},
};

/// A job that lives again.
#[derive(Debug, Clone)]
pub struct RedrivenJob {
    /// Its id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: String,
    /// Its queue; `None` is one this binary does not know.
    pub queue: Option<Queue>,
    /// Its arguments, as stored.
    pub args: Value,
}

/// Moves those of the jobs back to work that are still dead, one after another in time.
pub(super) async fn redrive(
    conn: &mut Connection,
    jobs: &[FoundJob],
    rate_per_s: Option<f64>,
    first_at: DateTime<Utc>,
    state: &mut BulkState,
) -> Result<BulkDone, Error> {
    let dead = lock(conn, jobs).await?;
    let at = |position| rate_per_s.map(|_| first_at + after(rate_per_s, position));
    let timed: Vec<_> = dead.iter().enumerate().map(|(position, job)| (job, at(position))).collect();
    let moved = move_back(conn, &timed).await?;
    state.changed += moved.len() as u64;
    state.key_taken += (dead.len() - moved.len()) as u64;
    state.gone += (jobs.len() - dead.len()) as u64;
    let redriven: Vec<RedrivenJob> =
        dead.into_iter().filter(|job| moved.contains(&job.id)).map(RedrivenJob::of).collect();
    let mut queues: Vec<Queue> = redriven.iter().filter_map(|job| job.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    Ok(BulkDone { redriven, queues, ..BulkDone::default() })
}

/// Those that are still dead, locked. Whoever redrives the same ones waits here, and then finds them gone.
async fn lock(conn: &mut Connection, jobs: &[FoundJob]) -> Result<Vec<Locked>, Error> {
    let ended = jobs.iter().filter_map(|job| Some((job, job.finished_at?)));
    let (mut tenants, mut ids, mut ends): (Vec<Uuid>, Vec<Uuid>, Vec<DateTime<Utc>>) = Default::default();
    for (job, finished_at) in ended {
        tenants.push(job.tenant.uuid());
        ids.push(job.id.uuid());
        ends.push(finished_at);
    }
    let locked = sqlx::query_as!(
        Locked,
        r#"select f.tenant_id, f.id, f.finished_at, f.ended::text as "ended!", f.kind, f.queue, f.unique_key, f.batch_id,
               f.args::text as "args!"
           from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as i (tenant_id, id, finished_at)
           join jobs_finished f on f.tenant_id = i.tenant_id and f.id = i.id and f.finished_at = i.finished_at
           where f.ended in ('failed', 'cancelled')
           order by f.finished_at, f.id
           for update of f"#,
        &tenants,
        &ids,
        &ends,
    )
    .fetch_all(conn)
    .await?;
    Ok(locked)
}

impl RedrivenJob {
    fn of(job: Locked) -> Self {
        Self {
            id: JobId::from_uuid(job.id),
            tenant: TenantId::from_uuid(job.tenant_id),
            kind: job.kind,
            queue: job.queue.parse().ok(),
            args: serde_json::from_str(&job.args).unwrap_or_default(),
        }
    }
}
