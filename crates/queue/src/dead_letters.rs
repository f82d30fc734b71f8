//! Dead letters: jobs of history that failed, to be looked at in groups and one by one. [`bulk`](crate::bulk) gives them
//! another life.

mod signature;

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use crate::{Error, Failure, FoundJob, JobSearch, JobState, Order, search};
pub use signature::signature;
pub(crate) use signature::words_of;

/// Dead jobs looked at for the groups: the newest of those within the filter's range of time.
const LOOKED_MAX: i64 = 10_000;
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
    /// Whose error has this signature: [`DeadGroup::message`].
    pub signature: Option<String>,
    /// Failed at or after.
    pub finished_from: Option<DateTime<Utc>>,
    /// Failed before.
    pub finished_before: Option<DateTime<Utc>>,
    /// These.
    pub ids: Vec<JobId>,
}

impl From<&DeadFilter> for JobSearch {
    fn from(filter: &DeadFilter) -> Self {
        Self {
            states: vec![JobState::Failed],
            tenant: filter.tenant,
            kinds: filter.kinds.clone(),
            queues: filter.queue.iter().cloned().collect(),
            code: filter.code.clone(),
            signature: filter.signature.clone(),
            finished_from: filter.finished_from,
            finished_before: filter.finished_before,
            ids: filter.ids.clone(),
            ..Self::default()
        }
    }
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
    /// How many dead jobs match: all there are, unless the next field says otherwise.
    pub counted: u64,
    /// There may be more than were looked at: every count is of the newest 10,000 dead jobs of the range of time alone.
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

impl DeadGroup {
    /// One more, which failed before those that are there.
    fn add(&mut self, job: JobId, at: DateTime<Utc>) {
        self.jobs += 1;
        self.first_at = self.first_at.min(at);
        self.last_at = self.last_at.max(at);
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(job);
        }
    }
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
        LOOKED_MAX,
        filter.signature.as_deref().map(words_of),
    )
    .fetch_all(conn)
    .await?;
    let mut groups: HashMap<(String, String, String), DeadGroup> = HashMap::new();
    let (mut counted, mut looked) = (0, 0);
    for row in rows {
        looked += row.looked.unwrap_or_default();
        let (Some(kind), Some(code), Some(messages), Some(ids), Some(ended_at)) =
            (row.kind, row.code, row.messages, row.ids, row.ended_at)
        else {
            continue;
        };
        // Jobs of one cause often say the very same.
        let mut alike: HashMap<&str, String> = HashMap::new();
        for ((message, id), at) in messages.iter().zip(ids).zip(ended_at) {
            let message = alike.entry(message).or_insert_with(|| signature(message));
            if filter.signature.as_ref().is_some_and(|wanted| wanted != message) {
                continue;
            }
            counted += 1;
            let id = JobId::from_uuid(id);
            match groups.entry((kind.clone(), code.clone(), message.clone())) {
                Entry::Occupied(group) => group.into_mut().add(id, at),
                Entry::Vacant(place) => {
                    let (kind, code, message) = place.key().clone();
                    place.insert(DeadGroup {
                        kind,
                        code,
                        message,
                        jobs: 1,
                        first_at: at,
                        last_at: at,
                        samples: vec![id],
                    });
                }
            }
        }
    }
    let mut groups: Vec<DeadGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.jobs, group.last_at)));
    groups.truncate(limit);
    Ok(DeadLetters { groups, counted, is_capped: looked >= LOOKED_MAX })
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
    let limit = usize::try_from(limit).unwrap_or_default();
    let mut jobs = Vec::new();
    let mut after = None;
    while jobs.len() < limit {
        let found = search(conn, &filter.into(), Order::Newest, after.as_ref(), limit - jobs.len()).await?;
        jobs.extend(found.jobs.into_iter().filter_map(DeadJob::of));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    Ok(jobs)
}

impl DeadJob {
    fn of(job: FoundJob) -> Option<Self> {
        Some(Self {
            finished_at: job.finished_at?,
            id: job.id,
            tenant: job.tenant,
            kind: job.kind,
            queue: job.queue,
            attempts: job.attempts,
            taken_back: job.taken_back,
            failure: job.failure,
            created_at: job.created_at,
        })
    }
}
