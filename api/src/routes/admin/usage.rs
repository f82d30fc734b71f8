//! `GET /api/v1/admin/partners/{id}/usage`: what a partner made of the pool, by day and by month.

use ::partners::quota::calendar_now;
use ::partners::usage::{Day, Month, by_day, by_month};
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::PathPartner;
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, number_in};
use crate::extract::person::Viewer;
use crate::extract::query::Query;
use crate::routes::body::Data;
use crate::routes::instant;
use crate::routes::ops::reading;
use crate::state::ApiState;

/// Days unless asked otherwise.
const DAYS_DEFAULT: u32 = 30;
/// Most days.
const DAYS_MAX: u32 = 366;
/// Months shown.
const MONTHS_MAX: u32 = 24;

/// What a partner made of the pool.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageView {
    /// Of all the days shown.
    totals: UsageTotals,
    /// In the quota's time zone, today first, days without use included.
    days: Vec<UsageDay>,
    /// Of which anything was used, the newest first, at most 24.
    months: Vec<UsageMonth>,
}

/// Sums.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageTotals {
    /// Requests for influencers.
    #[schema(example = 12)]
    requests: u32,
    /// Influencers approved, those included that had been charged that month.
    #[schema(example = 160)]
    approved: u32,
    /// Influencers denied.
    #[schema(example = 4)]
    denied: u32,
    /// Influencers charged to the quota.
    #[schema(example = 150)]
    charged: u32,
}

/// A day.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageDay {
    #[schema(format = Date, example = "2026-03-01")]
    date: String,
    #[schema(example = 2)]
    requests: u32,
    #[schema(example = 20)]
    approved: u32,
    #[schema(example = 1)]
    denied: u32,
    #[schema(example = 18)]
    charged: u32,
}

/// A month of the quota.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageMonth {
    #[schema(example = "2026-03")]
    month: String,
    /// Influencers charged.
    #[schema(example = 150)]
    charged: u32,
    /// What was added or taken off by hand.
    #[schema(example = -5)]
    adjusted: i32,
    /// When 80% was reached.
    #[schema(format = DateTime, example = "2026-03-20T02:00:00.000Z")]
    warned_at: Option<String>,
    /// When all was used.
    #[schema(format = DateTime)]
    exhausted_at: Option<String>,
}

impl From<Day> for UsageDay {
    fn from(day: Day) -> Self {
        let Day { day, requests, approved, denied, charged } = day;
        Self { date: day.to_string(), requests, approved, denied, charged }
    }
}

impl From<Month> for UsageMonth {
    fn from(month: Month) -> Self {
        Self {
            month: month.month.format("%Y-%m").to_string(),
            charged: month.charged,
            adjusted: month.adjusted,
            warned_at: month.warned_at.map(instant),
            exhausted_at: month.exhausted_at.map(instant),
        }
    }
}

/// How far back.
#[derive(Debug)]
pub struct Span(u32);

impl FromFields for Span {
    fn read(fields: &mut Fields) -> Option<Self> {
        let days = fields.optional("days", |value| number_in(value, 1..=DAYS_MAX));
        Some(Self(days.unwrap_or(DAYS_DEFAULT)))
    }
}

/// Look at what a partner used
#[utoipa::path(
    get, path = "/api/v1/admin/partners/{id}/usage", tag = "Partners", operation_id = "showPartnerUsage",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(
        ("id" = String, Path, description = "the partner's code or `ptn_…` id", example = "techcombank"),
        ("days" = Option<u32>, Query, description = "how many days, 30 unless given", minimum = 1, maximum = 366,
            example = 30)),
    responses(
        (status = 200, description = "what it used", body = Data<UsageView>),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    path: PathPartner,
    Query(Span(days)): Query<Span>,
) -> Result<axum::Json<Data<UsageView>>, ApiError> {
    let mut conn = reading(&state).await?;
    let tenant = path.find(&mut conn).await?.id.into();
    let at = calendar_now(&mut conn).await?;
    let days = by_day(&mut conn, tenant, at, state.quota_zone(), days).await?;
    let months = by_month(&mut conn, tenant, MONTHS_MAX).await?;
    let totals = days.iter().fold(UsageTotals::default(), |sum, day| UsageTotals {
        requests: sum.requests + day.requests,
        approved: sum.approved + day.approved,
        denied: sum.denied + day.denied,
        charged: sum.charged + day.charged,
    });
    Ok(Data::of(UsageView {
        totals,
        days: days.into_iter().map(UsageDay::from).collect(),
        months: months.into_iter().map(UsageMonth::from).collect(),
    }))
}
