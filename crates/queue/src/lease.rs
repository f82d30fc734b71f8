//! What a running handler holds: the lease on its job, and the fenced transaction to write under it.

use std::ops::{Deref, DerefMut};

use kernel::ids::{JobId, TenantId};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{
    CANCELLED, Claimed, End, Enqueued, Error, JobError, LeaseKey, NewJob, Outcome, Queue, Settled, Waker,
    end::{Ending, end_jobs, end_unawaited},
    enqueue::enqueue_many,
};

/// The lease on a running job, as its handler sees it.
#[derive(Debug, Clone)]
pub struct Lease {
    key: LeaseKey,
    attempt: i16,
    attempts_max: i16,
    request_id: Option<String>,
    pool: PgPool,
    waker: Waker,
}

impl Lease {
    /// The lease that a claim gave.
    #[must_use]
    pub fn new(claimed: &Claimed, pool: PgPool, waker: Waker) -> Self {
        Self {
            key: claimed.lease,
            attempt: claimed.attempt,
            attempts_max: claimed.attempts_max,
            request_id: claimed.request_id.clone(),
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

    /// Begins the only transaction a job may write business rows in: it locks the job's row and checks the
    /// fencing token, so that a worker that lost its lease cannot commit.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] or [`Error::Database`].
    pub async fn begin(&self) -> Result<JobTx, Error> {
        let mut tx = db::begin(&self.pool).await?;
        let held = sqlx::query!(
            "select awaited, cancel_requested from jobs
             where tenant_id = $1 and id = $2 and lease_token = $3 and state = 'running'
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
            awaited: held.awaited,
            cancel_requested: held.cancel_requested,
            waker: self.waker.clone(),
            to_wake: Vec::new(),
        })
    }
}

/// A transaction under a job's lease. It derefs to the connection for domain functions; dropping it rolls back.
#[derive(Debug)]
pub struct JobTx {
    tx: Transaction<'static, Postgres>,
    key: LeaseKey,
    awaited: bool,
    cancel_requested: bool,
    waker: Waker,
    to_wake: Vec<Queue>,
}

impl JobTx {
    /// Stores a follow-up job in this transaction and wakes its queue after the commit.
    ///
    /// # Errors
    /// See [`enqueue_many`](crate::enqueue_many).
    pub async fn enqueue(&mut self, job: NewJob) -> Result<Enqueued, Error> {
        let queue = job.queue;
        let stored = enqueue_many(&mut self.tx, vec![job]).await?;
        self.to_wake.push(queue);
        stored.into_iter().next().ok_or(Error::LeaseLost)
    }

    /// Commits the business rows; the job goes on.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await?;
        self.waker.wake_all(self.to_wake);
        Ok(())
    }

    /// Ends the job as done, in the same commit as its business rows. `about` is the creator whom the result
    /// describes, so that erasure finds it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn done(mut self, result: Option<Value>, about: Option<Uuid>) -> Result<Outcome, Error> {
        let ending = [Ending { subject: about, ..Ending::by(self.key, End::Completed(result)) }];
        if self.awaited {
            let ended = end_jobs(&mut self.tx, &ending).await?;
            self.to_wake.extend(ended.released);
        } else {
            end_unawaited(&mut self.tx, &ending).await?;
        }
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
            "select awaited, (state = 'waiting' and shares_end) as \"is_sharer!\"
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

    async fn finish(self) -> Result<Outcome, Error> {
        self.commit().await?;
        Ok(Outcome::Settled(Settled(())))
    }
}

impl Deref for JobTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for JobTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}
