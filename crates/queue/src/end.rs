//! The one way a job ends, whatever ends it: a worker, a cancel, or the loss of too many workers.
//!
//! Ending is one transaction: the job moves to history, its unique key is freed, jobs that share its end (and
//! wait for it) end with it, jobs that wait to run after it become ready. So nobody waits for a job that is
//! gone, and nothing runs before what it waits for.

use kernel::ids::{JobId, TenantId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Error, Failure, JobError, LeaseKey, Queue};

/// A job's final state.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// It did its work.
    Completed(Option<Value>),
    /// It will not do its work.
    Failed(Failure),
    /// Somebody called it off.
    Cancelled(Failure),
}

/// One job to be ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) tenant: TenantId,
    pub(crate) job: JobId,
    /// The claim that ends it; `None` for a job that no worker holds.
    pub(crate) token: Option<i32>,
    pub(crate) end: End,
    /// The line for the history of errors.
    pub(crate) entry: Option<Value>,
    /// The creator whom the result describes, now that it is known.
    pub(crate) subject: Option<Uuid>,
}

impl Ending {
    pub(crate) fn by(lease: LeaseKey, end: End) -> Self {
        Self {
            tenant: lease.tenant,
            job: lease.job,
            token: Some(lease.token),
            end,
            entry: None,
            subject: None,
        }
    }
}

/// What ending did.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The jobs that ended, without those that shared their end.
    pub(crate) jobs: Vec<JobId>,
    /// Queues in which waiting jobs became ready.
    pub(crate) released: Vec<Queue>,
}

/// Ends jobs in the caller's transaction. Jobs whose lease was lost, or that are gone, are left out.
pub(crate) async fn end_jobs(conn: &mut PgConnection, endings: &[Ending]) -> Result<Ended, Error> {
    if endings.is_empty() {
        return Ok(Ended::default());
    }
    let columns = Columns::of(endings);
    // Two locking statements before the one that acts: a waiter that is registering itself holds a lock on the
    // job it will wait for, so after these the acting statement's snapshot sees it.
    sqlx::query!(
        "select from jobs j
         join unnest($1::uuid[], $2::uuid[]) as i (tenant_id, id) using (tenant_id, id)
         order by j.tenant_id, j.id
         for update of j",
        &columns.tenants,
        &columns.ids,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "select from jobs
         where waiting_on = any($1) and state = 'waiting' and shares_end
         order by tenant_id, id
         for update",
        &columns.ids,
    )
    .execute(&mut *conn)
    .await?;
    let row = sqlx::query_file!(
        "src/end.sql",
        &columns.tenants,
        &columns.ids,
        &columns.tokens as &[Option<i32>],
        &columns.ends as &[&str],
        &columns.results as &[Option<Value>],
        &columns.failures as &[Option<Value>],
        &columns.entries as &[Option<Value>],
        &columns.subjects as &[Option<Uuid>],
    )
    .fetch_one(conn)
    .await?;
    Ok(Ended {
        jobs: row.ended.into_iter().map(JobId::from_uuid).collect(),
        released: row.released.iter().filter_map(|queue| queue.parse().ok()).collect(),
    })
}

/// Ends jobs that nobody waits for, in one autocommitted statement: the fast path of acknowledgement.
/// Awaited jobs are left out, as are those whose lease was lost.
pub(crate) async fn end_unawaited(conn: &mut PgConnection, endings: &[Ending]) -> Result<Vec<JobId>, Error> {
    let columns = Columns::of(endings);
    let ended = sqlx::query_file_scalar!(
        "src/end_unawaited.sql",
        &columns.tenants,
        &columns.ids,
        &columns.tokens as &[Option<i32>],
        &columns.ends as &[&str],
        &columns.results as &[Option<Value>],
        &columns.failures as &[Option<Value>],
        &columns.entries as &[Option<Value>],
        &columns.subjects as &[Option<Uuid>],
    )
    .fetch_all(conn)
    .await?;
    Ok(ended.into_iter().map(JobId::from_uuid).collect())
}

/// The endings turned on their side, as the statements take them.
struct Columns {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    tokens: Vec<Option<i32>>,
    ends: Vec<&'static str>,
    results: Vec<Option<Value>>,
    failures: Vec<Option<Value>>,
    entries: Vec<Option<Value>>,
    subjects: Vec<Option<Uuid>>,
}

impl Columns {
    fn of(endings: &[Ending]) -> Self {
        let mut columns = Self {
            tenants: endings.iter().map(|ending| ending.tenant.uuid()).collect(),
            ids: endings.iter().map(|ending| ending.job.uuid()).collect(),
            tokens: endings.iter().map(|ending| ending.token).collect(),
            ends: Vec::with_capacity(endings.len()),
            results: Vec::with_capacity(endings.len()),
            failures: Vec::with_capacity(endings.len()),
            entries: endings.iter().map(|ending| ending.entry.clone()).collect(),
            subjects: endings.iter().map(|ending| ending.subject).collect(),
        };
        for ending in endings {
            let (end, result, failure) = match &ending.end {
                End::Completed(result) => ("completed", result.clone(), None),
                End::Failed(failure) => ("failed", None, Some(json!(failure))),
                End::Cancelled(failure) => ("cancelled", None, Some(json!(failure))),
            };
            columns.ends.push(end);
            columns.results.push(result);
            columns.failures.push(failure);
        }
        columns
    }
}

/// One line of a job's history of errors: which attempt, which worker, what and why. The database adds when.
pub(crate) fn history_entry(attempt: i16, process: Uuid, error: &JobError) -> Value {
    let failure = error.failure();
    json!({
        "attempt": attempt,
        "worker": process,
        "code": failure.code,
        "message": failure.message,
        "chain": error.chain(),
    })
}
