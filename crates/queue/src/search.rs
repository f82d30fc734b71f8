//! Looking through jobs, live and finished: for operators, who do not know which of millions they want.
//!
//! Guarantees: a call looks at [`LOOKED_MAX`] jobs and few more, however many there are. When that ends it before the page
//! is full, the page says that it is partial and goes on where the looking stopped, so that following `next` meets every job
//! that matches once, unless it ends or lives again meanwhile. What nobody is shown of arguments is not matched either.
//!
//! How jobs are found: by id, by request, by batch, by the states that few jobs are in, or by when they ended, as far as the
//! search says one of these; else along each owner's jobs in the order of their ids, which is that of their being stored.

mod by_end;
mod by_id;
mod count;
mod row;
mod rule;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{BatchId, JobId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use count::COUNT_LOOKED_MAX;
pub use count::{COUNTED_EXACTLY_MAX, Count, count};
pub use rule::SearchFault;

use crate::{Error, Failure, JobStatus};

/// Jobs looked at by one call, about: the last look may go a little beyond.
pub const LOOKED_MAX: u64 = 10_000;
/// Ids that one search may name.
pub const IDS_MAX: usize = 100;
/// Jobs on one page.
pub const PAGE_MAX: usize = 1_000;

/// Where a job stands, as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It could run now.
    Ready,
    /// Its time has not come.
    Scheduled,
    /// A worker has it.
    Running,
    /// It waits for the end of another.
    Waiting,
    /// No worker that met it knew its kind.
    Parked,
    /// Done.
    Completed,
    /// Given up.
    Failed,
    /// Called off.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Waiting,
        Self::Parked,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to the job.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state that no job has.
#[derive(Debug, thiserror::Error)]
#[error(
    "no job state is called {0:?}; there are: scheduled, waiting, parked, ready, running, completed, failed, cancelled"
)]
pub struct UnknownState(String);

impl std::str::FromStr for JobState {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or_else(|| UnknownState(name.into()))
    }
}

/// Which jobs; empty fields exclude nothing. As JSON it is what a bulk job is given; what the audit log keeps of it names
/// nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobSearch {
    /// In one of these states.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<JobState>,
    /// Of one of these statuses, as their owners see them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<JobStatus>,
    /// Of one of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// In one of these queues, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Of this owner; `None` is every owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// With this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Asked for by this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Children of this batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Ended with an error of this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Failed or cancelled with an error of this signature: [`DeadGroup::message`](crate::DeadGroup::message).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Stored at or after. Of jobs that others led to, those whose first asker is more than an hour older are not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_from: Option<DateTime<Utc>>,
    /// Stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime<Utc>>,
    /// Ended at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_from: Option<DateTime<Utc>>,
    /// Ended before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<DateTime<Utc>>,
    /// One of these, at most [`IDS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<JobId>,
    /// With this argument; only together with a kind and a range of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arg: Option<ArgIs>,
}

/// An argument with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgIs {
    /// Where it stands: names of fields and indexes of lists, from the outside in.
    pub path: Vec<String>,
    /// Its value as text: strings without quotes, others as JSON.
    pub value: String,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// By which of a job's times a search sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortedBy {
    /// By when jobs were stored, more exactly by their ids.
    Created,
    /// By when they ended: where a search can only find ended ones and says which errors or when.
    Finished,
}

/// Behind which job a page begins. Opaque: as JSON it belongs into a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCursor(Behind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Behind {
    /// This place in the order of ids.
    Id(Place),
    /// This end.
    End(DateTime<Utc>, Uuid),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    id: Uuid,
    /// Some owners come after others; without, all jobs before the id were seen, whoever owns them.
    slices: Option<Slices>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Slices {
    /// The owners that come now are those behind the first and up to the second, or all that are left.
    owners_after: Option<Uuid>,
    owners_until: Option<Uuid>,
    /// The id at which each owner's jobs begin.
    begin: Uuid,
}

/// A page of what was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The jobs.
    pub jobs: Vec<FoundJob>,
    /// Where the next page begins; `None` when nothing more matches.
    pub next: Option<SearchCursor>,
    /// So many jobs were looked at that the page ends before it is full; `next` goes on.
    pub partial: bool,
    /// By what they are sorted.
    pub sorted_by: SortedBy,
    /// Jobs looked at.
    pub looked: u64,
}

/// A job as a search finds it: without its arguments and result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundJob {
    /// Its id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub state: JobState,
    /// Where it stands as its owner sees it.
    pub status: JobStatus,
    /// Attempts begun.
    pub attempts: i16,
    /// Attempts allowed.
    pub attempts_max: i16,
    /// How often it was taken back from a dead worker.
    pub taken_back: i16,
    /// Lower runs first.
    pub priority: i16,
    /// Its key.
    pub key: Option<String>,
    /// The batch that it is a child of.
    pub batch: Option<BatchId>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// Why it failed or was cancelled.
    pub failure: Option<Failure>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the next attempt may begin, while it is live.
    pub run_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Jobs that match, behind a cursor of the same search and order, at most `limit` (and [`PAGE_MAX`]).
///
/// # Errors
/// [`Error::Search`] for a search that cannot be made, [`Error::Database`].
pub async fn search(
    conn: &mut Connection,
    search: &JobSearch,
    order: Order,
    after: Option<&SearchCursor>,
    limit: usize,
) -> Result<Found, Error> {
    search.check()?;
    let limit = limit.clamp(1, PAGE_MAX);
    match search.sorted_by() {
        SortedBy::Created => by_id::page(conn, search, order, after, limit).await,
        SortedBy::Finished => by_end::page(conn, search, order, after, limit).await,
    }
}
