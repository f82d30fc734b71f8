//! One job with everything that is known of it.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{BatchId, JobId, TenantId};
use uuid::Uuid;

use crate::{
    BatchRecord, Error, FoundJob, JobRecord, JobSearch, JobState, Order, WORKER_LOST, batch, find, plans,
    search,
};

/// Related jobs shown of each relation.
pub const LINEAGE_MAX: usize = 50;

/// A job with everything that is known of it.
#[derive(Debug, Clone)]
pub struct JobDetail {
    /// The job.
    pub record: JobRecord,
    /// Where it stands.
    pub state: JobState,
    /// Lower runs first.
    pub priority: i16,
    /// Whose share of the workers it uses.
    pub share: TenantId,
    /// Its key.
    pub key: Option<String>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// When it fails instead of running (again), while it is live.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Somebody cancelled it, and its worker is told.
    pub cancel_requested: bool,
    /// Who runs it.
    pub holder: Option<Holder>,
    /// What happened to it, the oldest first.
    pub timeline: Vec<Event>,
    /// What it waits for.
    pub waits_for: Option<Awaited>,
    /// Jobs that wait for its end, the first [`LINEAGE_MAX`] and one more if there are more.
    pub waiters: Vec<FoundJob>,
    /// The batch that it is a child of, with its counts.
    pub batch: Option<BatchRecord>,
    /// Other jobs of its request, the first [`LINEAGE_MAX`] and one more if there are more.
    pub of_request: Vec<FoundJob>,
}

/// Who runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The worker process.
    pub process: Uuid,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What a job waits for.
#[derive(Debug, Clone)]
pub enum Awaited {
    /// Another job; with `shares_end` it gets that one's result or error instead of running.
    Job {
        /// The other.
        job: Box<FoundJob>,
        /// Whether it shares the other's end.
        shares_end: bool,
    },
    /// All children of a batch.
    Batch(Box<BatchRecord>),
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: EventKind,
}

/// What happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum EventKind {
    /// It was stored.
    Stored,
    /// Its first attempt began.
    Started,
    /// An attempt failed.
    Failed { attempt: Option<i16>, worker: Option<Uuid>, code: String, message: String },
    /// Its worker was lost, and it was taken back.
    TakenBack { attempt: Option<i16>, worker: Option<Uuid>, message: String },
    /// A worker took it; it has it still.
    Claimed { attempt: i16, worker: Uuid },
    /// It ended.
    Ended { state: JobState },
}

impl EventKind {
    /// The word for programs.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Started => "started",
            Self::Failed { .. } => "attempt_failed",
            Self::TakenBack { .. } => "taken_back",
            Self::Claimed { .. } => "claimed",
            Self::Ended { .. } => "ended",
        }
    }
}

/// One job of any of the given tenants, with everything that is known of it.
///
/// # Errors
/// [`Error::Database`].
pub async fn detail(
    conn: &mut Connection,
    tenants: &[TenantId],
    id: JobId,
) -> Result<Option<JobDetail>, Error> {
    plans::pin(conn).await?;
    let Some(record) = find(conn, tenants, id).await? else { return Ok(None) };
    let Some(rest) = rest(conn, &record).await? else { return Ok(None) };
    let state = rest.state.parse().unwrap_or(JobState::Ready);
    let holder = rest.leased_by.zip(rest.leased_at).map(|(process, since)| Holder { process, since });
    let batch = match rest.batch_id {
        Some(id) => batch_by_id(conn, id).await?,
        None => None,
    };
    let waits_for = match rest.waiting_on {
        Some(other) => awaited(conn, rest.waiting_on_tenant, other, rest.shares_end).await?,
        None => None,
    };
    let waiters = if rest.awaited { waiters(conn, id).await? } else { Vec::new() };
    let of_request = of_same_request(conn, &record).await?;
    Ok(Some(JobDetail {
        timeline: timeline(&record, state, holder),
        state,
        priority: rest.priority,
        share: TenantId::from_uuid(rest.share_id),
        key: rest.key,
        unique_key: rest.unique_key,
        deadline_at: rest.deadline_at,
        cancel_requested: rest.cancel_requested,
        holder,
        waits_for,
        waiters,
        batch,
        of_request,
        record,
    }))
}

/// What a record leaves out.
struct Rest {
    state: String,
    priority: i16,
    share_id: Uuid,
    key: Option<String>,
    unique_key: Option<String>,
    batch_id: Option<Uuid>,
    deadline_at: Option<DateTime<Utc>>,
    cancel_requested: bool,
    leased_by: Option<Uuid>,
    leased_at: Option<DateTime<Utc>>,
    waiting_on: Option<Uuid>,
    waiting_on_tenant: Option<Uuid>,
    shares_end: bool,
    awaited: bool,
}

async fn rest(conn: &mut Connection, record: &JobRecord) -> Result<Option<Rest>, Error> {
    let rest = sqlx::query_as!(
        Rest,
        r#"select state::text as "state!", priority as "priority!", share_id as "share_id!", key, unique_key, batch_id,
               deadline_at, cancel_requested as "cancel_requested!", leased_by, leased_at, waiting_on, waiting_on_tenant,
               shares_end as "shares_end!", awaited as "awaited!"
           from jobs where tenant_id = $1 and id = $2
           union all
           select ended::text, priority, share_id, key, unique_key, batch_id, null, false, null, null, null, null, false, false
           from jobs_finished where tenant_id = $1 and id = $2
           limit 1"#,
        record.tenant.uuid(),
        record.id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(rest)
}

async fn batch_by_id(conn: &mut Connection, id: Uuid) -> Result<Option<BatchRecord>, Error> {
    // A child may belong to another tenant than its batch.
    let owner = sqlx::query_scalar!("select tenant_id from job_batches where id = $1 limit 1", id)
        .fetch_optional(&mut *conn)
        .await?;
    match owner {
        Some(owner) => batch(conn, TenantId::from_uuid(owner), BatchId::from_uuid(id)).await,
        None => Ok(None),
    }
}

async fn awaited(
    conn: &mut Connection,
    tenant: Option<Uuid>,
    other: Uuid,
    shares_end: bool,
) -> Result<Option<Awaited>, Error> {
    if let Some(tenant) = tenant {
        let tenant = Some(TenantId::from_uuid(tenant));
        let one = JobSearch { tenant, ids: vec![JobId::from_uuid(other)], ..JobSearch::default() };
        if let Some(job) = search(conn, &one, Order::Newest, None, 1).await?.jobs.into_iter().next() {
            return Ok(Some(Awaited::Job { job: Box::new(job), shares_end }));
        }
    }
    Ok(batch_by_id(conn, other).await?.map(|batch| Awaited::Batch(Box::new(batch))))
}

/// Those who wait for the job, each found by its own key.
async fn waiters(conn: &mut Connection, job: JobId) -> Result<Vec<FoundJob>, Error> {
    let waiting = sqlx::query!(
        "select tenant_id, id from jobs where waiting_on = $1 and state = 'waiting' limit $2",
        job.uuid(),
        LINEAGE_MAX as i64 + 1,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut waiters = Vec::new();
    for row in waiting {
        let one = JobSearch {
            tenant: Some(TenantId::from_uuid(row.tenant_id)),
            ids: vec![JobId::from_uuid(row.id)],
            ..JobSearch::default()
        };
        waiters.extend(search(conn, &one, Order::Newest, None, 1).await?.jobs);
    }
    Ok(waiters)
}

async fn of_same_request(conn: &mut Connection, record: &JobRecord) -> Result<Vec<FoundJob>, Error> {
    if record.request_id.is_none() {
        return Ok(Vec::new());
    }
    let same = JobSearch { request_id: record.request_id.clone(), ..JobSearch::default() };
    let mut jobs = search(conn, &same, Order::Oldest, None, LINEAGE_MAX + 2).await?.jobs;
    jobs.retain(|job| job.id != record.id);
    jobs.truncate(LINEAGE_MAX + 1);
    Ok(jobs)
}

fn timeline(record: &JobRecord, state: JobState, holder: Option<Holder>) -> Vec<Event> {
    let mut events = vec![Event { at: record.created_at, what: EventKind::Stored }];
    events.extend(record.started_at.map(|at| Event { at, what: EventKind::Started }));
    for error in &record.errors {
        let (attempt, worker, message) = (error.attempt, error.worker, error.message.clone());
        let what = match error.code.as_str() {
            WORKER_LOST => EventKind::TakenBack { attempt, worker, message },
            code => EventKind::Failed { attempt, worker, code: code.to_owned(), message },
        };
        events.push(Event { at: error.at, what });
    }
    events.extend(holder.map(|holder| Event {
        at: holder.since,
        what: EventKind::Claimed { attempt: record.attempts, worker: holder.process },
    }));
    events.extend(record.finished_at.map(|at| Event { at, what: EventKind::Ended { state } }));
    // Stable: of one instant in the order above.
    events.sort_by_key(|event| event.at);
    events
}
