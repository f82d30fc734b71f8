//! Changes of many jobs at once: another life for dead ones, or calling live ones off, in chunks.
//!
//! Guarantees: each chunk's changes and how far the whole is are one transaction, so a bulk job that dies anywhere repeats
//! nothing and leaves nothing out. The search is frozen before the first chunk: what fails again, or is stored later, is younger
//! and not met. With a rate, no second sees more of the redriven than the rate, also across a gap. Jobs that carry out bulk
//! changes are never changed in bulk.

mod cancelling;
mod redriving;

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::{Connection, Pool};
use kernel::ids::JobId;
use serde::{Deserialize, Serialize};

pub use redriving::RedrivenJob;

use crate::{
    Error, FoundJob, JobSearch, JobState, LeaseKey, Order, Queue, SearchCursor, SearchFault,
    maintenance::interval, search::search,
};

/// The kind of the jobs that carry out bulk changes.
pub const BULK_KIND: &str = "ops.bulk";
/// Jobs changed in one transaction.
pub const CHUNK_MAX: usize = 500;

/// What is done to every job that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkAction {
    /// Failed and cancelled jobs live again, with all their attempts.
    Redrive,
    /// Live jobs are called off.
    Cancel,
}

impl BulkAction {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Cancel => "cancel",
        }
    }
}

/// How far a bulk change is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BulkState {
    /// Behind which job to go on.
    pub behind: Option<SearchCursor>,
    /// When the next job may run.
    pub next_at: Option<DateTime<Utc>>,
    /// Jobs that live again, or were called off.
    pub changed: u64,
    /// Jobs that ran and were asked to stop.
    pub asked: u64,
    /// Jobs left as they are, since another holds their unique key.
    pub key_taken: u64,
    /// Jobs that matched and had changed otherwise when their turn came.
    pub gone: u64,
    /// All that match were met.
    pub is_over: bool,
}

impl BulkState {
    /// Jobs that were met so far.
    #[must_use]
    pub const fn met(&self) -> u64 {
        self.changed + self.asked + self.key_taken + self.gone
    }
}

/// A chunk that a transaction is to change.
#[derive(Debug)]
pub struct BulkChunk {
    jobs: Vec<FoundJob>,
    next: Option<SearchCursor>,
}

/// What a chunk's transaction did, to be acted upon once it is committed.
#[derive(Debug, Default)]
pub struct BulkDone {
    /// Jobs that live again.
    pub redriven: Vec<RedrivenJob>,
    /// Queues in which jobs became ready.
    pub queues: Vec<Queue>,
    /// Some that run were asked to stop.
    pub is_cancel_asked: bool,
    /// Jobs ended.
    pub has_ended: bool,
}

/// The search that a bulk change carries out: narrowed to what it can change, and with an upper bound in time, so that it
/// means the same later. Freezing what is frozen changes nothing.
///
/// # Errors
/// [`SearchFault`] when it cannot be made, or names only jobs that cannot be changed so; [`Error::Database`].
pub async fn freeze(
    conn: &mut Connection,
    action: BulkAction,
    mut search: JobSearch,
) -> Result<JobSearch, Error> {
    search.check()?;
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(conn).await?;
    let until = |given: Option<DateTime<Utc>>| Some(given.map_or(now, |given| given.min(now)));
    match action {
        BulkAction::Redrive => {
            if search.states.is_empty() && search.statuses.is_empty() {
                search.states = vec![JobState::Failed];
            }
            search.states = search.ends().into_iter().filter(|end| *end != JobState::Completed).collect();
            search.finished_before = until(search.finished_before);
        }
        BulkAction::Cancel => {
            search.states = search.live_states();
            search.created_before = until(search.created_before);
        }
    }
    if search.states.is_empty() {
        return Err(SearchFault::NothingToChange.into());
    }
    Ok(search)
}

/// Whether a search means the same whenever it is carried out.
#[must_use]
pub fn is_frozen(action: BulkAction, search: &JobSearch) -> bool {
    match action {
        BulkAction::Redrive => search.finished_before.is_some(),
        BulkAction::Cancel => search.created_before.is_some(),
    }
}

/// How far a bulk job is; at its beginning when it was never carried on.
///
/// # Errors
/// [`Error::BulkState`] when what is stored cannot be read, [`Error::Database`].
pub async fn state(conn: &mut Connection, job: JobId) -> Result<BulkState, Error> {
    let row = sqlx::query!(
        "select behind, next_at, changed, asked, key_taken, gone, is_over from job_bulks where job_id = $1",
        job.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(BulkState::default()) };
    let behind = row.behind.map(serde_json::from_value).transpose();
    Ok(BulkState {
        behind: behind.map_err(|source| Error::BulkState { job, source })?,
        next_at: row.next_at,
        changed: row.changed.unsigned_abs(),
        asked: row.asked.unsigned_abs(),
        key_taken: row.key_taken.unsigned_abs(),
        gone: row.gone.unsigned_abs(),
        is_over: row.is_over,
    })
}

/// Looks for the next jobs that match, outside any transaction: their rows are locked and looked at again when they are changed.
///
/// # Errors
/// [`Error::Database`].
pub async fn next_chunk(
    conn: &mut Connection,
    frozen: &JobSearch,
    state: &BulkState,
    chunk_max: usize,
) -> Result<BulkChunk, Error> {
    let found =
        search(conn, frozen, Order::Oldest, state.behind.as_ref(), chunk_max.clamp(1, CHUNK_MAX)).await?;
    let jobs = found.jobs.into_iter().filter(|job| job.kind != BULK_KIND).collect();
    Ok(BulkChunk { jobs, next: found.next })
}

/// Changes a chunk in the transaction of the bulk job `lease`, whose row that has locked, and moves its state behind the chunk.
/// Redriven jobs run as far apart as `rate_per_s` says. Answers how long the next chunk is to wait, and what to do after the
/// commit.
///
/// # Errors
/// [`Error::Database`]; one that [is contended](Error::is_contended) gave way to others, and the chunk is to be looked for and
/// changed anew.
pub async fn change(
    conn: &mut Connection,
    lease: LeaseKey,
    action: BulkAction,
    by: &str,
    rate_per_s: Option<f64>,
    chunk: &BulkChunk,
    state: &mut BulkState,
) -> Result<(Duration, BulkDone), Error> {
    crate::plans::pin(conn).await?;
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut *conn).await?;
    // One that fell behind its rate does not catch up: nobody is to see more than the rate.
    let first_at = state.next_at.map_or(now, |next_at| next_at.max(now));
    let done = match action {
        BulkAction::Redrive => redriving::redrive(conn, &chunk.jobs, rate_per_s, first_at, state).await?,
        BulkAction::Cancel => cancelling::cancel(conn, &chunk.jobs, by, state).await?,
    };
    if rate_per_s.is_some() {
        state.next_at = Some(first_at + after(rate_per_s, chunk.jobs.len()));
    }
    state.behind = chunk.next;
    state.is_over = chunk.next.is_none();
    save(conn, lease, state).await?;
    let wait = state.next_at.map_or(Duration::ZERO, |next_at| (next_at - now).to_std().unwrap_or_default());
    Ok((wait, done))
}

/// Keeps how far it is. What got on is not what kills workers: that it was taken back is forgotten.
async fn save(conn: &mut Connection, lease: LeaseKey, state: &BulkState) -> Result<(), Error> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let behind = state.behind.map(serde_json::to_value).transpose();
    let behind = behind.map_err(|source| Error::NotJson { kind: BULK_KIND, source })?;
    sqlx::query!(
        "insert into job_bulks (job_id, behind, next_at, changed, asked, key_taken, gone, is_over)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (job_id) do update
         set behind = excluded.behind, next_at = excluded.next_at, changed = excluded.changed, asked = excluded.asked,
             key_taken = excluded.key_taken, gone = excluded.gone, is_over = excluded.is_over, updated_at = now()",
        lease.job.uuid(),
        behind,
        state.next_at,
        whole(state.changed),
        whole(state.asked),
        whole(state.key_taken),
        whole(state.gone),
        state.is_over,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update jobs set taken_back = 0 where tenant_id = $1 and id = $2 and taken_back > 0",
        lease.tenant.uuid(),
        lease.job.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes what is kept of bulk jobs that were last carried on before the retention; at most 10,000 at once. Answers how many.
///
/// # Errors
/// [`Error::Database`].
pub async fn prune(pool: &Pool, retention: Duration) -> Result<u64, Error> {
    let pruned = sqlx::query!(
        "delete from job_bulks where job_id = any(array(
             select job_id from job_bulks where updated_at < now() - $1::interval order by updated_at limit 10000
         ))",
        interval(retention),
    )
    .execute(pool)
    .await?;
    Ok(pruned.rows_affected())
}

/// How long after the first the job of this number runs.
fn after(rate_per_s: Option<f64>, position: usize) -> chrono::TimeDelta {
    let micros = rate_per_s.map_or(0.0, |rate| position as f64 * 1e6 / rate.max(f64::MIN_POSITIVE));
    // Beyond any clock it is as good as never.
    chrono::TimeDelta::microseconds(micros.min(1e15) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_spaced_evenly_however_many_there_are() {
        let at: Vec<_> = (0..7).map(|n| after(Some(3.0), n).num_microseconds().unwrap_or_default()).collect();
        assert_eq!(at, [0, 333_333, 666_666, 1_000_000, 1_333_333, 1_666_666, 2_000_000]);
        assert_eq!(after(Some(3.0), 3_000_000_000).num_seconds(), 1_000_000_000);
        assert_eq!(after(None, 7).num_seconds(), 0);
        assert!(after(Some(1e-300), 7).num_days() > 10_000);
    }
}
