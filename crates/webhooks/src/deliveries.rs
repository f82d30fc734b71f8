//! Deliveries and their attempts, as rows of their tenant.
//!
//! A repeated job step finds the delivery it made before, because the id derives from the job. An attempt is
//! recorded before the delivery is ended, in the transaction that completes the step.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{DeliveryId, JobId, TenantId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::WebhookError;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Not ended: waiting for its job's end, or between attempts.
    Pending,
    /// A receiver answered 2xx.
    Delivered,
    /// Given up.
    Failed,
}

impl DeliveryStatus {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// What is needed to make a delivery.
#[derive(Debug, Clone, Copy)]
pub struct NewDelivery<'a> {
    /// Whose it is.
    pub tenant: TenantId,
    /// Derived from the job, so that repeating the step is harmless.
    pub id: DeliveryId,
    /// The job whose end it reports.
    pub job: JobId,
    /// Where it goes, already checked by `outbound`.
    pub url: &'a str,
    /// The creator it tells of, for erasure.
    pub subject: Option<Uuid>,
}

/// A delivery as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which is also the `webhook-id` of every attempt.
    pub id: DeliveryId,
    /// The job whose end it reports.
    pub job: JobId,
    /// Where it goes.
    pub url: String,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// The creator it tells of.
    pub subject: Option<Uuid>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One attempt, as its sender saw it.
#[derive(Debug, Clone, Default)]
pub struct Attempt {
    /// How long it took.
    pub duration: Duration,
    /// The status of the answer, if one came.
    pub response_status: Option<u16>,
    /// The beginning of the answer, if one came.
    pub response_body: Option<String>,
    /// Why no answer came, if none did.
    pub error: Option<String>,
}

/// One attempt as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedAttempt {
    /// Its number; the first is 1.
    pub number: i32,
    /// When it began, by the database's clock.
    pub sent_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i32,
    /// The status of the answer, if one came.
    pub response_status: Option<i16>,
    /// The beginning of the answer, if one came.
    pub response_body: Option<String>,
    /// Why no answer came, if none did.
    pub error: Option<String>,
}

/// Makes the delivery unless it exists. True if it was made now.
pub async fn create(conn: &mut Connection, new: NewDelivery<'_>) -> Result<bool, WebhookError> {
    let made = sqlx::query!(
        "insert into webhook_deliveries (tenant_id, id, job_id, url, subject_id)
         values ($1, $2, $3, $4, $5)
         on conflict (tenant_id, id) do nothing",
        new.tenant.uuid(),
        new.id.uuid(),
        new.job.uuid(),
        new.url,
        new.subject,
    )
    .execute(conn)
    .await?;
    Ok(made.rows_affected() == 1)
}

/// The tenant's delivery of that id.
pub async fn get(
    conn: &mut Connection,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<Option<Delivery>, WebhookError> {
    let row = sqlx::query_as!(
        DeliveryRow,
        r#"select id, job_id, url, status as "status: DeliveryStatus", subject_id, created_at, ended_at
           from webhook_deliveries where tenant_id = $1 and id = $2"#,
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Delivery::from))
}

/// The tenant's deliveries that report `job`, oldest first.
pub async fn list_of_job(
    conn: &mut Connection,
    tenant: TenantId,
    job: JobId,
) -> Result<Vec<Delivery>, WebhookError> {
    let rows = sqlx::query_as!(
        DeliveryRow,
        r#"select id, job_id, url, status as "status: DeliveryStatus", subject_id, created_at, ended_at
           from webhook_deliveries where tenant_id = $1 and job_id = $2
           order by created_at, id"#,
        tenant.uuid(),
        job.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Delivery::from).collect())
}

/// Notes the creator of whom the delivery tells, so that erasure finds it. It is known once the job has ended.
pub async fn set_subject(
    conn: &mut Connection,
    tenant: TenantId,
    id: DeliveryId,
    subject: Uuid,
) -> Result<(), WebhookError> {
    sqlx::query!(
        "update webhook_deliveries set subject_id = $3
         where tenant_id = $1 and id = $2 and subject_id is distinct from $3",
        tenant.uuid(),
        id.uuid(),
        subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records an attempt under the next number and answers that. Call it in a transaction that alone may write
/// about the delivery (its job's).
pub async fn record_attempt(
    conn: &mut Connection,
    tenant: TenantId,
    delivery: DeliveryId,
    attempt: &Attempt,
) -> Result<i32, WebhookError> {
    let duration_ms = i32::try_from(attempt.duration.as_millis()).unwrap_or(i32::MAX);
    let number = sqlx::query_scalar!(
        "insert into webhook_attempts
             (tenant_id, delivery_id, attempt, sent_at, duration_ms, response_status, response_body, error)
         select $1, $2, coalesce(max(attempt), 0) + 1,
                clock_timestamp() - make_interval(secs => $3::integer / 1000.0), $3, $4, $5, $6
         from webhook_attempts
         where tenant_id = $1 and delivery_id = $2
         returning attempt",
        tenant.uuid(),
        delivery.uuid(),
        duration_ms,
        attempt.response_status.and_then(|status| i16::try_from(status).ok()),
        attempt.response_body.as_deref().map(storable),
        attempt.error.as_deref().map(storable),
    )
    .fetch_one(conn)
    .await?;
    Ok(number)
}

/// The delivery's attempts in their order.
pub async fn list_attempts(
    conn: &mut Connection,
    tenant: TenantId,
    delivery: DeliveryId,
) -> Result<Vec<RecordedAttempt>, WebhookError> {
    let attempts = sqlx::query_as!(
        RecordedAttempt,
        "select attempt as number, sent_at, duration_ms, response_status, response_body, error
         from webhook_attempts where tenant_id = $1 and delivery_id = $2
         order by attempt",
        tenant.uuid(),
        delivery.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(attempts)
}

/// Ends a pending delivery as delivered. False if it had ended already or does not exist.
pub async fn mark_delivered(
    conn: &mut Connection,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<bool, WebhookError> {
    end(conn, tenant, id, DeliveryStatus::Delivered).await
}

/// Ends a pending delivery as given up. False if it had ended already or does not exist.
pub async fn mark_failed(
    conn: &mut Connection,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<bool, WebhookError> {
    end(conn, tenant, id, DeliveryStatus::Failed).await
}

/// Makes a delivery that was given up pending again, so that its job, tried again, sends it. False if it had not been
/// given up.
pub async fn reopen(conn: &mut Connection, tenant: TenantId, id: DeliveryId) -> Result<bool, WebhookError> {
    let reopened = sqlx::query!(
        "update webhook_deliveries set status = 'pending', ended_at = null
         where tenant_id = $1 and id = $2 and status = 'failed'",
        tenant.uuid(),
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(reopened.rows_affected() == 1)
}

/// Deletes at most `rows_max` deliveries, with their attempts, that were made longer ago than `retention`, and
/// says how many; repeat until it is fewer than `rows_max`.
///
/// Pending ones go too (their job died without a word), so `retention` must be longer than the schedule can
/// take: ten days if every answer asks for the longest wait.
pub async fn prune(conn: &mut Connection, retention: Duration, rows_max: i64) -> Result<u64, WebhookError> {
    let deleted = sqlx::query!(
        "delete from webhook_deliveries d
         using (
             select tenant_id, id from webhook_deliveries
             where created_at < now() - make_interval(secs => $1)
             order by created_at
             limit $2
             for update skip locked
         ) old
         where d.tenant_id = old.tenant_id and d.id = old.id",
        retention.as_secs_f64(),
        rows_max,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

struct DeliveryRow {
    id: Uuid,
    job_id: Uuid,
    url: String,
    status: DeliveryStatus,
    subject_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: DeliveryId::from_uuid(row.id),
            job: JobId::from_uuid(row.job_id),
            url: row.url,
            status: row.status,
            subject: row.subject_id,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

async fn end(
    conn: &mut Connection,
    tenant: TenantId,
    id: DeliveryId,
    status: DeliveryStatus,
) -> Result<bool, WebhookError> {
    let ended = sqlx::query!(
        "update webhook_deliveries set status = $3, ended_at = now()
         where tenant_id = $1 and id = $2 and status = 'pending'",
        tenant.uuid(),
        id.uuid(),
        status as DeliveryStatus,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// PostgreSQL's text holds every character but NUL, which a receiver may well send.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
