//! Upkeep as reconcilers that take no input: each rereads the state, may run at any time, in any number.

use std::time::Duration;

use db::{Connection, Pool};
use kernel::ids::{JobId, TenantId};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::{
    DEADLINE_EXCEEDED, End, Error, Failure, Queue, WORKER_LOST,
    end::{Ending, end_jobs},
    plans,
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
pub async fn sweep(pool: &Pool, lease: Duration) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    if !anybody_lost(pool, lease).await? {
        return Ok(swept);
    }
    loop {
        let mut tx = db::begin(pool).await?;
        plans::pin(&mut tx).await?;
        let processes_lost = forget_dead(&mut tx, lease).await?;
        let (found, orphans) = lock_orphans(&mut tx).await?;
        let (lost, back): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|orphan| orphan.taken_back + 1 >= TAKEN_BACK_MAX);
        let taken_back = take_back(&mut tx, &back).await?;
        let message = format!("given up: {TAKEN_BACK_MAX} workers in a row died while they ran it");
        let end = End::Failed(Failure { code: WORKER_LOST.into(), message });
        let entries: Vec<Value> = lost.iter().map(Orphan::entry).collect();
        let endings: Vec<Ending<'_>> =
            lost.iter().zip(&entries).map(|(orphan, entry)| orphan.ending(&end, entry)).collect();
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

/// Whether there is anything to do, which is rare: in one statement that takes no lock.
async fn anybody_lost(pool: &Pool, lease: Duration) -> Result<bool, Error> {
    let lost = sqlx::query_scalar!(r#"select job_anybody_lost($1::interval) as "is!""#, interval(lease))
        .fetch_one(pool)
        .await?;
    Ok(lost)
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

    fn ending<'a>(&self, end: &'a End, entry: &'a Value) -> Ending<'a> {
        Ending {
            tenant: TenantId::from_uuid(self.tenant_id),
            job: JobId::from_uuid(self.id),
            row: None,
            token: Some(self.lease_token),
            end,
            entry: Some(entry),
            subject: None,
        }
    }
}

async fn forget_dead(conn: &mut Connection, lease: Duration) -> Result<u64, Error> {
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
async fn lock_orphans(conn: &mut Connection) -> Result<(usize, Vec<Orphan>), Error> {
    let locked = sqlx::query!(
        // Found apart, or the planner might look for them in the order of the primary key, among all jobs.
        "with orphans as materialized (
             select tenant_id, id from jobs
             where state = 'running'
               and not exists (select from worker_processes p where p.id = jobs.leased_by)
         )
         select j.tenant_id, j.id
         from orphans o
         join jobs j on j.tenant_id = o.tenant_id and j.id = o.id
         order by o.tenant_id, o.id
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
         -- That is, running: but by this nobody looks through all that run, once for each.
         where j.leased_by is not null
           and not exists (select from worker_processes p where p.id = j.leased_by)",
        &tenants,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok((locked.len(), orphans))
}

/// The time between jobs one of which may have killed its worker, so that the others are done before it is its turn.
const SUSPECTS_APART_MS: i64 = 1_000;
/// The longest that such a job waits.
const SUSPECTS_WAIT_MAX_MS: i64 = 60_000;

/// How long each orphan waits before it runs again. Jobs that shared a dying worker would be claimed together again, and
/// die together: the third time, those that did nothing would be given up with the one that did. So from the second
/// time on they run one after another, in no particular order, and after those that were taken back for the first time:
/// the one that kills may be among these.
fn delays_ms(orphans: &[Orphan]) -> Vec<i64> {
    let is_suspect = |orphan: &Orphan| orphan.taken_back + 2 >= TAKEN_BACK_MAX;
    let suspects = orphans.iter().filter(|orphan| is_suspect(orphan)).count();
    let first = usize::from(suspects < orphans.len());
    let mut turns: Vec<i64> =
        (first..first + suspects).map(|turn| i64::try_from(turn).unwrap_or(i64::MAX)).collect();
    let apart_ms =
        SUSPECTS_APART_MS.min(SUSPECTS_WAIT_MAX_MS / turns.last().copied().unwrap_or_default().max(1));
    turns.shuffle(&mut rand::rng());
    let delay = |orphan| if is_suspect(orphan) { turns.pop().unwrap_or_default() * apart_ms } else { 0 };
    orphans.iter().map(delay).collect()
}

/// Makes locked orphans ready. The attempt that died does not count: takings-back have a bound of their own.
async fn take_back(conn: &mut Connection, orphans: &[Orphan]) -> Result<u64, Error> {
    let tenants: Vec<_> = orphans.iter().map(|orphan| orphan.tenant_id).collect();
    let ids: Vec<_> = orphans.iter().map(|orphan| orphan.id).collect();
    let entries: Vec<_> = orphans.iter().map(Orphan::entry).collect();
    let delays_ms = delays_ms(orphans);
    let taken = sqlx::query!(
        "update jobs j
         set state = case when i.delay_ms > 0 then 'scheduled' else 'ready' end::job_state,
             run_at = now() + i.delay_ms * interval '1 millisecond', attempt = greatest(j.attempt - 1, 0),
             taken_back = j.taken_back + 1, leased_by = null, leased_at = null,
             errors = job_errors(j.errors, i.entry || jsonb_build_object('at', now(), 'attempt', j.attempt))
         from unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::bigint[]) as i (tenant_id, id, entry, delay_ms)
         where j.tenant_id = i.tenant_id and j.id = i.id",
        &tenants,
        &ids,
        &entries,
        &delays_ms,
    )
    .execute(conn)
    .await?;
    Ok(taken.rows_affected())
}

/// Jobs ended in one transaction.
const EXPIRED_MAX: i64 = 500;

/// Ends jobs whose deadline has passed and that no worker holds; those that run are ended by their worker. Answers
/// how many, and the queues in which jobs became ready.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn expire(pool: &Pool) -> Result<(usize, Vec<Queue>), Error> {
    let failure = Failure { code: DEADLINE_EXCEEDED.into(), message: "not done by its deadline".into() };
    let end = End::Failed(failure);
    let (mut expired, mut released) = (0, Vec::new());
    loop {
        // Nearly always nobody is late: no transaction to find that out.
        let any = sqlx::query_scalar!(r#"select job_anybody_late() as "is!""#).fetch_one(pool).await?;
        if !any {
            return Ok((expired, released));
        }
        let mut tx = db::begin(pool).await?;
        plans::pin(&mut tx).await?;
        let late = sqlx::query!(
            "select tenant_id, id from jobs
             where deadline_at <= now() and leased_by is null
             order by deadline_at
             limit $1
             for update skip locked",
            EXPIRED_MAX,
        )
        .fetch_all(&mut *tx)
        .await?;
        let endings: Vec<Ending<'_>> = late
            .iter()
            .map(|row| Ending::of_unheld(TenantId::from_uuid(row.tenant_id), JobId::from_uuid(row.id), &end))
            .collect();
        let ended = end_jobs(&mut tx, &endings).await?;
        tx.commit().await?;
        expired += ended.jobs.len();
        released.extend(ended.released);
        if ended.jobs.is_empty() {
            return Ok((expired, released));
        }
    }
}

/// Makes parked jobs of these kinds ready: a worker that knows them has come.
///
/// # Errors
/// [`Error::Database`].
pub async fn unpark(pool: &Pool, kinds: &[&str]) -> Result<u64, Error> {
    let unparked = sqlx::query!(
        "update jobs set state = 'ready', run_at = now() where state = 'parked' and kind = any($1)",
        kinds as &[&str],
    )
    .execute(pool)
    .await?;
    Ok(unparked.rows_affected())
}

/// As PostgreSQL takes it.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(taken_back: &[i16]) -> Vec<Orphan> {
        let orphan = |taken_back: &i16| Orphan {
            tenant_id: Uuid::nil(),
            id: Uuid::now_v7(),
            queue: "enrich".into(),
            lease_token: 1,
            taken_back: *taken_back,
            leased_by: Some(Uuid::nil()),
        };
        taken_back.iter().map(orphan).collect()
    }

    #[test]
    fn jobs_of_one_dead_worker_run_again_at_once() {
        assert_eq!(delays_ms(&orphans(&[0, 0, 0])), [0, 0, 0]);
        assert_eq!(delays_ms(&orphans(&[1])), [0], "it shared its worker with nobody");
        assert_eq!(delays_ms(&[]), [0; 0]);
    }

    #[test]
    fn jobs_of_two_dead_workers_run_one_after_another() {
        let mut delays = delays_ms(&orphans(&[1, 1, 1]));
        delays.sort_unstable();
        assert_eq!(delays, [0, SUSPECTS_APART_MS, 2 * SUSPECTS_APART_MS]);
    }

    #[test]
    fn a_job_of_two_dead_workers_does_not_run_beside_one_that_was_in_the_second_alone() {
        for _ in 0..20 {
            let delays = delays_ms(&orphans(&[1, 0, 1, 0]));
            let (suspects, others) = ([delays[0], delays[2]], [delays[1], delays[3]]);
            assert_eq!(others, [0, 0]);
            assert!(suspects.iter().all(|delay| *delay >= SUSPECTS_APART_MS), "{delays:?}");
            assert_ne!(suspects[0], suspects[1]);
        }
    }

    #[test]
    fn however_many_there_are_none_waits_longer_than_a_minute() {
        let delays = delays_ms(&orphans(&[&[0][..], &[1; 200]].concat()));
        assert!(delays.iter().all(|delay| *delay <= SUSPECTS_WAIT_MAX_MS), "{delays:?}");
    }
}
