//! `GET /api/v1/admin/subscriptions`: all subscriptions (S0 FR-010), and `…/partners/{id}/subscription/history`: how one
//! came to be as it is.

use ::partners::changes::{self, Change};
use ::partners::quota::{calendar_now, used_by_all};
use ::partners::{Partner, SubscriptionStatus, SubscriptionTier};
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use kernel::ids::TenantId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::PathPartner;
use super::partners::{all_partners, tier};
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, number_in, text};
use crate::extract::person::Viewer;
use crate::routes::body::List;
use crate::routes::instant;
use crate::routes::ops::listing::{ListParams, Listed, Listing};
use crate::routes::ops::reading;
use crate::state::ApiState;

/// Nobody looks further ahead for ends.
const DAYS_AHEAD_MAX: u32 = 3_660;

/// A subscription in the list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionRow {
    /// The partner's code.
    #[schema(example = "techcombank")]
    partner_id: String,
    #[schema(example = "Techcombank")]
    partner_name: String,
    /// `free`, `basic`, `premium` or `enterprise`.
    #[schema(example = "premium")]
    tier: &'static str,
    /// `active`, `grace_period`, `expired` or `suspended`.
    #[schema(example = "active")]
    status: &'static str,
    #[schema(format = DateTime, example = "2026-01-01T00:00:00.000Z")]
    start_date: String,
    /// Null: never.
    #[schema(format = DateTime, example = "2026-12-31T17:00:00.000Z")]
    end_date: Option<String>,
    #[schema(example = true)]
    auto_renew: bool,
    /// A begun one counted; null without an end.
    #[schema(example = 39)]
    days_remaining: Option<u32>,
    /// Influencers used this month.
    #[schema(example = 45)]
    used_this_month: u32,
    /// Influencers a month; null: as many as wanted.
    #[schema(example = 200)]
    monthly_quota: Option<u32>,
}

impl Listed for SubscriptionRow {
    const NAME: &'static str = "subscriptions";
    const ID: &'static str = "partnerId";
    const COLUMNS: &'static [&'static str] = &[
        "partnerId",
        "partnerName",
        "tier",
        "status",
        "startDate",
        "endDate",
        "autoRenew",
        "daysRemaining",
        "usedThisMonth",
        "monthlyQuota",
    ];
}

impl SubscriptionRow {
    fn of(partner: Partner, used: u32, at: DateTime<Utc>) -> Self {
        let monthly_quota = partner.quota_limit();
        let subscription = partner.subscription;
        Self {
            partner_id: partner.code,
            partner_name: partner.name,
            tier: subscription.tier.as_str(),
            status: subscription.status.as_str(),
            start_date: instant(subscription.starts_at),
            end_date: subscription.ends_at.map(instant),
            auto_renew: subscription.auto_renew,
            days_remaining: subscription.days_left(at),
            used_this_month: used,
            monthly_quota,
        }
    }
}

/// Which subscriptions.
#[derive(Debug)]
pub struct SubscriptionFilter {
    status: Option<SubscriptionStatus>,
    tier: Option<SubscriptionTier>,
    ends_within_days: Option<u32>,
}

impl FromFields for SubscriptionFilter {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            status: fields.optional("status", status),
            tier: fields.optional("tier", tier),
            ends_within_days: fields.optional("endsWithinDays", |value| number_in(value, 0..=DAYS_AHEAD_MAX)),
        })
    }
}

fn status(value: &Value) -> Result<SubscriptionStatus, Problem> {
    use SubscriptionStatus::{Active, Expired, GracePeriod, Suspended};
    let word = text(value)?.to_ascii_lowercase();
    let known = [Active, GracePeriod, Expired, Suspended].into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| Problem::invalid("must be one of: active, grace_period, expired, suspended"))
}

impl SubscriptionFilter {
    fn holds(&self, partner: &Partner, at: DateTime<Utc>) -> bool {
        let subscription = &partner.subscription;
        let ends = self.ends_within_days.is_none_or(|days| {
            subscription.ends_at.is_some_and(|end| end > at)
                && subscription.days_left(at).is_some_and(|left| left <= days)
        });
        ends && self.status.is_none_or(|status| subscription.status == status)
            && self.tier.is_none_or(|tier| subscription.tier == tier)
    }
}

/// List subscriptions
///
/// Of all partners, as they stand now.
#[utoipa::path(
    get, path = "/api/v1/admin/subscriptions", tag = "Partners", operation_id = "listSubscriptions",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("status" = Option<String>, Query, description = "`active`, `grace_period`, `expired` or `suspended`",
            example = "active"),
        ("tier" = Option<String>, Query, description = "`free`, `basic`, `premium` or `enterprise`",
            example = "premium"),
        ("endsWithinDays" = Option<u32>, Query, description = "only what ends, or is renewed, within so many days",
            minimum = 0, maximum = 3660, example = 30)),
    responses(
        (status = 200, description = "subscriptions", content(
            (List<SubscriptionRow> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<SubscriptionRow, SubscriptionFilter>,
) -> Result<Response, ApiError> {
    let mut conn = reading(&state).await?;
    let at = calendar_now(&mut conn).await?;
    let used = used_by_all(&mut conn, at, state.quota_zone()).await?;
    let partners = all_partners(&mut conn).await?;
    let rows = partners.into_iter().filter(|partner| listing.filter.holds(partner, at)).map(|partner| {
        let used = used.get(&TenantId::from(partner.id)).copied().unwrap_or(0);
        SubscriptionRow::of(partner, used, at)
    });
    listing.answer(rows.collect())
}

/// A change of a subscription, or of its quota by hand.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// Grows with time.
    #[schema(example = 12)]
    id: i64,
    #[schema(format = DateTime, example = "2026-03-01T02:00:00.000Z")]
    at: String,
    /// A user's id, an account, or `calendar`.
    #[schema(example = "calendar")]
    by: String,
    /// `partners.change_subscription`, `partners.set_quota_used`, `partners.renew`, `partners.begin_grace` or
    /// `partners.expire`.
    #[schema(example = "partners.renew")]
    action: String,
    /// What was.
    #[schema(value_type = Object, example = json!({"endDate": "2026-03-01T00:00:00Z"}))]
    before: Value,
    /// What is.
    #[schema(value_type = Object, example = json!({"endDate": "2026-04-01T00:00:00Z"}))]
    after: Value,
    /// Why, in the words of whoever did it.
    #[schema(example = "goodwill for the outage of February")]
    reason: Option<String>,
}

impl Listed for ChangeView {
    const NAME: &'static str = "subscription-history";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &["id", "at", "by", "action", "before", "after", "reason"];
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            id: change.id,
            at: instant(change.changed_at),
            by: change.changed_by,
            action: change.action,
            before: change.before,
            after: change.after,
            reason: change.reason,
        }
    }
}

/// List what became of a subscription
///
/// Changes by people and by the calendar, the newest first.
#[utoipa::path(
    get, path = "/api/v1/admin/partners/{id}/subscription/history", tag = "Partners",
    operation_id = "listSubscriptionHistory",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("id" = String, Path, description = "the partner's code or `ptn_…` id", example = "techcombank")),
    responses(
        (status = 200, description = "changes", content(
            (List<ChangeView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody)))]
pub async fn history(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    path: PathPartner,
    listing: Listing<ChangeView>,
) -> Result<Response, ApiError> {
    listing.refuse_sort("-id")?;
    let older_than: Option<i64> = listing.after()?;
    let mut conn = reading(&state).await?;
    let partner = path.find(&mut conn).await?;
    let mut rows = changes::list(&mut conn, partner.id.into(), older_than, listing.limit + 1).await?;
    let has_more = rows.len() > listing.limit as usize;
    rows.truncate(listing.limit as usize);
    let next = rows.last().filter(|_| has_more).map(|row| row.id);
    listing.page(rows.into_iter().map(ChangeView::from).collect(), next)
}
