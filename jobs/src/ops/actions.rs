//! Bulk changes: what they would touch, and starting them; one function each whatever the door. Starting wants a connection
//! with an open transaction, to be rolled back on an error.

use std::collections::BTreeMap;

use audit::AuditError;
use db::Connection;
use kernel::{
    ids::{JobId, TenantId},
    sealing::Keyring,
};
use queue::{
    ArgIs, Count, FoundJob, JobSearch, NewJob, Order, Queue,
    bulk::{BulkAction, freeze},
    signature,
};
use serde_json::json;

use super::Bulk;
use crate::{Deed, Door};

/// Jobs a second at the most that a rate may say.
pub const RATE_MAX: f64 = 100_000.0;
/// Jobs that a preview looks at.
const LOOKED_AT_MAX: usize = 1_000;
/// Jobs that a preview shows.
const SAMPLES_MAX: usize = 10;

/// A bulk change that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkRequest {
    /// What is done.
    pub action: BulkAction,
    /// To which jobs; as a preview gave it, or as somebody wrote it.
    pub filter: JobSearch,
    /// Jobs in a second at the most; `None`: all at once.
    pub rate_per_s: Option<f64>,
}

/// A bulk change that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkStarted {
    /// The system's job that carries it out. Its progress counts the jobs it has met.
    pub job: JobId,
    /// The filter as it is carried out.
    pub filter: JobSearch,
    /// How many match now.
    pub matched: Count,
    /// The queue to wake after the commit.
    pub queue: Queue,
}

/// What a bulk change would touch.
#[derive(Debug, Clone)]
pub struct BulkPreview {
    /// The filter, narrowed and bounded in time: to be submitted as it is, so that what is done is what was seen.
    pub filter: JobSearch,
    /// How many match.
    pub matched: Count,
    /// The first of them.
    pub samples: Vec<FoundJob>,
    /// Of how many the groups are: of the oldest that match, 1,000 at the most.
    pub looked_at: u64,
    /// Whether more match than those.
    pub is_partial: bool,
    /// What those have in common.
    pub groups: BulkGroups,
}

/// How many jobs there are of each kind and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkGroups {
    /// By kind.
    pub kinds: BTreeMap<String, u64>,
    /// By queue.
    pub queues: BTreeMap<String, u64>,
    /// By owner.
    pub tenants: BTreeMap<TenantId, u64>,
    /// By error code and signature; jobs without an error are not among them.
    pub signatures: BTreeMap<(String, String), u64>,
}

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BulkActionError {
    /// A rate that is none.
    #[error("a rate is more than 0 and at most {RATE_MAX} jobs a second")]
    Rate,
    /// The search cannot be made, or the store could not be asked.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Says what a bulk change would touch, and freezes its filter. Changes nothing.
///
/// # Errors
/// [`BulkActionError::Queue`].
pub async fn preview_bulk(
    conn: &mut Connection,
    action: BulkAction,
    filter: JobSearch,
) -> Result<BulkPreview, BulkActionError> {
    let filter = freeze(conn, action, filter).await?;
    let matched = queue::count(conn, &filter).await?;
    let found = queue::search(conn, &filter, Order::Oldest, None, LOOKED_AT_MAX).await?;
    let mut groups = BulkGroups::default();
    for job in &found.jobs {
        *groups.kinds.entry(job.kind.clone()).or_default() += 1;
        *groups.queues.entry(job.queue.clone()).or_default() += 1;
        *groups.tenants.entry(job.tenant).or_default() += 1;
        if let Some(failure) = &job.failure {
            let alike = (failure.code.clone(), signature(&failure.message));
            *groups.signatures.entry(alike).or_default() += 1;
        }
    }
    let (looked_at, is_partial) = (found.jobs.len() as u64, found.next.is_some());
    let samples = found.jobs.into_iter().take(SAMPLES_MAX).collect();
    Ok(BulkPreview { filter, matched, samples, looked_at, is_partial, groups })
}

/// Stores the job that carries a bulk change out. Wake its queue after the commit.
///
/// # Errors
/// [`BulkActionError`].
pub async fn start_bulk(
    conn: &mut Connection,
    door: &Door<'_>,
    request: BulkRequest,
) -> Result<BulkStarted, BulkActionError> {
    let BulkRequest { action, filter, rate_per_s } = request;
    if rate_per_s.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        return Err(BulkActionError::Rate);
    }
    let filter = freeze(conn, action, filter).await?;
    let matched = queue::count(conn, &filter).await?;
    let bulk =
        Bulk { action, filter: filter.clone(), rate_per_s, matched: matched.count, by: door.by_in_public() };
    let job = NewJob::of(&bulk)?.request_id(door.request_id.clone());
    let queue = job.queue();
    let job = queue::enqueue(conn, job).await?.id();
    let deed = Deed {
        before: None,
        after: Some(json!({
            "filter": as_recorded(door.keyring, &filter),
            "ratePerS": rate_per_s,
            "matched": matched.count,
            "isEstimated": matched.is_estimated,
        })),
    };
    let name = match action {
        BulkAction::Redrive => "jobs.bulk_redrive",
        BulkAction::Cancel => "jobs.bulk_cancel",
    };
    door.record(conn, name, &job.to_string(), TenantId::SYSTEM, deed).await?;
    Ok(BulkStarted { job, filter, matched, queue })
}

/// A filter for the audit log: a key and the value of an argument may name a person, so only whether they are the same is
/// kept. The words of an error are ours, and what they quote is not part of a signature.
fn as_recorded(keyring: &Keyring, filter: &JobSearch) -> JobSearch {
    let digest = |value: &String| audit::digest(keyring, value);
    JobSearch {
        key: filter.key.as_ref().map(digest),
        arg: filter.arg.as_ref().map(|arg| ArgIs { path: arg.path.clone(), value: digest(&arg.value) }),
        ..filter.clone()
    }
}
