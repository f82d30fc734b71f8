//! Upkeep as reconcilers that take no input: each rereads the state, may run at any time, in any number.

use std::time::Duration;

use kernel::ids::{JobId, TenantId};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use uuid::Uuid;

use crate::{
    End, Error, Failure, Queue, WORKER_LOST,
    end::{Ending, end_jobs},
};

/// How often a job may be taken back from a dead worker before it is given up as one that kills workers.
pub const TAKEN_BACK_MAX: i16 = 3;

/// Orphans handled in one transaction.
const ORPHANS_MAX: usize = 1_000;

/// What a sweep found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Processes whose heartbeat had run out.
    pub processes_lost: u64,
    /// Jobs that are ready again.
    pub taken_back: u64,
    /// Jobs given up after [`TAKEN_BACK_MAX`] takings-back.
    pub given_up: u64,
    /// Queues in which jobs became ready.
    pub released: Vec<Queue>,
}

/// Declares processes dead whose heartbeat is older than `lease`, and takes their jobs back.
///
/// # Errors
/// [`Error::Database`]; the next sweep does the rest.
pub async fn sweep(pool: &PgPool, lease: Duration) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    loop {
        let mut tx = db::begin(pool).await?;
        let processes_lost = forget_dead(&mut tx, lease).await?;
        let (found, orphans) = lock_orphans(&mut tx).await?;
        let (lost, back): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|orphan| orphan.taken_back + 1 >= TAKEN_BACK_MAX);
        let taken_back = take_back(&mut tx, &back).await?;
        let endings: Vec<Ending> = lost.iter().map(Orphan::ending).collect();
        let ended = end_jobs(&mut tx, &endings).await?;
        tx.commit().await?;

        swept.processes_lost += processes_lost;
        swept.taken_back += taken_back;
        swept.given_up += ended.jobs.len() as u64;
        swept.released.extend(back.iter().filter_map(|orphan| orphan.queue.parse::<Queue>().ok()));
        swept.released.extend(ended.released);
        if found < ORPHANS_MAX {
            swept.released.sort_unstable();
            swept.released.dedup();
            return Ok(swept);
        }
    }
}

/// A running job whose owner is gone.
struct Orphan {
    tenant_id: Uuid,
    id: Uuid,
    queue: String,
    lease_token: i32,
    taken_back: i16,
    leased_by: Option<Uuid>,
}

impl Orphan {
    fn entry(&self) -> Value {
        json!({
            "code": WORKER_LOST,
            "message": "the worker stopped answering while it ran this job",
            "worker": self.leased_by,
        })
    }

    fn ending(&self) -> Ending {
        let message = format!("given up: {TAKEN_BACK_MAX} workers in a row died while they ran it");
        Ending {
            tenant: TenantId::from_uuid(self.tenant_id),
            job: JobId::from_uuid(self.id),
            token: Some(self.lease_token),
            end: End::Failed(Failure { code: WORKER_LOST.into(), message }),
            entry: Some(self.entry()),
            subject: None,
        }
    }
}

async fn forget_dead(conn: &mut PgConnection, lease: Duration) -> Result<u64, Error> {
    let forgotten = sqlx::query!(
        "delete from worker_processes
         where id in (
             select id from worker_processes where heartbeat_at < now() - $1::interval
             for update skip locked
         )",
        interval(lease),
    )
    .execute(conn)
    .await?;
    Ok(forgotten.rows_affected())
}

/// Locks orphans, and answers how many were found and those that still are.
async fn lock_orphans(conn: &mut PgConnection) -> Result<(usize, Vec<Orphan>), Error> {
    let locked = sqlx::query!(
        "select j.tenant_id, j.id
         from jobs j
         where j.state = 'running'
           and not exists (select from worker_processes p where p.id = j.leased_by)
         order by j.tenant_id, j.id
         limit $1
         for update of j skip locked",
        i64::try_from(ORPHANS_MAX).unwrap_or(i64::MAX),
    )
    .fetch_all(&mut *conn)
    .await?;
    let (tenants, ids): (Vec<_>, Vec<_>) = locked.iter().map(|row| (row.tenant_id, row.id)).unzip();
    // Another sweep may have taken a job back and a live process claimed it after the statement above began:
    // PostgreSQL rechecks the locked row then, but not the owner that it looked for. A new statement does.
    let orphans = sqlx::query_as!(
        Orphan,
        "select j.tenant_id, j.id, j.queue, j.lease_token, j.taken_back, j.leased_by
         from jobs j
         join unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id) using (tenant_id, id)
         where j.state = 'running'
           and not exists (select from worker_processes p where p.id = j.leased_by)",
        &tenants,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok((locked.len(), orphans))
}

/// Makes locked orphans ready. The attempt that died does not count: takings-back have a bound of their own.
async fn take_back(conn: &mut PgConnection, orphans: &[Orphan]) -> Result<u64, Error> {
    let tenants: Vec<_> = orphans.iter().map(|orphan| orphan.tenant_id).collect();
    let ids: Vec<_> = orphans.iter().map(|orphan| orphan.id).collect();
    let entries: Vec<_> = orphans.iter().map(Orphan::entry).collect();
    let taken = sqlx::query!(
        "update jobs j
         set state = 'ready', run_at = now(), attempt = greatest(j.attempt - 1, 0),
             taken_back = j.taken_back + 1, leased_by = null, leased_at = null,
             errors = j.errors || jsonb_build_array(
                 i.entry || jsonb_build_object('at', now(), 'attempt', j.attempt)
             )
         from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) as i (tenant_id, id, entry)
         where j.tenant_id = i.tenant_id and j.id = i.id",
        &tenants,
        &ids,
        &entries,
    )
    .execute(conn)
    .await?;
    Ok(taken.rows_affected())
}

/// Makes parked jobs of these kinds ready: a worker that knows them has come.
///
/// # Errors
/// [`Error::Database`].
pub async fn unpark(pool: &PgPool, kinds: &[&str]) -> Result<u64, Error> {
    let unparked = sqlx::query!(
        "update jobs set state = 'ready', run_at = now() where state = 'parked' and kind = any($1)",
        kinds as &[&str],
    )
    .execute(pool)
    .await?;
    Ok(unparked.rows_affected())
}

/// What pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Weekly partitions of history created ahead of need.
    pub partitions_created: u32,
    /// Weekly partitions dropped.
    pub partitions_dropped: i32,
    /// Unique keys that outlived their holder and their time.
    pub keys_removed: u64,
}

/// Creates the partitions of the coming weeks and drops those older than `retention`.
///
/// # Errors
/// [`Error::Database`].
pub async fn prune(pool: &PgPool, retention: Duration) -> Result<Pruned, Error> {
    let mut tx = db::begin(pool).await?;
    // A partition cannot be attached or dropped under a reader: give way to it rather than block all others.
    sqlx::query!("select set_config('lock_timeout', '5s', true)").fetch_one(&mut *tx).await?;
    let created = sqlx::query_scalar!(
        r#"select count(*) filter (where create_jobs_finished_partition(now() + n * interval '7 days')) as "n!"
           from generate_series(0, 4) as n"#
    )
    .fetch_one(&mut *tx)
    .await?;
    let dropped = sqlx::query_scalar!(
        r#"select drop_jobs_finished_before(now() - $1::interval) as "n!""#,
        interval(retention)
    )
    .fetch_one(&mut *tx)
    .await?;
    tx.commit().await?;
    let keys_removed = sqlx::query!(
        "delete from job_unique_keys k
         where k.held_until <= now()
           and not exists (select from jobs j where j.tenant_id = k.tenant_id and j.id = k.job_id)"
    )
    .execute(pool)
    .await?
    .rows_affected();
    Ok(Pruned {
        partitions_created: u32::try_from(created).unwrap_or(u32::MAX),
        partitions_dropped: dropped,
        keys_removed,
    })
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
