//! Dead letters: jobs of history that failed, to be looked at in groups and given another life in bulk.
//!
//! A bulk redrive works in chunks, each in a transaction of its own, and freezes its filter first: what fails again is
//! younger than the filter and is not taken twice. Interrupted anywhere, the same frozen filter goes on where it
//! stopped, and keeps the rate across the gap.

mod redriving;
mod signature;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

pub use redriving::{Redrive, RedriveChunk, RedriveRate, RedrivenJob};

use crate::{Error, Failure};
use signature::signature;

/// Dead jobs looked at for the groups; the newest of them.
const COUNTED_MAX: i64 = 50_000;
/// Ids shown of a group.
const SAMPLES_MAX: usize = 3;

/// Which dead jobs; empty fields exclude nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Of this tenant; `None` is every tenant, for operators.
    pub tenant: Option<TenantId>,
    /// Of these kinds.
    pub kinds: Vec<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Whose error has this code.
    pub code: Option<String>,
    /// Failed at or after.
    pub finished_from: Option<DateTime<Utc>>,
    /// Failed before.
    pub finished_before: Option<DateTime<Utc>>,
    /// These.
    pub ids: Vec<JobId>,
}

impl DeadFilter {
    fn uuids(&self) -> Vec<Uuid> {
        self.ids.iter().map(|id| id.uuid()).collect()
    }
}

/// Dead jobs by what they have in common.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The groups, the largest first.
    pub groups: Vec<DeadGroup>,
    /// How many dead jobs were looked at: all there are, unless the next field says otherwise.
    pub counted: u64,
    /// There are more than were looked at: every count is of the newest alone, and at least that.
    pub is_capped: bool,
}

/// Dead jobs of one kind that failed alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadGroup {
    /// Their kind.
    pub kind: String,
    /// The code of their error.
    pub code: String,
    /// Their message, without what differs from job to job.
    pub message: String,
    /// How many.
    pub jobs: u64,
    /// When the first of them failed.
    pub first_at: DateTime<Utc>,
    /// When the last of them failed.
    pub last_at: DateTime<Utc>,
    /// Some of them, the newest.
    pub samples: Vec<JobId>,
}

/// One dead job.
#[derive(Debug, Clone)]
pub struct DeadJob {
    /// Its id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Attempts begun.
    pub attempts: i16,
    /// How often it was taken back from a dead worker.
    pub taken_back: i16,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When it failed.
    pub finished_at: DateTime<Utc>,
}

/// Dead jobs, grouped by kind, error code and message, at most `limit` groups.
///
/// # Errors
/// [`Error::Database`].
pub async fn dead_letters(
    conn: &mut Connection,
    filter: &DeadFilter,
    limit: usize,
) -> Result<DeadLetters, Error> {
    let rows = sqlx::query_file!(
        "src/dead_letters/groups.sql",
        filter.tenant.map(TenantId::uuid),
        &filter.kinds,
        filter.queue,
        filter.code,
        filter.finished_from,
        filter.finished_before,
        &filter.uuids(),
        COUNTED_MAX + 1,
    )
    .fetch_all(conn)
    .await?;
    let mut groups: Vec<DeadGroup> = Vec::new();
    let mut counted = 0;
    for row in rows {
        let jobs = u64::try_from(row.jobs).unwrap_or_default();
        counted += jobs;
        let group = DeadGroup {
            kind: row.kind,
            code: row.code,
            message: signature(&row.message),
            jobs,
            first_at: row.first_at,
            last_at: row.last_at,
            samples: row.samples.into_iter().map(JobId::from_uuid).collect(),
        };
        merge(&mut groups, group);
    }
    groups.sort_by_key(|group| std::cmp::Reverse((group.jobs, group.last_at)));
    groups.truncate(limit);
    let is_capped = counted > COUNTED_MAX.unsigned_abs();
    Ok(DeadLetters { groups, counted: counted.min(COUNTED_MAX.unsigned_abs()), is_capped })
}

/// Dead jobs one by one, the last that failed first, at most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub async fn dead_jobs(
    conn: &mut Connection,
    filter: &DeadFilter,
    limit: i64,
) -> Result<Vec<DeadJob>, Error> {
    let rows = sqlx::query_file!(
        "src/dead_letters/jobs.sql",
        filter.tenant.map(TenantId::uuid),
        &filter.kinds,
        filter.queue,
        filter.code,
        filter.finished_from,
        filter.finished_before,
        &filter.uuids(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    let jobs = rows.into_iter().map(|row| DeadJob {
        id: JobId::from_uuid(row.id),
        tenant: TenantId::from_uuid(row.tenant_id),
        kind: row.kind,
        queue: row.queue,
        attempts: row.attempt,
        taken_back: row.taken_back,
        failure: row.error.and_then(|error| serde_json::from_value(error).ok()),
        created_at: row.created_at,
        finished_at: row.finished_at,
    });
    Ok(jobs.collect())
}

/// Adds what the database counted under one message to the group of messages like it. Groups come newest first.
fn merge(groups: &mut Vec<DeadGroup>, one: DeadGroup) {
    let alike = groups
        .iter_mut()
        .find(|group| group.kind == one.kind && group.code == one.code && group.message == one.message);
    let Some(group) = alike else {
        groups.push(one);
        return;
    };
    group.jobs += one.jobs;
    group.first_at = group.first_at.min(one.first_at);
    group.last_at = group.last_at.max(one.last_at);
    group.samples.extend(one.samples);
    group.samples.truncate(SAMPLES_MAX);
}
