//! `PATCH /api/v1/admin/partners/{id}/subscription`: what a partner has bought, until when, and how much of it.

use ::partners::directory::QUOTA_MAX;
use ::partners::{Partner, SubscriptionChange};
use axum::extract::State;
use chrono::{DateTime, Utc};
use jobs::partners::{self as actions, SubscriptionOrder};
use queue::Queue;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::PathPartner;
use super::partners::{PartnerDetail, tier};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, flag, instant as read_instant, text, whole_in};
use crate::extract::person::{Admin, door};
use crate::routes::body::Data;
use crate::routes::instant;
use crate::state::ApiState;

/// Longest reason.
const REASON_CHARS_MAX: usize = 500;

/// A subscription as admins see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionDetail {
    /// `free`, `basic`, `premium` or `enterprise`.
    #[schema(example = "premium")]
    tier: &'static str,
    /// `active`, `grace_period`, `expired` or `suspended`.
    #[schema(example = "active")]
    status: &'static str,
    #[schema(format = DateTime)]
    start_date: String,
    /// Null: never.
    #[schema(format = DateTime)]
    end_date: Option<String>,
    auto_renew: bool,
    /// Null without an end.
    days_remaining: Option<u32>,
    /// Influencers a month instead of what the tier has; null: as the tier says.
    monthly_quota: Option<u32>,
}

impl SubscriptionDetail {
    pub(super) fn of(partner: &Partner, at: DateTime<Utc>) -> Self {
        let subscription = &partner.subscription;
        Self {
            tier: subscription.tier.as_str(),
            status: subscription.status.as_str(),
            start_date: instant(subscription.starts_at),
            end_date: subscription.ends_at.map(instant),
            auto_renew: subscription.auto_renew,
            days_remaining: subscription.days_left(at),
            monthly_quota: partner.monthly_quota,
        }
    }
}

/// What is to be different. What is not named stays.
#[derive(Debug, ToSchema)]
#[schema(as = SubscriptionChange, rename_all = "camelCase", example = json!({
    "tier": "enterprise", "endDate": "2027-12-31T17:00:00Z"
}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct SubscriptionChangeSchema {
    /// Another tier brings its own quota.
    #[schema(required = false, nullable = false, pattern = "^(free|basic|premium|enterprise)$")]
    tier: String,
    /// `suspended`, or `active` again; the rest follows the calendar.
    #[schema(required = false, nullable = false, pattern = "^(active|suspended)$")]
    status: String,
    #[schema(required = false, nullable = false)]
    start_date: DateTime<Utc>,
    /// Null: never.
    #[schema(required = false)]
    end_date: Option<DateTime<Utc>>,
    #[schema(required = false, nullable = false)]
    auto_renew: bool,
    /// Influencers a month instead of what the tier has; null: as the tier says. Needs `reason`.
    #[schema(required = false, minimum = 0, maximum = 1000000)]
    monthly_quota: Option<u32>,
    /// What counts as used of the present month. Needs `reason`.
    #[schema(required = false, nullable = false, minimum = 0, maximum = 1000000)]
    used_this_month: u32,
    /// Why, for the subscription's history. Required to change the quota by hand.
    #[schema(required = false, nullable = false, min_length = 1, max_length = 500)]
    reason: String,
}

struct Changes {
    subscription: SubscriptionChange,
    used: Option<u32>,
    reason: Option<String>,
}

impl FromFields for Changes {
    fn read(fields: &mut Fields) -> Option<Self> {
        let subscription = SubscriptionChange {
            tier: fields.given("tier", tier),
            is_suspended: fields.given("status", is_suspended),
            starts_at: fields.given("startDate", read_instant),
            ends_at: fields.given("endDate", |value| match value {
                Value::Null => Ok(None),
                value => read_instant(value).map(Some),
            }),
            auto_renew: fields.given("autoRenew", flag),
            monthly_quota: fields.given("monthlyQuota", |value| match value {
                Value::Null => Ok(None),
                value => whole_in(value, 0..=QUOTA_MAX).map(Some),
            }),
            share_weight: None,
        };
        let used = fields.given("usedThisMonth", |value| whole_in(value, 0..=QUOTA_MAX));
        let reason = fields.given("reason", reason);
        if (subscription.monthly_quota.is_some() || used.is_some()) && reason.is_none() {
            fields.fault("reason", "REQUIRED", "is required to change the quota by hand");
        }
        Some(Self { subscription, used, reason })
    }
}

fn is_suspended(value: &Value) -> Result<bool, Problem> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "suspended" => Ok(true),
        "active" => Ok(false),
        _ => Err(Problem::invalid("must be `suspended` or `active`: the rest follows the calendar")),
    }
}

fn reason(value: &Value) -> Result<String, Problem> {
    let reason = text(value)?.trim();
    let fits = (1..=REASON_CHARS_MAX).contains(&reason.chars().count());
    let message = format!("must have 1 to {REASON_CHARS_MAX} characters");
    if fits { Ok(reason.to_owned()) } else { Err(Problem::invalid(message)) }
}

/// Change a subscription
///
/// A new limit holds at once, and what is used stays used. Jobs that are queued already are worked by the new share. The
/// partner is told, by mail and by event.
#[utoipa::path(
    patch, path = "/api/v1/admin/partners/{id}/subscription", tag = "Partners",
    operation_id = "changeSubscription",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the partner's code or `ptn_…` id")),
    request_body = SubscriptionChangeSchema,
    responses(
        (status = 200, description = "the partner as it is now", body = Data<PartnerDetail>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody)))]
pub async fn change(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<axum::Json<Data<PartnerDetail>>, ApiError> {
    let Changes { subscription, used, reason } = body.fields.finish(Changes::read)?;
    let door = door(&state, &me);
    let mut tx = db::begin(state.pool()).await?;
    let partner = path.find(&mut tx).await?;
    let order = SubscriptionOrder { change: subscription, used, reason, zone: state.quota_zone() };
    let partner = actions::change_subscription(&mut tx, &door, partner.id, order).await?;
    let partner = PartnerDetail::of(&mut tx, &state, partner).await?;
    tx.commit().await?;
    state.waker().wake(Queue::Maintenance);
    Ok(Data::of(partner))
}
