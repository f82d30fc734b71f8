//! Worker processes: leases belong to one start of a process, never to a host name, and live as long as its
//! heartbeat. A process restarted under the same name is another owner.

use std::{collections::BTreeMap, time::Duration};

use db::{Connection, Pool};
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use crate::{Error, LeaseKey, Queue, plans};

/// Which version a process runs, for operators: all crates of the binary have one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who a process is, for operators.
#[derive(Debug, Clone)]
pub struct ProcessInfo {
    /// The machine's name; for people only.
    pub host: String,
    /// The process id on that machine; for people only.
    pub pid: u32,
    /// The queues it works, and how many jobs of each at once.
    pub slots: BTreeMap<Queue, usize>,
    /// The kinds it knows.
    pub kinds: Vec<&'static str>,
}

/// Registers a new incarnation and answers its id.
///
/// # Errors
/// [`Error::Database`].
pub async fn register(pool: &Pool, info: &ProcessInfo) -> Result<Uuid, Error> {
    let id = Uuid::now_v7();
    let (queues, slots): (Vec<&str>, Vec<i32>) = info
        .slots
        .iter()
        .map(|(queue, slots)| (queue.as_str(), i32::try_from(*slots).unwrap_or(i32::MAX)))
        .unzip();
    sqlx::query!(
        "insert into worker_processes (id, host, pid, queues, version, slots, kinds)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id,
        info.host,
        i32::try_from(info.pid).unwrap_or_default(),
        &queues as &[&str],
        VERSION,
        &slots,
        &info.kinds as &[&str],
    )
    .execute(pool)
    .await?;
    Ok(id)
}

/// What a heartbeat told the process.
#[derive(Debug)]
pub enum Heartbeat {
    /// Its leases hold; these of its running jobs are to be stopped.
    Alive {
        /// Jobs that somebody cancelled while they ran.
        cancelled: Vec<LeaseKey>,
    },
    /// It was declared dead: its leases are gone and its handlers must stop.
    Lost,
}

/// Renews all leases of a process at once, and looks which of the jobs it runs, `held`, somebody cancelled.
///
/// # Errors
/// [`Error::Database`]; the leases then still run out at their time.
pub async fn heartbeat(
    pool: &Pool,
    process: Uuid,
    draining: bool,
    held: &[LeaseKey],
) -> Result<Heartbeat, Error> {
    let renewed = sqlx::query!(
        "update worker_processes set heartbeat_at = now(), draining = $2 where id = $1",
        process,
        draining,
    )
    .execute(pool)
    .await?
    .rows_affected();
    if renewed == 0 {
        return Ok(Heartbeat::Lost);
    }
    Ok(Heartbeat::Alive { cancelled: cancelled(pool, process, held).await? })
}

/// Those of the jobs that a process runs that somebody cancelled. They are looked for one by one: what the index of
/// running jobs keeps for an old transaction grows with every job that ever ran.
async fn cancelled(pool: &Pool, process: Uuid, held: &[LeaseKey]) -> Result<Vec<LeaseKey>, Error> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<Uuid> = held.iter().map(|lease| lease.tenant.uuid()).collect();
    let ids: Vec<Uuid> = held.iter().map(|lease| lease.job.uuid()).collect();
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    let cancelled = sqlx::query!(
        "select j.tenant_id, j.id, j.lease_token
         from unnest($2::uuid[], $3::uuid[]) as held (tenant_id, id)
         join jobs j on j.tenant_id = held.tenant_id and j.id = held.id
         where j.leased_by = $1 and j.state = 'running' and j.cancel_requested",
        process,
        &tenants,
        &ids,
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let cancelled = cancelled.into_iter().map(|row| LeaseKey {
        tenant: TenantId::from_uuid(row.tenant_id),
        job: JobId::from_uuid(row.id),
        token: row.lease_token,
    });
    Ok(cancelled.collect())
}

/// Ends an incarnation that holds no more leases.
///
/// # Errors
/// [`Error::Database`]; the row then goes with the next sweep.
pub async fn unregister(conn: &mut Connection, process: Uuid) -> Result<(), Error> {
    sqlx::query!("delete from worker_processes where id = $1", process).execute(conn).await?;
    Ok(())
}

/// Gives back jobs that are leased to a process without its knowing: a claim whose answer was lost. `held` are the
/// jobs it knows of; claims younger than `age_min` may still be on their way to it. Answers the queues of what was given
/// back.
///
/// # Errors
/// [`Error::Database`].
pub async fn forgotten(
    pool: &Pool,
    process: Uuid,
    held: &[LeaseKey],
    age_min: Duration,
) -> Result<Vec<Queue>, Error> {
    let held: Vec<Uuid> = held.iter().map(|lease| lease.job.uuid()).collect();
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    let queues = sqlx::query_scalar!(
        // One that is locked, perhaps on a connection that fell silent, is left for the next time.
        "update jobs j
         set state = 'ready', run_at = now(), attempt = j.attempt - 1, leased_by = null, leased_at = null
         where ctid = any(array(
             select ctid from jobs
             where leased_by = $1 and state = 'running' and leased_at < now() - $2 * interval '1 millisecond'
               and id <> all($3)
             for update skip locked
         ))
         returning j.queue",
        process,
        age_min.as_millis() as f64,
        &held,
    )
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(crate::turn::queues(&queues))
}
