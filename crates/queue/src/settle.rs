//! What an attempt came to, and how it is written: the rule from errors to the job's next state.

use std::time::Duration;

use db::Pool;
use kernel::ids::JobId;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Backoff, Claimed, End, Error, JobError, KnownLanes, LeaseKey, Queue, RowId, Shares, Turn, TurnAnswer,
    end::history_entry, turn,
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
    /// Where its row stood when it was claimed, if that is known.
    pub row: Option<RowId>,
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

/// Writes a batch of acknowledgements: a [`turn`] that claims nothing.
///
/// # Errors
/// [`Error::Database`]; repeating the batch is safe: what was written is refused the second time.
pub async fn settle(pool: &Pool, batch: &[Acknowledgement]) -> Result<SettledBatch, Error> {
    let TurnAnswer { refused, released, ended, .. } =
        alone(pool, Uuid::nil(), Queue::Maintenance, 0, batch).await?;
    Ok(SettledBatch { refused, released, ended })
}

/// Takes up to `count_max` ready jobs of a queue for a process: a [`turn`] that acknowledges nothing.
///
/// # Errors
/// [`Error::Database`].
pub async fn claim(
    pool: &Pool,
    process: Uuid,
    queue: Queue,
    count_max: usize,
) -> Result<Vec<Claimed>, Error> {
    Ok(alone(pool, process, queue, count_max, &[]).await?.claimed)
}

async fn alone(
    pool: &Pool,
    process: Uuid,
    queue: Queue,
    count_max: usize,
    acknowledgements: &[Acknowledgement],
) -> Result<TurnAnswer, Error> {
    let shares = Shares::default();
    let (lane_after, lanes) = (Uuid::nil(), KnownLanes::default());
    let mut conn = pool.acquire().await?;
    let turn_of = Turn {
        process,
        queue,
        count_max,
        shares: &shares,
        lane_after,
        since: None,
        lanes: &lanes,
        acknowledgements,
    };
    turn(&mut conn, &turn_of).await
}
