//! Upkeep as reconcilers that take no input: each rereads the state, may run at any time, in any number.

use std::time::Duration;

use kernel::ids::{JobId, TenantId};
use sqlx::{PgPool, postgres::types::PgInterval};

use crate::{
    End, Error, Failure, Queue, WORKER_LOST,
    end::{Ending, end_jobs},
};

/// How often a job may be taken back from a dead worker before it is given up as one that kills workers.
pub const TAKEN_BACK_MAX: i16 = 3;

/// Orphans handled in one transaction.
const ORPHANS_MAX: i64 = 1_000;

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
        swept.processes_lost += sqlx::query!(
            "delete from worker_processes
             where id in (
                 select id from worker_processes where heartbeat_at < now() - $1::interval
                 for update skip locked
             )",
            interval(lease),
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let locked = sqlx::query!(
            "select j.tenant_id, j.id
             from jobs j
             where j.state = 'running'
               and not exists (select from worker_processes p where p.id = j.leased_by)
             order by j.tenant_id, j.id
             limit $1
             for update of j skip locked",
            ORPHANS_MAX,
        )
        .fetch_all(&mut *tx)
        .await?;
        let found = locked.len();
        let (tenants, ids): (Vec<_>, Vec<_>) = locked.into_iter().map(|row| (row.tenant_id, row.id)).unzip();
        // Another sweep may have taken a job back and a live process claimed it after the statement above began:
        // PostgreSQL rechecks the locked row then, but not the owner that it looked for. A new statement does.
        let orphans = sqlx::query!(
            "select j.tenant_id, j.id, j.queue, j.lease_token, j.taken_back, j.leased_by
             from jobs j
             join unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id) using (tenant_id, id)
             where j.state = 'running'
               and not exists (select from worker_processes p where p.id = j.leased_by)",
            &tenants,
            &ids,
        )
        .fetch_all(&mut *tx)
        .await?;

        let mut endings = Vec::new();
        let mut back = Vec::new();
        for orphan in orphans {
            let entry = serde_json::json!({
                "code": WORKER_LOST,
                "message": "the worker stopped answering while it ran this job",
                "worker": orphan.leased_by,
            });
            if orphan.taken_back + 1 >= TAKEN_BACK_MAX {
                endings.push(Ending {
                    tenant: TenantId::from_uuid(orphan.tenant_id),
                    job: JobId::from_uuid(orphan.id),
                    token: Some(orphan.lease_token),
                    end: End::Failed(Failure {
                        code: WORKER_LOST.into(),
                        message: format!(
                            "given up: {TAKEN_BACK_MAX} workers in a row died while they ran it"
                        ),
                    }),
                    entry: Some(entry),
                    subject: None,
                });
            } else {
                swept.released.extend(orphan.queue.parse::<Queue>().ok());
                back.push((orphan.tenant_id, orphan.id, entry));
            }
        }
        let tenants: Vec<_> = back.iter().map(|(tenant, ..)| *tenant).collect();
        let ids: Vec<_> = back.iter().map(|(_, id, _)| *id).collect();
        let entries: Vec<_> = back.into_iter().map(|(.., entry)| entry).collect();
        // The attempt that died does not count: takings-back have a bound of their own.
        swept.taken_back += sqlx::query!(
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
        .execute(&mut *tx)
        .await?
        .rows_affected();
        let ended = end_jobs(&mut tx, &endings).await?;
        tx.commit().await?;

        swept.given_up += ended.jobs.len() as u64;
        swept.released.extend(ended.released);
        if found < usize::try_from(ORPHANS_MAX).unwrap_or(usize::MAX) {
            swept.released.sort_unstable();
            swept.released.dedup();
            return Ok(swept);
        }
    }
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
