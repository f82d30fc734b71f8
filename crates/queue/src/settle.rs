//! Acknowledging attempts in batches: what workers report becomes the jobs' next state.
//!
//! Every change is fenced by (job, token, running). What is refused was lost to another worker, and is
//! answered so that the caller can say so; it is no error. A batch that fails as a whole may be repeated.

use std::time::Duration;

use kernel::ids::JobId;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    Backoff, End, Error, JobError, LeaseKey, Queue,
    end::{Ended, Ending, end_jobs, end_unawaited, history_entry},
};

/// What an attempt came to, decided by [`Settlement::of_error`] and the like; still to be written.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// The job ends.
    End(End, Option<Value>),
    /// Try again after the delay; the line goes to the history of errors.
    Retry(Duration, Value),
    /// Run again after the delay, as if this attempt had not been.
    Again(Duration),
    /// Set aside until a worker that knows the kind comes along.
    Park,
}

/// One attempt's settlement.
#[derive(Debug, Clone)]
pub struct Acknowledgement {
    /// The claim it was made under.
    pub lease: LeaseKey,
    /// What it came to.
    pub settlement: Settlement,
}

impl Settlement {
    /// The rule for a failed attempt: fatal errors and the last attempt end the job, others are retried.
    #[must_use]
    pub fn of_error(
        error: &JobError,
        attempt: i16,
        attempts_max: i16,
        backoff: &Backoff,
        process: Uuid,
        chance: f64,
    ) -> Self {
        let entry = history_entry(attempt, process, error);
        if error.is_fatal() || attempt >= attempts_max {
            return Self::End(End::Failed(error.failure()), Some(entry));
        }
        Self::Retry(backoff.next_retry(attempt, chance, error.retry_after()), entry)
    }
}

/// What became of a batch of acknowledgements.
#[derive(Debug, Default)]
pub struct SettledBatch {
    /// Jobs whose lease had been lost; nothing was changed for them.
    pub refused: Vec<JobId>,
    /// Queues in which jobs became ready, to be woken.
    pub released: Vec<Queue>,
    /// How many jobs ended.
    pub ended: usize,
}

/// Writes a batch of acknowledgements.
///
/// # Errors
/// [`Error::Database`]; nothing or only a part was written then, and repeating the batch is safe: what was
/// written is refused the second time.
pub async fn settle(pool: &PgPool, batch: &[Acknowledgement]) -> Result<SettledBatch, Error> {
    let mut answer = SettledBatch::default();
    let mut endings = Vec::new();
    let mut resting = Vec::new();
    for acknowledgement in batch {
        match &acknowledgement.settlement {
            Settlement::End(end, entry) => {
                let mut ending = Ending::by(acknowledgement.lease, end.clone());
                ending.entry.clone_from(entry);
                endings.push(ending);
            }
            Settlement::Retry(..) | Settlement::Again(_) | Settlement::Park => resting.push(acknowledgement),
        }
    }

    if !endings.is_empty() {
        let mut conn = pool.acquire().await?;
        let ended = end_unawaited(&mut conn, &endings).await?;
        answer.ended += ended.len();
        endings.retain(|ending| !ended.contains(&ending.job));
    }
    if !endings.is_empty() {
        let mut tx = db::begin(pool).await?;
        let Ended { jobs, released } = end_jobs(&mut tx, &endings).await?;
        tx.commit().await?;
        answer.ended += jobs.len();
        answer.released = released;
        answer.refused.extend(endings.iter().map(|ending| ending.job).filter(|job| !jobs.contains(job)));
    }
    if !resting.is_empty() {
        let mut conn = pool.acquire().await?;
        let rested = put_back(&mut conn, &resting).await?;
        answer
            .refused
            .extend(resting.iter().map(|back| back.lease.job).filter(|job| !rested.contains(&job.uuid())));
    }
    Ok(answer)
}

/// Puts jobs that did not end back, ready at their time or parked.
async fn put_back(conn: &mut PgConnection, resting: &[&Acknowledgement]) -> Result<Vec<Uuid>, Error> {
    let tenants: Vec<Uuid> = resting.iter().map(|back| back.lease.tenant.uuid()).collect();
    let ids: Vec<Uuid> = resting.iter().map(|back| back.lease.job.uuid()).collect();
    let tokens: Vec<i32> = resting.iter().map(|back| back.lease.token).collect();
    let mut states = Vec::with_capacity(resting.len());
    let mut delays_ms = Vec::with_capacity(resting.len());
    let mut used = Vec::with_capacity(resting.len());
    let mut entries = Vec::with_capacity(resting.len());
    for back in resting {
        let (state, delay, attempts_used, entry) = match &back.settlement {
            Settlement::Retry(delay, entry) => ("ready", *delay, 1_i16, Some(entry.clone())),
            Settlement::Again(delay) => ("ready", *delay, 0, None),
            Settlement::Park | Settlement::End(..) => ("parked", Duration::ZERO, 0, None),
        };
        states.push(state);
        delays_ms.push(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
        used.push(attempts_used);
        entries.push(entry);
    }
    let written = sqlx::query_scalar!(
        "update jobs j
         set state = i.state::job_state,
             -- Whoever cancelled it meanwhile does not wait for its next attempt.
             run_at = now() + case when j.cancel_requested then 0 else i.delay_ms end * interval '1 millisecond',
             attempt = j.attempt - 1 + i.used,
             leased_by = null,
             leased_at = null,
             errors = j.errors || case
                 when i.entry is null then '[]'
                 else jsonb_build_array(i.entry || jsonb_build_object('at', now()))
             end
         from unnest(
             $1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::smallint[], $7::jsonb[]
         ) as i (tenant_id, id, lease_token, state, delay_ms, used, entry)
         where j.tenant_id = i.tenant_id and j.id = i.id and j.lease_token = i.lease_token
           and j.state = 'running'
         returning j.id",
        &tenants,
        &ids,
        &tokens,
        &states as &[&str],
        &delays_ms,
        &used,
        &entries as &[Option<Value>],
    )
    .fetch_all(conn)
    .await?;
    Ok(written)
}
