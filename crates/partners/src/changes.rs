//! How subscriptions came to be as they are: every change of one, or of its quota, by people and by the calendar.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::TenantId;
use serde_json::Value;

use crate::error::PartnerError;

/// A change that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChange<'a> {
    /// By whom, in the words of the audit log.
    pub by: String,
    /// What was done, in the words of the audit log.
    pub action: &'a str,
    /// What was.
    pub before: Value,
    /// What is.
    pub after: Value,
    /// Why, in the words of whoever did it.
    pub reason: Option<&'a str>,
}

/// Notes a change in the transaction in which it is made.
pub async fn note(
    conn: &mut Connection,
    tenant: TenantId,
    change: NewChange<'_>,
) -> Result<(), PartnerError> {
    sqlx::query!(
        "
        insert into partner_subscription_changes (tenant_id, changed_by, action, before, after, reason)
        values ($1, $2, $3, $4, $5, $6)
        ",
        tenant.uuid(),
        change.by,
        change.action,
        change.before,
        change.after,
        change.reason,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A change as it was noted.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Grows with time; unique for a partner.
    pub id: i64,
    /// When.
    pub changed_at: DateTime<Utc>,
    /// By whom.
    pub changed_by: String,
    /// What was done.
    pub action: String,
    /// What was.
    pub before: Value,
    /// What is.
    pub after: Value,
    /// Why.
    pub reason: Option<String>,
}

/// Changes of a partner's subscription, the newest first, at most `rows_max`, older than `older_than` if it is given.
pub async fn list(
    conn: &mut Connection,
    tenant: TenantId,
    older_than: Option<i64>,
    rows_max: u32,
) -> Result<Vec<Change>, PartnerError> {
    let rows = sqlx::query_as!(
        Change,
        "
        select id, changed_at, changed_by, action, before, after, reason from partner_subscription_changes
        where tenant_id = $1 and ($2::bigint is null or id < $2)
        order by id desc
        limit $3
        ",
        tenant.uuid(),
        older_than,
        i64::from(rows_max),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
