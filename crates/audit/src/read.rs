//! Reading the log, a page at a time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::Connection;
use kernel::ids::{AuditId, TenantId};
use serde_json::Value;
use uuid::{ContextV7, Timestamp, Uuid};

use crate::{ActorKind, AuditError};

/// Most entries of a page.
pub const LIST_MAX: usize = 1_000;
/// How far apart the clocks of our processes may be: ids hold their time, entries the database's.
const SKEW_MAX: Duration = Duration::from_secs(3_600);

/// Which entries. What is not given matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The kind of who acted.
    pub actor_kind: Option<ActorKind>,
    /// Who acted, by name within the kind.
    pub actor: Option<String>,
    /// What the action begins with: `queues.`, or all of it.
    pub action: Option<String>,
    /// What it was done to.
    pub target: Option<String>,
    /// Whose that is.
    pub tenant: Option<TenantId>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// At or after this time.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub before: Option<DateTime<Utc>>,
}

/// Which come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    Newest,
    /// The oldest.
    Oldest,
}

/// The last entry of a page: the next page begins behind it.
pub type Cursor = AuditId;

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its id.
    pub id: AuditId,
    /// When the change began, by the database's clock.
    pub at: DateTime<Utc>,
    /// The kind of who acted: user, partner, cli, system.
    pub actor_kind: String,
    /// Who acted.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// Whose that is.
    pub tenant: TenantId,
    /// What was.
    pub before: Option<Value>,
    /// What is.
    pub after: Option<Value>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// Its place in the chain, once it is sealed.
    pub seq: Option<i64>,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// They.
    pub entries: Vec<Recorded>,
    /// Where the next page begins; none: there is none.
    pub next: Option<Cursor>,
}

/// Entries in the order of their ids, which is that of their making to within the clocks of processes: `limit` of them,
/// and [`LIST_MAX`] at the most.
///
/// # Errors
/// [`AuditError::Database`].
pub async fn list(
    conn: &mut Connection,
    filter: &Filter,
    order: Order,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, AuditError> {
    let limit = limit.clamp(1, LIST_MAX);
    let first = filter.from.map_or(Uuid::nil(), |from| id_at(from - skew()));
    let last = filter.before.map_or(Uuid::max(), |before| id_at(before + skew()));
    let (first, last) = match (order, after) {
        (Order::Newest, Some(after)) => (first, last.min(after.uuid())),
        (Order::Oldest, Some(after)) => (first.max(after.uuid()), last),
        (_, None) => (first, last),
    };
    // Which index serves depends on what is asked for: each question has its own plan.
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', true)")
        .fetch_one(&mut *conn)
        .await?;
    let prefix = filter.action.as_deref().map(|action| format!("{}%", escaped(action)));
    let mut rows = match order {
        Order::Newest => newest(conn, filter, prefix, (first, last), limit + 1).await?,
        Order::Oldest => oldest(conn, filter, prefix, (first, last), limit + 1).await?,
    };
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let entries: Vec<Recorded> = rows.into_iter().map(Recorded::from).collect();
    let next = entries.last().filter(|_| has_more).map(|entry| entry.id);
    Ok(Page { entries, next })
}

struct Row {
    id: Uuid,
    at: DateTime<Utc>,
    actor_kind: String,
    actor: String,
    action: String,
    target: String,
    tenant_id: Uuid,
    before: Option<Value>,
    after: Option<Value>,
    request_id: Option<String>,
    seq: Option<i64>,
}

async fn newest(
    conn: &mut Connection,
    filter: &Filter,
    prefix: Option<String>,
    (first, last): (Uuid, Uuid),
    limit: usize,
) -> Result<Vec<Row>, AuditError> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/read/newest.sql",
        filter.actor_kind.map(ActorKind::as_str),
        filter.actor,
        prefix,
        filter.target,
        filter.tenant.map(TenantId::uuid),
        filter.request_id,
        filter.from,
        filter.before,
        first,
        last,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

async fn oldest(
    conn: &mut Connection,
    filter: &Filter,
    prefix: Option<String>,
    (first, last): (Uuid, Uuid),
    limit: usize,
) -> Result<Vec<Row>, AuditError> {
    let rows = sqlx::query_file_as!(
        Row,
        "src/read/oldest.sql",
        filter.actor_kind.map(ActorKind::as_str),
        filter.actor,
        prefix,
        filter.target,
        filter.tenant.map(TenantId::uuid),
        filter.request_id,
        filter.from,
        filter.before,
        first,
        last,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

impl From<Row> for Recorded {
    fn from(row: Row) -> Self {
        Self {
            id: AuditId::from_uuid(row.id),
            at: row.at,
            actor_kind: row.actor_kind,
            actor: row.actor,
            action: row.action,
            target: row.target,
            tenant: TenantId::from_uuid(row.tenant_id),
            before: row.before,
            after: row.after,
            request_id: row.request_id,
            seq: row.seq,
        }
    }
}

fn skew() -> TimeDelta {
    TimeDelta::from_std(SKEW_MAX).unwrap_or_default()
}

/// About the id that an entry of this time has.
fn id_at(at: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(ContextV7::new(), seconds, at.timestamp_subsec_nanos()))
}

/// A text that matches itself alone.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
