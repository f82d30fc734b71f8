//! The one way a job ends, whatever ends it: a worker, a cancel, a deadline, or the loss of too many workers.
//!
//! Ending is one transaction: the job moves to history, its unique key is freed, jobs that share its end (and
//! wait for it) end with it, jobs that wait to run after it become ready, its batch counts it. So nobody waits for
//! a job that is gone, and nothing runs before what it waits for. The SQL function `job_end` does all of it.

use db::Connection;
use kernel::ids::{JobId, TenantId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Error, Failure, JobError, LeaseKey, Queue, RowId, turn::queues};

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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) job: JobId,
    /// Where its row stood, if that is known.
    pub(crate) row: Option<RowId>,
    /// The claim that ends it; `None` for a job that no worker holds.
    pub(crate) token: Option<i32>,
    pub(crate) end: &'a End,
    /// The line for the history of errors.
    pub(crate) entry: Option<&'a Value>,
    /// The creator whom the result describes, now that it is known.
    pub(crate) subject: Option<Uuid>,
}

impl<'a> Ending<'a> {
    /// Of a job that no worker holds.
    pub(crate) fn of_unheld(tenant: TenantId, job: JobId, end: &'a End) -> Self {
        Self { tenant, job, row: None, token: None, end, entry: None, subject: None }
    }

    pub(crate) fn by(lease: LeaseKey, end: &'a End) -> Self {
        Self {
            tenant: lease.tenant,
            job: lease.job,
            row: None,
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
pub(crate) async fn end_jobs(conn: &mut Connection, endings: &[Ending<'_>]) -> Result<Ended, Error> {
    if endings.is_empty() {
        return Ok(Ended::default());
    }
    let columns = Endings::of(endings);
    let row = sqlx::query!(
        r#"select ended as "ended!", released as "released!"
           from job_end(
               $1::uuid[], $2::uuid[], null, $3::integer[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[], $8::uuid[]
           )"#,
        &columns.tenants,
        &columns.ids,
        &columns.tokens as &[Option<i32>],
        &columns.ends as &[&str],
        &columns.results as &[Option<String>],
        &columns.failures as &[Option<Value>],
        &columns.entries as &[Option<&Value>],
        &columns.subjects as &[Option<Uuid>],
    )
    .fetch_one(conn)
    .await?;
    Ok(Ended { jobs: row.ended.into_iter().map(JobId::from_uuid).collect(), released: queues(&row.released) })
}

/// The endings turned on their side, as the statements take them.
pub(crate) struct Endings<'a> {
    pub(crate) tenants: Vec<Uuid>,
    pub(crate) ids: Vec<Uuid>,
    pub(crate) rows: Vec<Option<RowId>>,
    pub(crate) tokens: Vec<Option<i32>>,
    pub(crate) ends: Vec<&'static str>,
    pub(crate) results: Vec<Option<String>>,
    pub(crate) failures: Vec<Option<Value>>,
    pub(crate) entries: Vec<Option<&'a Value>>,
    pub(crate) subjects: Vec<Option<Uuid>>,
}

impl<'a> Endings<'a> {
    pub(crate) fn of(endings: &[Ending<'a>]) -> Self {
        let mut columns = Self {
            tenants: endings.iter().map(|ending| ending.tenant.uuid()).collect(),
            ids: endings.iter().map(|ending| ending.job.uuid()).collect(),
            rows: endings.iter().map(|ending| ending.row).collect(),
            tokens: endings.iter().map(|ending| ending.token).collect(),
            ends: Vec::with_capacity(endings.len()),
            results: Vec::with_capacity(endings.len()),
            failures: Vec::with_capacity(endings.len()),
            entries: endings.iter().map(|ending| ending.entry).collect(),
            subjects: endings.iter().map(|ending| ending.subject).collect(),
        };
        for ending in endings {
            let (end, result, failure) = match ending.end {
                End::Completed(result) => ("completed", result.as_ref().map(Value::to_string), None),
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
