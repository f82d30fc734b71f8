//! `GET /api/v1/partners/quota`: what a partner has used of its month, exactly (S0 FR-004).

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, NaiveDate, Utc};
use partners::quota::{DayUsage, calendar_now, read, usage};
use partners::{Quota, SubscriptionTier};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::partner::Partner;
use crate::extract::query::Query;
use crate::state::ApiState;

/// Days of history that are told.
const HISTORY_DAYS: u32 = 30;

/// A month's quota.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Quota, example = json!({
    "used": 45, "limit": 200, "remaining": 155, "resetsAt": "2026-01-31T17:00:00Z"
}))]
pub struct QuotaView {
    /// Influencers used this month.
    #[schema(example = 412)]
    used: u32,
    /// Influencers a month; null: as many as wanted.
    limit: Option<u32>,
    /// Influencers left; null: as many as wanted.
    remaining: Option<u32>,
    /// When the next month begins: 00:00 of day 1 in UTC+7, unless this installation says otherwise.
    resets_at: DateTime<Utc>,
}

impl From<Quota> for QuotaView {
    fn from(quota: Quota) -> Self {
        Self {
            used: quota.used,
            limit: quota.limit,
            remaining: quota.remaining(),
            resets_at: quota.month.resets_at,
        }
    }
}

/// A day's usage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DayUsage, example = json!({"date": "2026-01-30", "count": 5}))]
pub struct DayUsageView {
    /// The day, where the quota's month begins.
    date: NaiveDate,
    /// Influencers charged on it.
    #[schema(example = 12)]
    count: u32,
}

impl From<DayUsage> for DayUsageView {
    fn from(usage: DayUsage) -> Self {
        Self { date: usage.day, count: usage.count }
    }
}

/// A partner's quota with its history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "partnerId": "techcombank",
    "tier": "premium",
    "quota": {"used": 45, "limit": 200, "remaining": 155, "resetsAt": "2026-01-31T17:00:00Z"},
    "usageHistory": [{"date": "2026-01-30", "count": 5}, {"date": "2026-01-29", "count": 10}]
}))]
pub struct QuotaStatus {
    /// The partner's code.
    partner_id: String,
    /// Its subscription's tier.
    #[schema(value_type = String, pattern = "^(free|basic|premium|enterprise)$")]
    tier: SubscriptionTier,
    /// This month.
    quota: QuotaView,
    /// The last 30 days, today first; days without use are 0.
    usage_history: Vec<DayUsageView>,
}

/// Look at the quota
///
/// The figures are those that the next request for influencers is decided by.
#[utoipa::path(
    get, path = "/api/v1/partners/quota", tag = "Account", operation_id = "getQuota",
    security(("partnerId" = [], "apiKey" = [])),
    responses(
        (status = 200, description = "the quota of this month", body = QuotaStatus),
        (status = 400, description = "a parameter was given; there are none", body = crate::error::ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Partner(partner): Partner,
    Query(()): Query<()>,
) -> Result<Json<QuotaStatus>, ApiError> {
    let zone = state.quota_zone();
    let mut conn = state.pool().acquire().await?;
    let at = calendar_now(&mut conn).await?;
    let quota = read(&mut conn, partner.tenant, at, zone).await?;
    let history = usage(&mut conn, partner.tenant, at, zone, HISTORY_DAYS).await?;
    Ok(Json(QuotaStatus {
        partner_id: partner.code,
        tier: partner.subscription.tier,
        quota: quota.into(),
        usage_history: history.into_iter().map(DayUsageView::from).collect(),
    }))
}
