//! Reading jobs, live and finished, as one thing.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::{
    ids::{JobId, TenantId},
    trace::TraceParent,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Failure, Progress};

/// A job's state as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// No worker has begun it.
    Queued,
    /// Begun: running, between attempts, or waiting for what it needs.
    Processing,
    /// Done, with its result.
    Completed,
    /// Given up, with its error.
    Failed,
    /// Called off.
    Cancelled,
}

impl JobStatus {
    /// Every status, in the order of a job's life.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word on the wire and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
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

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status that no job has.
#[derive(Debug, thiserror::Error)]
#[error("no job status is called {0:?}; there are: queued, processing, completed, failed, cancelled")]
pub struct UnknownStatus(String);

impl FromStr for JobStatus {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == name).ok_or_else(|| UnknownStatus(name.into()))
    }
}

/// A job, live or finished.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Who owns it.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Attempts begun.
    pub attempts: i16,
    /// Attempts allowed.
    pub attempts_max: i16,
    /// How often it was taken back from a dead worker.
    pub taken_back: i16,
    /// Its arguments; marked fields are blotted out.
    pub args: Value,
    /// What its handler said last of how far it is, while it is live.
    pub progress: Option<Progress>,
    /// The W3C trace context of the request that asked for it.
    pub traceparent: Option<String>,
    /// What it gave, when completed.
    pub result: Option<Value>,
    /// Why it failed or was cancelled.
    pub failure: Option<Failure>,
    /// Every attempt that failed, the oldest first.
    pub errors: Vec<AttemptError>,
    /// The creator whom it is about, where known.
    pub subject: Option<Uuid>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the next attempt may begin, while it is live.
    pub run_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl JobRecord {
    /// The trace that it is in: its asker's, else one that follows from it, as for its attempts.
    #[must_use]
    pub fn trace(&self) -> TraceParent {
        trace_of(self.id, self.traceparent.as_deref())
    }
}

/// What is stored is read as carefully as what comes from outside: another version may have stored it.
pub(crate) fn trace_of(job: JobId, stored: Option<&str>) -> TraceParent {
    stored.and_then(TraceParent::parse).unwrap_or_else(|| TraceParent::of(job.uuid()))
}

/// One failed attempt, or one worker lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptError {
    /// The attempt's number, where one is known.
    #[serde(default)]
    pub attempt: Option<i16>,
    /// When it failed, by the database's clock.
    pub at: DateTime<Utc>,
    /// The process that ran it.
    #[serde(default)]
    pub worker: Option<Uuid>,
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// The causes, outermost first; not for partners.
    #[serde(default)]
    pub chain: Vec<String>,
}

/// Which jobs to list; empty fields exclude nothing.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Of this tenant; `None` is every tenant, for operators.
    pub tenant: Option<TenantId>,
    /// Of these kinds; empty is all.
    pub kinds: Vec<String>,
    /// In this state.
    pub status: Option<JobStatus>,
    /// Stored at or after.
    pub created_from: Option<DateTime<Utc>>,
    /// Stored before.
    pub created_before: Option<DateTime<Utc>>,
    /// Older than this job: the page after the one that ended with it.
    pub older_than: Option<JobId>,
}

/// One job of a tenant; another tenant's job is not there.
///
/// # Errors
/// [`Error::Database`].
pub async fn get(conn: &mut Connection, tenant: TenantId, id: JobId) -> Result<Option<JobRecord>, Error> {
    find(conn, &[tenant], id).await
}

/// One job of any of the given tenants: for operators, who have an id and not its owner.
///
/// # Errors
/// [`Error::Database`].
pub async fn find(
    conn: &mut Connection,
    tenants: &[TenantId],
    id: JobId,
) -> Result<Option<JobRecord>, Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let row = sqlx::query_file_as!(Row, "src/get.sql", id.uuid(), &tenants).fetch_optional(conn).await?;
    Ok(row.map(Row::into_record))
}

/// The jobs that were stored for a request, in the order in which they were, whoever owns them: what it asked for and what
/// that led to. At most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub async fn of_request(
    conn: &mut Connection,
    request_id: &str,
    limit: i64,
) -> Result<Vec<JobRecord>, Error> {
    let rows = sqlx::query_file_as!(Row, "src/of_request.sql", request_id, limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::into_record).collect())
}

/// Jobs, the newest first, at most `limit`.
///
/// # Errors
/// [`Error::Database`].
pub async fn list(conn: &mut Connection, filter: &ListFilter, limit: i64) -> Result<Vec<JobRecord>, Error> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/list.sql",
        filter.tenant.map(TenantId::uuid),
        &filter.kinds,
        filter.status.map(JobStatus::as_str),
        filter.created_from,
        filter.created_before,
        filter.older_than.map(JobId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Row::into_record).collect())
}

struct Row {
    tenant_id: Uuid,
    id: Uuid,
    queue: String,
    kind: String,
    status: String,
    attempt: i16,
    attempts_max: i16,
    taken_back: i16,
    subject_id: Option<Uuid>,
    request_id: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    run_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    args: String,
    redact: Option<Vec<String>>,
    progress: Option<Value>,
    traceparent: Option<String>,
    result: Option<String>,
    error: Option<Value>,
    errors: Option<Value>,
}

impl Row {
    fn into_record(self) -> JobRecord {
        JobRecord {
            id: JobId::from_uuid(self.id),
            tenant: TenantId::from_uuid(self.tenant_id),
            kind: self.kind,
            queue: self.queue,
            status: self.status.parse().unwrap_or(JobStatus::Queued),
            attempts: self.attempt,
            attempts_max: self.attempts_max,
            taken_back: self.taken_back,
            args: shown(&self.args, self.redact.as_deref().unwrap_or_default()),
            progress: self.progress.and_then(|progress| serde_json::from_value(progress).ok()),
            traceparent: self.traceparent,
            // Deeper than serde reads, perhaps: then its text, rather than nothing.
            result: self.result.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
            failure: self.error.and_then(|error| serde_json::from_value(error).ok()),
            errors: self.errors.and_then(|errors| serde_json::from_value(errors).ok()).unwrap_or_default(),
            subject: self.subject_id,
            request_id: self.request_id,
            created_at: self.created_at,
            started_at: self.started_at,
            run_at: self.run_at,
            finished_at: self.finished_at,
        }
    }
}

/// Arguments as they are shown: fields that the kind marked are blotted out.
fn shown(args: &str, redact: &[String]) -> Value {
    let mut args: Value = serde_json::from_str(args).unwrap_or_default();
    if let Some(fields) = args.as_object_mut() {
        for name in redact {
            if let Some(field) = fields.get_mut(name) {
                *field = "[redacted]".into();
            }
        }
    }
    args
}
