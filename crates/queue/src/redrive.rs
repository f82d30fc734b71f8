//! Giving jobs that failed or were cancelled another life: they move from history back to work, all attempts anew.
//!
//! Guarantees: a job is moved once, however many try; it takes its unique key again or stays where it is; a child of
//! an open batch is pending there again, a child of a finished batch leaves it. The row in history is locked before its
//! batch, as a live job is.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use crate::{Error, Queue};

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
pub async fn redrive(conn: &mut Connection, tenant: TenantId, job: JobId) -> Result<Redriven, Error> {
    let locked = sqlx::query_as!(
        Locked,
        r#"select tenant_id, id, finished_at, ended::text as "ended!", kind, queue, unique_key, batch_id,
               args::text as "args!"
           from jobs_finished
           where tenant_id = $1 and id = $2 and ended in ('failed', 'cancelled')
           for update"#,
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    // Not there: it never failed, or somebody else redrove it at this moment.
    let Some(locked) = locked else { return Ok(Redriven::NotFailed) };
    let queue = locked.queue.parse().ok();
    let moved = move_back(conn, &[(&locked, None)]).await?;
    Ok(if moved.contains(&locked.id) { Redriven::Ready(queue) } else { Redriven::KeyTaken })
}

/// A row of history that the transaction has locked.
pub(crate) struct Locked {
    pub(crate) tenant_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) finished_at: DateTime<Utc>,
    pub(crate) ended: String,
    pub(crate) kind: String,
    pub(crate) queue: String,
    pub(crate) unique_key: Option<String>,
    pub(crate) batch_id: Option<Uuid>,
    pub(crate) args: String,
}

/// Moves locked jobs back to work, each to run at its time (`None`: at once), and answers which: those whose unique
/// key another job holds stay.
pub(crate) async fn move_back(
    conn: &mut Connection,
    jobs: &[(&Locked, Option<DateTime<Utc>>)],
) -> Result<Vec<Uuid>, Error> {
    let taken = taken_keys(conn, jobs).await?;
    let jobs: Vec<_> = jobs.iter().filter(|(job, _)| !taken.contains(&job.id)).collect();
    let open = open_batches(conn, jobs.iter().filter_map(|(job, _)| job.batch_id)).await?;
    let batches: Vec<Option<Uuid>> =
        jobs.iter().map(|(job, _)| job.batch_id.filter(|batch| open.contains(batch))).collect();
    let tenants: Vec<Uuid> = jobs.iter().map(|(job, _)| job.tenant_id).collect();
    let ids: Vec<Uuid> = jobs.iter().map(|(job, _)| job.id).collect();
    let finished_at: Vec<DateTime<Utc>> = jobs.iter().map(|(job, _)| job.finished_at).collect();
    let run_at: Vec<Option<DateTime<Utc>>> = jobs.iter().map(|(_, run_at)| *run_at).collect();
    let moved = sqlx::query_file_scalar!(
        "src/redrive/move_back.sql",
        &tenants,
        &ids,
        &finished_at,
        &run_at as &[Option<DateTime<Utc>>],
        &batches as &[Option<Uuid>],
    )
    .fetch_all(&mut *conn)
    .await?;
    if !open.is_empty() {
        uncount(conn, &jobs, &batches).await?;
    }
    Ok(moved)
}

/// Takes the unique keys of jobs, and answers which jobs' keys others hold. Whoever else is taking one is waited
/// for, so that afterwards it is the one's or the other's.
async fn taken_keys(
    conn: &mut Connection,
    jobs: &[(&Locked, Option<DateTime<Utc>>)],
) -> Result<Vec<Uuid>, Error> {
    let (mut tenants, mut kinds, mut keys, mut ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (job, _) in jobs {
        if let Some(key) = &job.unique_key {
            tenants.push(job.tenant_id);
            kinds.push(job.kind.as_str());
            keys.push(key.as_str());
            ids.push(job.id);
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Keys that outlived their holder and their time are nobody's.
    sqlx::query!(
        "delete from job_unique_keys k
         using unnest($1::uuid[], $2::text[], $3::text[]) as i (tenant_id, kind, key)
         where k.tenant_id = i.tenant_id and k.kind = i.kind and k.key = i.key and k.held_until <= now()
           and not exists (select from jobs j where j.tenant_id = k.tenant_id and j.id = k.job_id)",
        &tenants,
        &kinds as &[&str],
        &keys as &[&str],
    )
    .execute(&mut *conn)
    .await?;
    // In one order, so that two who take the same keys do not wait for each other.
    sqlx::query!(
        "insert into job_unique_keys (tenant_id, kind, key, job_id)
         select tenant_id, kind, key, job_id
         from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) with ordinality
             as i (tenant_id, kind, key, job_id, n)
         order by tenant_id, kind, key, n
         on conflict do nothing",
        &tenants,
        &kinds as &[&str],
        &keys as &[&str],
        &ids,
    )
    .execute(&mut *conn)
    .await?;
    let taken = sqlx::query_scalar!(
        r#"select i.job_id as "id!"
           from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) as i (tenant_id, kind, key, job_id)
           where not exists (
               select from job_unique_keys k
               where k.tenant_id = i.tenant_id and k.kind = i.kind and k.key = i.key and k.job_id = i.job_id
           )"#,
        &tenants,
        &kinds as &[&str],
        &keys as &[&str],
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(taken)
}

/// Locks batches and answers which are not finished.
async fn open_batches(
    conn: &mut Connection,
    batches: impl Iterator<Item = Uuid>,
) -> Result<Vec<Uuid>, Error> {
    let mut batches: Vec<Uuid> = batches.collect();
    if batches.is_empty() {
        return Ok(batches);
    }
    batches.sort_unstable();
    batches.dedup();
    let open = sqlx::query_scalar!(
        "select id from job_batches
         where id = any($1) and finished_at is null
         order by tenant_id, id
         for no key update",
        &batches,
    )
    .fetch_all(conn)
    .await?;
    Ok(open)
}

/// Takes jobs that are pending again out of their open batches' counters.
async fn uncount(
    conn: &mut Connection,
    jobs: &[&(&Locked, Option<DateTime<Utc>>)],
    batches: &[Option<Uuid>],
) -> Result<(), Error> {
    let failed: Vec<bool> = jobs.iter().map(|(job, _)| job.ended == "failed").collect();
    sqlx::query!(
        "update job_batches b
         set failed = b.failed - c.failed, cancelled = b.cancelled - c.cancelled
         from (
             select batch_id, count(*) filter (where failed) as failed,
                 count(*) filter (where not failed) as cancelled
             from unnest($1::uuid[], $2::boolean[]) as i (batch_id, failed)
             group by batch_id
         ) as c
         where b.id = c.batch_id",
        batches as &[Option<Uuid>],
        &failed,
    )
    .execute(conn)
    .await?;
    Ok(())
}
