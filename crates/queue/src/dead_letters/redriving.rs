//! Redriving many dead jobs at a rate.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use serde_json::Value;
use uuid::Uuid;

use super::DeadFilter;
use crate::{
    Error, Queue,
    redrive::{Locked, move_back},
};

/// Jobs moved in one transaction.
const CHUNK_MAX: usize = 500;

/// How many jobs may become ready in how much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedriveRate {
    /// So many jobs, at least 1,
    pub jobs: u32,
    /// in this time.
    pub per: Duration,
}

impl RedriveRate {
    /// How long after the first the job of this number runs.
    fn after(self, position: usize) -> chrono::Duration {
        let micros = self.per.as_micros() * position as u128 / u128::from(self.jobs.max(1));
        chrono::Duration::microseconds(i64::try_from(micros).unwrap_or(i64::MAX / 1_000))
    }
}

/// A bulk redrive on its way: [`chunk`](Self::chunk) moves some jobs in a transaction, [`committed`](Self::committed)
/// goes on behind them.
#[derive(Debug, Clone)]
pub struct Redrive {
    filter: DeadFilter,
    before: DateTime<Utc>,
    rate: Option<RedriveRate>,
    /// The last job looked at.
    behind: (DateTime<Utc>, Uuid),
    /// When the next job may run.
    next_at: DateTime<Utc>,
    moved: u64,
    key_taken: u64,
}

/// Some jobs moved by a transaction that is not committed yet.
#[derive(Debug)]
pub struct RedriveChunk {
    /// Jobs that live again.
    pub jobs: Vec<RedrivenJob>,
    key_taken: u64,
    behind: (DateTime<Utc>, Uuid),
    next_at: DateTime<Utc>,
}

/// A job that lives again.
#[derive(Debug, Clone)]
pub struct RedrivenJob {
    /// Its id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: String,
    /// Its queue; `None` is one this binary does not know.
    pub queue: Option<Queue>,
    /// Its arguments, as stored.
    pub args: Value,
}

impl Redrive {
    /// Freezes the filter at the database's now, and finds where the rate of an earlier call that was interrupted
    /// goes on. Without a rate all jobs are ready at once.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn begin(
        conn: &mut Connection,
        mut filter: DeadFilter,
        rate: Option<RedriveRate>,
    ) -> Result<Self, Error> {
        let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *conn).await?;
        let before = filter.finished_before.map_or(now, |before| before.min(now));
        filter.finished_before = Some(before);
        let mut next_at = now;
        if let Some(rate) = rate {
            let every: Vec<String> = Queue::ALL.iter().map(ToString::to_string).collect();
            let queues = filter.queue.clone().map_or(every, |queue| vec![queue]);
            let last = sqlx::query_file_scalar!(
                "src/dead_letters/pace.sql",
                &queues,
                before,
                filter.tenant.map(TenantId::uuid),
                &filter.kinds,
            )
            .fetch_one(conn)
            .await?;
            next_at = last.map_or(now, |last| last + rate.after(1));
        }
        let behind = (filter.finished_from.unwrap_or(DateTime::UNIX_EPOCH), Uuid::nil());
        Ok(Self { filter, before, rate, behind, next_at, moved: 0, key_taken: 0 })
    }

    /// The filter to go on with after an interruption.
    #[must_use]
    pub const fn filter(&self) -> &DeadFilter {
        &self.filter
    }

    /// Before when the jobs failed that this takes.
    #[must_use]
    pub const fn before(&self) -> DateTime<Utc> {
        self.before
    }

    /// Jobs moved so far.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Jobs left where they are so far, since another job holds their unique key.
    #[must_use]
    pub const fn key_taken(&self) -> u64 {
        self.key_taken
    }

    /// When the last job moved so far may run, about.
    #[must_use]
    pub const fn paced_until(&self) -> DateTime<Utc> {
        self.next_at
    }

    /// Moves the next jobs in the caller's transaction; `None` when there are no more. When the transaction does not
    /// commit, the same chunk may be asked for again.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn chunk(&self, conn: &mut Connection) -> Result<Option<RedriveChunk>, Error> {
        // The index of dead jobs gives them in this order; old statistics must not talk the planner out of it.
        let now = sqlx::query_scalar!(
            r#"select now() as "now!"
               from (select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)) as s"#
        )
        .fetch_one(&mut *conn)
        .await?;
        let dead = self.pick(conn).await?;
        let Some(last) = dead.last() else { return Ok(None) };
        let behind = (last.finished_at, last.id);
        // A redrive that fell behind its rate does not catch up: nobody is to see more than the rate.
        let first_at = self.next_at.max(now);
        let at = |position| self.rate.map(|rate| first_at + rate.after(position));
        let timed: Vec<_> = dead.iter().enumerate().map(|(position, job)| (job, at(position))).collect();
        let moved = move_back(conn, &timed).await?;
        let next_at = at(dead.len()).unwrap_or(first_at);
        let key_taken = (dead.len() - moved.len()) as u64;
        let jobs = dead.into_iter().filter(|job| moved.contains(&job.id)).map(RedrivenJob::of).collect();
        Ok(Some(RedriveChunk { jobs, key_taken, behind, next_at }))
    }

    /// The chunk's transaction is committed.
    pub fn committed(&mut self, chunk: &RedriveChunk) {
        self.moved += chunk.jobs.len() as u64;
        self.key_taken += chunk.key_taken;
        self.behind = chunk.behind;
        self.next_at = chunk.next_at;
    }

    async fn pick(&self, conn: &mut Connection) -> Result<Vec<Locked>, Error> {
        let filter = &self.filter;
        let dead = sqlx::query_file_as!(
            Locked,
            "src/dead_letters/pick.sql",
            filter.tenant.map(TenantId::uuid),
            &filter.kinds,
            filter.queue,
            filter.code,
            self.behind.0,
            self.behind.1,
            self.before,
            &filter.uuids(),
            i64::try_from(CHUNK_MAX).unwrap_or(i64::MAX),
        )
        .fetch_all(conn)
        .await?;
        Ok(dead)
    }
}

impl RedrivenJob {
    fn of(job: Locked) -> Self {
        Self {
            id: JobId::from_uuid(job.id),
            tenant: TenantId::from_uuid(job.tenant_id),
            kind: job.kind,
            queue: job.queue.parse().ok(),
            args: serde_json::from_str(&job.args).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_spaced_evenly_however_many_there_are() {
        let rate = RedriveRate { jobs: 3, per: Duration::from_secs(1) };
        let at: Vec<i64> = (0..7).map(|n| rate.after(n).num_microseconds().unwrap_or_default()).collect();
        assert_eq!(at, [0, 333_333, 666_666, 1_000_000, 1_333_333, 1_666_666, 2_000_000]);
        assert_eq!(rate.after(3_000_000_000).num_seconds(), 1_000_000_000);
    }
}
