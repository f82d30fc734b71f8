//! What a running handler holds: the lease on its job, and the fenced transaction to write under it.

use std::ops::{Deref, DerefMut};

use db::{Connection, Pool, Transaction};
use kernel::{
    ids::{BatchId, JobId, TenantId},
    trace::TraceParent,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    CANCELLED, Claimed, End, Enqueued, EnqueuedBatch, Error, JobError, LeaseKey, NewBatch, NewJob, Outcome,
    Queue, Settled, Waker, add_to_batch,
    bulk::BulkDone,
    end::{Ending, end_jobs},
    enqueue::enqueue_many,
    enqueue_batch,
    lane::lane,
    queues_of,
};

/// The lease on a running job, as its handler sees it.
#[derive(Debug, Clone)]
pub struct Lease {
    key: LeaseKey,
    process: Uuid,
    attempt: i16,
    attempts_max: i16,
    request_id: Option<String>,
    trace: TraceParent,
    share: TenantId,
    pool: Pool,
    waker: Waker,
}

impl Lease {
    /// The lease that a claim gave.
    #[must_use]
    pub fn new(claimed: &Claimed, pool: Pool, waker: Waker) -> Self {
        Self {
            key: claimed.lease,
            process: claimed.process,
            attempt: claimed.attempt,
            attempts_max: claimed.attempts_max,
            request_id: claimed.request_id.clone(),
            trace: claimed.trace(),
            share: claimed.share,
            pool,
            waker,
        }
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.key.job
    }

    /// The job's tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.key.tenant
    }

    /// The claim, to name in writes about the job.
    #[must_use]
    pub const fn key(&self) -> LeaseKey {
        self.key
    }

    /// The process that runs the job.
    #[must_use]
    pub const fn process(&self) -> Uuid {
        self.process
    }

    /// This attempt's number; 1 is the first.
    #[must_use]
    pub const fn attempt(&self) -> i16 {
        self.attempt
    }

    /// Whether a failure now is the job's failure.
    #[must_use]
    pub const fn is_last_attempt(&self) -> bool {
        self.attempt >= self.attempts_max
    }

    /// The id of the request that asked for the job.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// This attempt's span, for those that it calls; see [`Claimed::trace`].
    #[must_use]
    pub const fn trace(&self) -> TraceParent {
        self.trace
    }

    /// Whose share of the workers the job uses.
    #[must_use]
    pub const fn share(&self) -> TenantId {
        self.share
    }

    /// Begins the only transaction a job may write business rows in: it locks the job's row and checks the
    /// fencing token, so that a worker that lost its lease cannot commit.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] or [`Error::Database`].
    pub async fn begin(&self) -> Result<JobTx, Error> {
        let mut tx = db::begin(&self.pool).await?;
        let held = sqlx::query!(
            "select cancel_requested from jobs
             where tenant_id = $1 and id = $2 and lease_token = $3 and leased_by is not null
             for update",
            self.key.tenant.uuid(),
            self.key.job.uuid(),
            self.key.token,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let held = held.ok_or(Error::LeaseLost)?;
        Ok(JobTx {
            tx,
            key: self.key,
            share: self.share,
            request_id: self.request_id.clone(),
            trace: self.trace,
            cancel_requested: held.cancel_requested,
            waker: self.waker.clone(),
            to_wake: Vec::new(),
            cancels_others: false,
            ends_others: false,
        })
    }
}

/// A transaction under a job's lease. It derefs to the connection for domain functions; dropping it rolls back.
#[derive(Debug)]
pub struct JobTx {
    tx: Transaction,
    key: LeaseKey,
    share: TenantId,
    request_id: Option<String>,
    trace: TraceParent,
    cancel_requested: bool,
    waker: Waker,
    to_wake: Vec<Queue>,
    cancels_others: bool,
    ends_others: bool,
}

impl JobTx {
    /// Stores a follow-up job in this transaction and wakes its queue after the commit. It carries on the request
    /// id and trace context of this job, unless it has its own.
    ///
    /// # Errors
    /// See [`enqueue_many`](crate::enqueue_many).
    pub async fn enqueue(&mut self, mut job: NewJob) -> Result<Enqueued, Error> {
        let queue = job.queue;
        self.carry_on(&mut job);
        let stored = enqueue_many(&mut self.tx, vec![job]).await?;
        self.to_wake.push(queue);
        stored.into_iter().next().ok_or(Error::LeaseLost)
    }

    /// Stores a batch of follow-up jobs in this transaction and wakes their queues after the commit. Its jobs carry on
    /// this one's request id and trace, as with [`enqueue`](Self::enqueue).
    ///
    /// # Errors
    /// See [`enqueue_batch`].
    pub async fn enqueue_batch(&mut self, mut batch: NewBatch) -> Result<EnqueuedBatch, Error> {
        if batch.request_id.is_none() {
            batch.request_id.clone_from(&self.request_id);
        }
        batch.jobs_mut().for_each(|job| self.carry_on(job));
        let stored = enqueue_batch(&mut self.tx, batch).await?;
        self.to_wake.extend(&stored.queues);
        Ok(stored)
    }

    /// Adds children to a batch in this transaction, such as the one that this job belongs to, and wakes their queues
    /// after the commit. `None`, with nothing stored, when the batch takes no more.
    ///
    /// # Errors
    /// See [`add_to_batch`].
    pub async fn add_to_batch(
        &mut self,
        tenant: TenantId,
        batch: BatchId,
        mut children: Vec<NewJob>,
    ) -> Result<Option<Vec<Enqueued>>, Error> {
        children.iter_mut().for_each(|job| self.carry_on(job));
        self.to_wake.extend(queues_of(&children));
        add_to_batch(&mut self.tx, tenant, batch, children).await
    }

    /// Tells others what a bulk change did to their jobs, after the commit.
    pub fn tell(&mut self, done: &BulkDone) {
        self.to_wake.extend(&done.queues);
        self.cancels_others |= done.is_cancel_asked;
        self.ends_others |= done.has_ended;
    }

    /// Gives a follow-up job what it shares with this one.
    fn carry_on(&self, job: &mut NewJob) {
        if job.request_id.is_none() {
            job.request_id.clone_from(&self.request_id);
        }
        job.traceparent.get_or_insert_with(|| self.trace.to_string());
    }

    /// Commits the business rows; the job goes on.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await?;
        self.waker.wake_all(self.to_wake);
        if self.cancels_others {
            self.waker.cancel();
        }
        if self.ends_others {
            self.waker.job_ended();
        }
        Ok(())
    }

    /// Ends the job as done, in the same commit as its business rows. `about` is the creator whom the result
    /// describes, so that erasure finds it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn done(mut self, result: Option<Value>, about: Option<Uuid>) -> Result<Outcome, Error> {
        let end = End::Completed(result);
        let ended =
            end_jobs(&mut self.tx, &[Ending { subject: about, ..Ending::by(self.key, &end) }]).await?;
        self.to_wake.extend(ended.released);
        let waker = self.waker.clone();
        let outcome = self.finish().await?;
        waker.job_ended();
        Ok(outcome)
    }

    /// The jobs that wait to share this one's end. Nobody joins them while this transaction is open:
    /// joining takes a lock on the row that it holds.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn sharers(&mut self) -> Result<Vec<(TenantId, JobId)>, Error> {
        let waiting = sqlx::query!(
            "select tenant_id, id from jobs where waiting_on = $1 and state = 'waiting' and shares_end",
            self.key.job.uuid(),
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let keys =
            waiting.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), JobId::from_uuid(row.id)));
        Ok(keys.collect())
    }

    /// Parks the job, without a slot, until `other` ends, and gives it `other`'s end: its result or its error.
    ///
    /// Answers `None`, with nothing changed and this transaction still open to be dropped, when `other` has
    /// already ended: look again at what it left behind. A job that somebody cancelled does not begin to wait,
    /// since no heartbeat would reach it there: it answers that it is cancelled, and what this transaction did is
    /// taken back.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn share_end_of(mut self, tenant: TenantId, other: JobId) -> Result<Option<Outcome>, Error> {
        if self.cancel_requested {
            let why = JobError::fatal(CANCELLED, "cancelled while it ran");
            return Ok(Some(Outcome::Cancel(why)));
        }
        // Whoever ends `other` locks its row first, so from here on either it is gone or its end sees us.
        let target = sqlx::query!(
            "select awaited, (state = 'waiting' and shares_end) as \"is_sharer!\",
                    state in ('ready', 'scheduled') as \"is_queued!\", share_id, queue, kind, key
             from jobs where tenant_id = $1 and id = $2 for key share",
            tenant.uuid(),
            other.uuid(),
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(target) = target else { return Ok(None) };
        if target.is_sharer {
            return Err(Error::SharedAlready);
        }
        if !target.awaited {
            sqlx::query!(
                "update jobs set awaited = true where tenant_id = $1 and id = $2",
                tenant.uuid(),
                other.uuid(),
            )
            .execute(&mut *self.tx)
            .await?;
        }
        if target.is_queued && target.share_id != self.share.uuid() {
            self.carry(tenant, other, &target.queue, &target.kind, target.key.as_deref()).await?;
        }
        sqlx::query!(
            "update jobs
             set state = 'waiting', waiting_on = $3, waiting_on_tenant = $4, shares_end = true,
                 attempt = attempt - 1, leased_by = null, leased_at = null
             where tenant_id = $1 and id = $2",
            self.key.tenant.uuid(),
            self.key.job.uuid(),
            other.uuid(),
            tenant.uuid(),
        )
        .execute(&mut *self.tx)
        .await?;
        self.finish().await.map(Some)
    }

    /// Takes a queued job that this one will wait for into its own share of the workers, when it would come first
    /// there: who asks for what a tenant with a million jobs has asked for does not wait behind them.
    async fn carry(
        &mut self,
        tenant: TenantId,
        other: JobId,
        queue: &str,
        kind: &str,
        key: Option<&str>,
    ) -> Result<(), Error> {
        let Ok(queue) = queue.parse::<Queue>() else { return Ok(()) };
        sqlx::query!(
            "update jobs
             set share_id = $3, lane = $4
             where tenant_id = $1 and id = $2 and state in ('ready', 'scheduled')
               and not exists (select from jobs where lane = $4 and state = 'ready')",
            tenant.uuid(),
            other.uuid(),
            self.share.uuid(),
            lane(queue, self.share, kind, key),
        )
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    async fn finish(self) -> Result<Outcome, Error> {
        self.commit().await?;
        Ok(Outcome::Settled(Settled(())))
    }
}

impl Deref for JobTx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.tx
    }
}

impl DerefMut for JobTx {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.tx
    }
}
