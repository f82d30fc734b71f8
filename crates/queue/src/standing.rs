//! How a live job stands: what holds it back, what is ahead of it, who could run it. Explaining and estimating read the
//! same facts.
//!
//! What holds: each look is one statement, locks nothing, and is bounded however many jobs there are: past a bound, their
//! number is estimated from a sample of the table's pages.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use db::Pool;
use kernel::ids::{JobId, TenantId};
use serde::Deserialize;
use uuid::Uuid;

use crate::Error;

/// Where a live job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Scheduled,
    Running,
    Waiting,
    Parked,
}

/// How a live job stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// When the database was asked.
    pub(crate) seen_at: DateTime<Utc>,
    pub(crate) state: State,
    pub(crate) queue: String,
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) share: TenantId,
    pub(crate) run_at: DateTime<Utc>,
    pub(crate) leased_at: Option<DateTime<Utc>>,
    pub(crate) attempt: i16,
    /// A worker had it before.
    pub(crate) was_claimed: bool,
    /// The code of the error with which its last attempt failed, if it did.
    pub(crate) failed_with: Option<String>,
    /// Of a waiting job.
    pub(crate) awaited: Option<Awaited>,
    /// It ends when and how what it waits for ends.
    pub(crate) shares_end: bool,
    /// Of a ready job: what of its share is to be claimed before it.
    pub(crate) ahead: Ahead,
}

/// What a waiting job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Another job. One that holds a unique key does the same work for others too.
    Job { tenant: TenantId, job: JobId, is_unique: bool },
    /// A batch, of which so many jobs have ended.
    Batch { batch: Uuid, ended: i64, total: i64 },
}

/// Ready jobs of a share that are to be claimed before one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ahead {
    /// In its own lane: same kind and key.
    pub(crate) in_lane: i64,
    /// In all lanes of the share, by kind.
    pub(crate) by_kind: BTreeMap<String, i64>,
    /// There were too many to count.
    pub(crate) is_estimated: bool,
}

impl Ahead {
    pub(crate) fn jobs(&self) -> i64 {
        self.by_kind.values().sum()
    }
}

/// What holds for all jobs of a queue, kind, key and share.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Surroundings {
    pub(crate) pauses: Vec<PausedBy>,
    pub(crate) limits: Vec<LimitLevel>,
    /// Of the share's jobs in all queues.
    pub(crate) share_cap: Option<Cap>,
    /// Of jobs of this kind and key.
    pub(crate) key_cap: Option<Cap>,
    /// Of the share.
    pub(crate) weight: i16,
    pub(crate) workers: Workers,
}

/// A pause that covers the kind.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PausedBy {
    /// The kind, unless the whole queue is paused.
    pub(crate) kind: Option<String>,
    pub(crate) by: String,
    pub(crate) since: DateTime<Utc>,
}

/// How full a limit of the kind is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LimitLevel {
    pub(crate) name: String,
    pub(crate) shape: LimitShape,
    pub(crate) max: i64,
    pub(crate) window_ms: Option<u64>,
    /// Drawn, held or spent, and promised to jobs that were claimed.
    pub(crate) used: i64,
    /// What one job takes: 1, or of a budget its expected cost.
    pub(crate) takes: i64,
    /// When the window or period ends.
    pub(crate) ends_at: Option<DateTime<Utc>>,
    /// The other side said stop until then.
    pub(crate) blocked_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitShape {
    Rate,
    Concurrency,
    Budget,
}

impl LimitLevel {
    /// For how many more jobs there is room.
    pub(crate) fn room(&self) -> i64 {
        if self.blocked_until.is_some() {
            return 0;
        }
        (self.max - self.used).max(0) / self.takes.max(1)
    }
}

/// A bound of ours of how many run at once.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Cap {
    pub(crate) max: i64,
    pub(crate) running: i64,
}

/// Who could run the kind.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct Workers {
    /// Processes that work the queue.
    pub(crate) serving: i64,
    /// Those of them that know the kind; older versions do not say, and are believed to.
    pub(crate) knowing: i64,
    /// Slots of the queue in all of them.
    pub(crate) slots: i64,
    /// Jobs of the queue that run.
    pub(crate) running: i64,
}

/// An awaited job may wait for another one itself.
const CHAIN_MAX: usize = 4;

/// A live job, what it waits for, what that waits for, and so on.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// The job itself first; none when it is not live.
    pub(crate) links: Vec<Link>,
    /// The last one waits for no job that is live. Not so when there were too many to follow.
    pub(crate) is_whole: bool,
}

/// A job of a chain.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tenant: TenantId,
    pub(crate) job: JobId,
    pub(crate) standing: Standing,
}

/// How a job of a tenant stands now, and whatever it waits for.
pub(crate) async fn chain(pool: &Pool, tenant: TenantId, job: JobId) -> Result<Chain, Error> {
    let mut links: Vec<Link> = Vec::new();
    let mut next = Some((tenant, job));
    while let Some((tenant, job)) = next.take_if(|_| links.len() < CHAIN_MAX) {
        // Not live: it ended this moment, and whoever waited for it goes on.
        let Some(standing) = standing(pool, tenant, job).await? else { break };
        if let Some(Awaited::Job { tenant, job, .. }) = standing.awaited {
            next = Some((tenant, job));
        }
        links.push(Link { tenant, job, standing });
    }
    Ok(Chain { links, is_whole: next.is_none() })
}

/// How a job of a tenant stands now; `None` when it is not live.
pub(crate) async fn standing(pool: &Pool, tenant: TenantId, id: JobId) -> Result<Option<Standing>, Error> {
    let row = sqlx::query!(
        r#"select is_live as "is_live!", seen_at, state, queue, kind, key, share_id, run_at, leased_at, attempt,
               was_claimed, failed_with, shares_end, awaited_tenant, awaited_job, awaited_is_unique, awaited_batch,
               batch_ended, batch_total, in_lane, ahead, is_estimated
           from job_standing($1, $2)"#,
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_one(pool)
    .await?;
    let live = (row.is_live, row.seen_at, row.queue, row.kind, row.share_id, row.run_at);
    let (true, Some(seen_at), Some(queue), Some(kind), Some(share), Some(run_at)) = live else {
        return Ok(None);
    };
    let job = |(tenant, job)| Awaited::Job {
        tenant: TenantId::from_uuid(tenant),
        job: JobId::from_uuid(job),
        is_unique: row.awaited_is_unique.unwrap_or_default(),
    };
    let batch = |batch| Awaited::Batch {
        batch,
        ended: row.batch_ended.unwrap_or_default(),
        total: row.batch_total.unwrap_or_default(),
    };
    Ok(Some(Standing {
        seen_at,
        state: match row.state.as_deref() {
            Some("ready") => State::Ready,
            Some("scheduled") => State::Scheduled,
            Some("running") => State::Running,
            Some("waiting") => State::Waiting,
            _ => State::Parked,
        },
        queue,
        kind,
        key: row.key,
        share: TenantId::from_uuid(share),
        run_at,
        leased_at: row.leased_at,
        attempt: row.attempt.unwrap_or_default(),
        was_claimed: row.was_claimed.unwrap_or_default(),
        failed_with: row.failed_with,
        awaited: row.awaited_tenant.zip(row.awaited_job).map(job).or(row.awaited_batch.map(batch)),
        shares_end: row.shares_end.unwrap_or_default(),
        ahead: Ahead {
            in_lane: row.in_lane.unwrap_or_default(),
            by_kind: row.ahead.and_then(|ahead| serde_json::from_value(ahead).ok()).unwrap_or_default(),
            is_estimated: row.is_estimated.unwrap_or_default(),
        },
    }))
}

/// What holds for all jobs of a queue, kind, key and share now.
pub(crate) async fn surroundings(
    pool: &Pool,
    queue: &str,
    kind: &str,
    key: Option<&str>,
    share: TenantId,
) -> Result<Surroundings, Error> {
    let json = sqlx::query_scalar!(
        r#"select job_surroundings($1, $2, $3, $4)::text as "json!""#,
        queue,
        kind,
        key,
        share.uuid(),
    )
    .fetch_one(pool)
    .await?;
    // The function and this type are of one crate: what does not fit is a fault of ours, and as if the answer broke off.
    serde_json::from_str(&json).map_err(|fault| Error::Database(sqlx::Error::Decode(Box::new(fault))))
}

/// The time between two instants; none if the second comes first.
pub(crate) fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}
