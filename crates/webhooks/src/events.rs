//! The outbox of partners' events: rows written in the transaction in which something happened.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{EventId, TenantId};
use serde_json::Value;

use crate::WebhookError;

/// What partners can be told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// 80% of a month's quota is used.
    QuotaWarning,
    /// All of a month's quota is used.
    QuotaExhausted,
    /// The subscription ends within seven days.
    SubscriptionExpiring,
    /// It has ended and works on for seven days.
    SubscriptionGracePeriod,
    /// It works no more.
    SubscriptionExpired,
    /// It was changed or renewed.
    SubscriptionUpdated,
    /// An admin writes.
    PartnerMessage,
}

impl EventType {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaWarning => "quota.warning",
            Self::QuotaExhausted => "quota.exhausted",
            Self::SubscriptionExpiring => "subscription.expiring",
            Self::SubscriptionGracePeriod => "subscription.grace_period",
            Self::SubscriptionExpired => "subscription.expired",
            Self::SubscriptionUpdated => "subscription.updated",
            Self::PartnerMessage => "partner.message",
        }
    }
}

/// An event to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Whom.
    pub tenant: TenantId,
    /// What kind.
    pub event_type: EventType,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// What it is about: an object.
    pub data: Value,
}

/// Stores an event in the caller's transaction.
pub async fn append(conn: &mut Connection, event: NewEvent) -> Result<EventId, WebhookError> {
    let id = EventId::new();
    sqlx::query!(
        "insert into webhook_events (tenant_id, id, event_type, occurred_at, data) values ($1, $2, $3, $4, $5)",
        event.tenant.uuid(),
        id.uuid(),
        event.event_type.as_str(),
        event.occurred_at,
        event.data,
    )
    .execute(conn)
    .await?;
    Ok(id)
}
