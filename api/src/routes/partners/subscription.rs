//! `GET /api/v1/partners/subscription`: what a partner has bought, until when, and what there is to know (S0 FR-005).

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use partners::quota::{calendar_now, read};
use partners::subscription::GRACE;
use partners::{Features, Quota, Subscription, SubscriptionStatus, SubscriptionTier, directory};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::partner::Partner;
use crate::extract::query::Query;
use crate::state::ApiState;

/// A partner's subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub struct SubscriptionView {
    #[schema(value_type = String, pattern = "^(free|basic|premium|enterprise)$")]
    tier: SubscriptionTier,
    /// `grace_period`: it has ended and works on for seven days.
    #[schema(value_type = String, pattern = "^(active|grace_period|expired|suspended)$")]
    status: SubscriptionStatus,
    /// When it began.
    start_date: DateTime<Utc>,
    /// When it ends; null: never.
    end_date: Option<DateTime<Utc>>,
    /// Whether it then goes on for another period of the same length.
    auto_renew: bool,
    /// Days until its end, a begun one counted; 0 after it, null without one.
    days_remaining: Option<u32>,
}

/// What the tier allows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Features)]
pub struct FeaturesView {
    pool_search: bool,
    pool_request: bool,
    profile_enrich: bool,
    batch_refresh: bool,
    /// Registered endpoints; the callback of one job needs no feature.
    webhooks: bool,
    priority_support: bool,
    custom_integration: bool,
}

impl From<Features> for FeaturesView {
    fn from(features: Features) -> Self {
        let Features {
            pool_search,
            pool_request,
            profile_enrich,
            batch_refresh,
            webhooks,
            priority_support,
            custom_integration,
        } = features;
        Self {
            pool_search,
            pool_request,
            profile_enrich,
            batch_refresh,
            webhooks,
            priority_support,
            custom_integration,
        }
    }
}

/// Something that the partner should know.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// For programs.
    #[schema(pattern = "^(SUBSCRIPTION_EXPIRING|SUBSCRIPTION_GRACE_PERIOD|QUOTA_WARNING|QUOTA_EXHAUSTED)$")]
    code: &'static str,
    /// For people.
    message: String,
    /// When it comes about, or came.
    at: DateTime<Utc>,
}

/// A subscription with what it allows and what there is to know.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "partnerId": "techcombank",
    "subscription": {
        "tier": "premium", "status": "active", "startDate": "2026-01-01T00:00:00Z",
        "endDate": "2026-12-31T23:59:59Z", "autoRenew": true, "daysRemaining": 335
    },
    "features": {
        "poolSearch": true, "poolRequest": true, "profileEnrich": true, "batchRefresh": true, "webhooks": true,
        "prioritySupport": true, "customIntegration": false
    },
    "alerts": []
}))]
pub struct SubscriptionStanding {
    /// The partner's code.
    partner_id: String,
    subscription: SubscriptionView,
    features: FeaturesView,
    /// Empty when there is nothing to know.
    alerts: Vec<Alert>,
}

/// Look at the subscription
///
/// Stays readable after the subscription has expired.
#[utoipa::path(
    get, path = "/api/v1/partners/subscription", tag = "Account", operation_id = "getSubscription",
    security(("partnerId" = [], "apiKey" = [])),
    responses(
        (status = 200, description = "the subscription as it stands", body = SubscriptionStanding),
        (status = 400, description = "a parameter was given; there are none", body = crate::error::ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Partner(caller): Partner,
    Query(()): Query<()>,
) -> Result<Json<SubscriptionStanding>, ApiError> {
    let mut conn = state.pool().acquire().await?;
    let at = calendar_now(&mut conn).await?;
    // Read anew: credentials may be remembered for some seconds.
    let partner = directory::find_by_code_or_id(&mut conn, &caller.code).await?;
    let subscription = partner.ok_or(ApiError::NotFound("partner"))?.subscription;
    let quota = read(&mut conn, caller.tenant, at, state.quota_zone()).await?;
    let days_remaining = subscription.days_left(at);
    let Subscription { tier, status, starts_at, ends_at, auto_renew } = subscription;
    Ok(Json(SubscriptionStanding {
        partner_id: caller.code,
        subscription: SubscriptionView {
            tier,
            status,
            start_date: starts_at,
            end_date: ends_at,
            auto_renew,
            days_remaining,
        },
        features: tier.features().into(),
        alerts: alerts(&subscription, &quota, at),
    }))
}

/// What there is to know at an instant.
fn alerts(subscription: &Subscription, quota: &Quota, at: DateTime<Utc>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut alert = |code, message: String, at| alerts.push(Alert { code, message, at });
    if let Some(end) = subscription.ends_at {
        let day = end.format("%Y-%m-%d %H:%M UTC");
        if subscription.is_expiring(at) {
            let then = if subscription.auto_renew { "is renewed" } else { "ends" };
            alert("SUBSCRIPTION_EXPIRING", format!("the subscription {then} on {day}"), end);
        } else if subscription.status == SubscriptionStatus::GracePeriod {
            let message =
                format!("the subscription ended on {day}; renew it before its grace period is over");
            alert("SUBSCRIPTION_GRACE_PERIOD", message, end + GRACE);
        }
    }
    if let Some(limit) = quota.limit {
        let (used, resets_at) = (quota.used, quota.month.resets_at);
        let message = format!("{used} of {limit} influencers of this month are used");
        if quota.is_exhausted() {
            alert("QUOTA_EXHAUSTED", message, resets_at);
        } else if quota.is_nearly_used() {
            alert("QUOTA_WARNING", message, resets_at);
        }
    }
    alerts
}
