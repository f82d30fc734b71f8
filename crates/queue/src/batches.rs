//! Batches: many jobs with one end.
//!
//! A batch's children are ordinary jobs that name it. The statement that ends children counts them in their batch, once
//! per batch and not per child, and makes the completion job ready when none is left; until then that job waits, without
//! a slot. It runs once, whatever became of the children: it reads how they ended ([`batch`]) and decides what that
//! means.
//!
//! Guarantees: counters and children change in one commit, so they agree in every snapshot; the completion job
//! becomes ready exactly once, also when all children were cancelled and when there were none; a finished batch is
//! never open again. Locks are taken in the order jobs, batches. [`recount_batches`] keeps this true should a counter
//! ever be wrong, and [`resume_cancels`] ends what an interrupted [`cancel_batch`] began.

mod cancel;
mod recount;

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use kernel::ids::{BatchId, TenantId};

pub use cancel::{CancelledBatch, cancel_batch, resume_cancels};
pub use recount::{Recounted, recount_batches};

use crate::{Enqueued, Error, NewJob, Queue, enqueue::enqueue_many, queues_of};

/// Children stored by one statement.
const CHILDREN_MAX: usize = 10_000;
/// Batches removed by one call.
const PRUNED_MAX: i64 = 10_000;

/// A batch to be stored; build with [`NewBatch::of`] and refine.
#[derive(Debug, Clone)]
pub struct NewBatch {
    pub(crate) tenant: TenantId,
    pub(crate) id: BatchId,
    pub(crate) children: Vec<NewJob>,
    pub(crate) completion: Option<NewJob>,
    pub(crate) request_id: Option<String>,
}

impl NewBatch {
    /// A batch of the system tenant with these children, of whatever tenants and kinds.
    #[must_use]
    pub fn of(children: Vec<NewJob>) -> Self {
        let id = BatchId::new();
        Self { tenant: TenantId::SYSTEM, id, children, completion: None, request_id: None }
    }

    /// The tenant that owns the batch and may read it.
    #[must_use]
    pub fn tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = tenant;
        self
    }

    /// An id that follows from something else (such as [`JobId::derive`](kernel::ids::JobId::derive)), so that a
    /// repeated step stores the batch and its children once.
    #[must_use]
    pub fn id(mut self, id: BatchId) -> Self {
        self.id = id;
        self
    }

    /// The job that runs when all children have ended. To read how they did it needs the batch's
    /// [id](Self::batch) in its arguments.
    #[must_use]
    pub fn completion(mut self, job: NewJob) -> Self {
        self.completion = Some(job);
        self
    }

    /// The id of the request that asked for it; its jobs carry it unless they have their own.
    #[must_use]
    pub fn request_id(mut self, request_id: Option<String>) -> Self {
        self.request_id = request_id;
        self
    }

    /// The batch's id.
    #[must_use]
    pub const fn batch(&self) -> BatchId {
        self.id
    }

    /// Its jobs, children and completion.
    pub(crate) fn jobs_mut(&mut self) -> impl Iterator<Item = &mut NewJob> {
        self.children.iter_mut().chain(&mut self.completion)
    }
}

/// What became of a batch that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueuedBatch {
    /// Its id.
    pub id: BatchId,
    /// Whether it was stored now; a batch whose id was there already is left as it is.
    pub is_new: bool,
    /// What became of each child, in their order; empty when the batch is not new. Children that stand for another
    /// job ([`Enqueued::Existing`]) are not part of the batch.
    pub children: Vec<Enqueued>,
    /// The completion job, if the batch has one and is new.
    pub completion: Option<Enqueued>,
    /// Queues to wake after the commit.
    pub queues: Vec<Queue>,
}

/// A batch as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its id.
    pub id: BatchId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its children.
    pub total: i32,
    /// Children that did their work.
    pub completed: i32,
    /// Children that were given up.
    pub failed: i32,
    /// Children that were called off.
    pub cancelled: i32,
    /// Children that have not ended.
    pub pending: i32,
    /// Who called the batch off, if anybody did.
    pub cancelled_by: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When its last child ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Stores a batch with its children and its completion job in the caller's transaction (it takes several statements,
/// so there must be one).
///
/// # Errors
/// See [`enqueue_many`](crate::enqueue_many).
pub async fn enqueue_batch(conn: &mut Connection, mut batch: NewBatch) -> Result<EnqueuedBatch, Error> {
    let (tenant, id) = (batch.tenant, batch.id);
    let request_id = batch.request_id.clone();
    for job in batch.jobs_mut().filter(|job| job.request_id.is_none()) {
        job.request_id.clone_from(&request_id);
    }
    let total = rows(batch.children.len());
    let stored = sqlx::query!(
        "insert into job_batches (tenant_id, id, total, request_id) values ($1, $2, $3, $4)
         on conflict do nothing",
        tenant.uuid(),
        id.uuid(),
        total,
        request_id,
    )
    .execute(&mut *conn)
    .await?;
    if stored.rows_affected() == 0 {
        return Ok(EnqueuedBatch { id, is_new: false, children: vec![], completion: None, queues: vec![] });
    }
    let mut queues = queues_of(&batch.children);
    let children = store_children(conn, id, batch.children).await?;
    let of_batch = rows(new_ones(&children));
    if of_batch < total || of_batch == 0 {
        sqlx::query!(
            "update job_batches set total = $3, finished_at = case when $3 = 0 then now() end
             where tenant_id = $1 and id = $2",
            tenant.uuid(),
            id.uuid(),
            of_batch,
        )
        .execute(&mut *conn)
        .await?;
    }
    let completion = match batch.completion {
        Some(mut job) => {
            if of_batch > 0 {
                job.waits_for = Some((tenant, id.uuid()));
            }
            queues.extend(queues_of(std::slice::from_ref(&job)));
            enqueue_many(conn, vec![job]).await?.into_iter().next()
        }
        None => None,
    };
    queues.sort_unstable();
    queues.dedup();
    Ok(EnqueuedBatch { id, is_new: true, children, completion, queues })
}

/// Adds children to a batch in the caller's transaction, and answers what became of each; `None`, with nothing
/// stored, when the batch is finished, was called off, or is not there.
///
/// The batch stays locked until the transaction ends, and children that end meanwhile wait for it: add late and
/// commit soon. A job that adds to the batch it belongs to can be sure that it is open, unless it was called off.
///
/// # Errors
/// See [`enqueue_many`](crate::enqueue_many).
pub async fn add_to_batch(
    conn: &mut Connection,
    tenant: TenantId,
    id: BatchId,
    children: Vec<NewJob>,
) -> Result<Option<Vec<Enqueued>>, Error> {
    let open = sqlx::query!(
        "select id from job_batches
         where tenant_id = $1 and id = $2 and finished_at is null and cancelled_by is null
         for no key update",
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    if open.is_none() {
        return Ok(None);
    }
    let stored = store_children(conn, id, children).await?;
    sqlx::query!(
        "update job_batches set total = total + $3 where tenant_id = $1 and id = $2",
        tenant.uuid(),
        id.uuid(),
        rows(new_ones(&stored)),
    )
    .execute(conn)
    .await?;
    Ok(Some(stored))
}

/// A batch of a tenant; another tenant's batch is not there.
///
/// # Errors
/// [`Error::Database`].
pub async fn batch(
    conn: &mut Connection,
    tenant: TenantId,
    id: BatchId,
) -> Result<Option<BatchRecord>, Error> {
    let row = sqlx::query!(
        "select total, completed, failed, cancelled, cancelled_by, request_id, created_at, finished_at
         from job_batches where tenant_id = $1 and id = $2",
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| BatchRecord {
        id,
        tenant,
        total: row.total,
        completed: row.completed,
        failed: row.failed,
        cancelled: row.cancelled,
        pending: row.total - row.completed - row.failed - row.cancelled,
        cancelled_by: row.cancelled_by,
        request_id: row.request_id,
        created_at: row.created_at,
        finished_at: row.finished_at,
    }))
}

/// Removes batches that finished longer ago than `retention`, as [`prune`](crate::prune) does with finished jobs, and
/// answers how many; a bounded number, the next call does the rest.
///
/// # Errors
/// [`Error::Database`].
pub async fn prune_batches(pool: &Pool, retention: Duration) -> Result<u64, Error> {
    let removed = sqlx::query!(
        "delete from job_batches
         where (tenant_id, id) in (
             select tenant_id, id from job_batches
             where finished_at < now() - make_interval(secs => $1)
             limit $2
         )",
        retention.as_secs_f64(),
        PRUNED_MAX,
    )
    .execute(pool)
    .await?;
    Ok(removed.rows_affected())
}

async fn store_children(
    conn: &mut Connection,
    id: BatchId,
    mut children: Vec<NewJob>,
) -> Result<Vec<Enqueued>, Error> {
    let mut stored = Vec::with_capacity(children.len());
    for child in &mut children {
        child.batch = Some(id.uuid());
    }
    while !children.is_empty() {
        let rest = children.split_off(children.len().min(CHILDREN_MAX));
        stored.extend(enqueue_many(conn, children).await?);
        children = rest;
    }
    Ok(stored)
}

fn new_ones(stored: &[Enqueued]) -> usize {
    stored.iter().filter(|one| matches!(one, Enqueued::New(_))).count()
}

fn rows(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
