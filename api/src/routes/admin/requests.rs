//! `GET /api/v1/admin/partners/{id}/requests`: what a partner requested from the pool, and what became of it.

use ::partners::request_history::{self, PastRequest, RequestCursor, RequestFilter};
use ::partners::{Outcome, RequestStatus};
use axum::extract::State;
use axum::response::Response;
use kernel::ids::InfluencerId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::PathPartner;
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, instant as read_instant, text};
use crate::extract::person::Viewer;
use crate::routes::body::List;
use crate::routes::instant;
use crate::routes::ops::listing::{ListParams, Listed, Listing};
use crate::routes::ops::reading;
use crate::state::ApiState;

/// A past request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRow {
    #[schema(example = "req_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    #[schema(format = DateTime, example = "2026-03-01T02:00:00.000Z")]
    created_at: String,
    /// The key that asked.
    #[schema(example = "key_01jd8x4xkre9a8y9tbn2p5q3mw")]
    key_id: String,
    /// `approved`, `denied` or `partial`.
    #[schema(example = "partial")]
    status: &'static str,
    #[schema(example = 1)]
    approved_count: usize,
    #[schema(example = 1)]
    denied_count: usize,
    /// Of those approved, how many cost a unit of quota: the others had been charged that month.
    #[schema(example = 1)]
    charged_count: usize,
    /// Why, in the partner's words.
    #[schema(example = "spring campaign")]
    reason: Option<String>,
    /// In the order asked.
    influencers: Vec<RequestedView>,
}

/// An influencer that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestedView {
    #[schema(example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// `approved`, `quota_exceeded` or `not_found`.
    #[schema(example = "approved")]
    outcome: &'static str,
    #[schema(example = true)]
    is_charged: bool,
}

impl Listed for RequestRow {
    const NAME: &'static str = "requests";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "createdAt",
        "keyId",
        "status",
        "approvedCount",
        "deniedCount",
        "chargedCount",
        "reason",
        "influencers",
    ];
}

impl From<PastRequest> for RequestRow {
    fn from(request: PastRequest) -> Self {
        let approved = request.decisions.iter().filter(|one| one.outcome == Outcome::Approved).count();
        Self {
            id: request.id.to_string(),
            created_at: instant(request.requested_at),
            key_id: request.key.to_string(),
            status: request.status.as_str(),
            approved_count: approved,
            denied_count: request.decisions.len() - approved,
            charged_count: request.decisions.iter().filter(|one| one.is_charged).count(),
            reason: request.reason,
            influencers: request
                .decisions
                .into_iter()
                .map(|one| RequestedView {
                    id: one.influencer.to_string(),
                    outcome: one.outcome.as_str(),
                    is_charged: one.is_charged,
                })
                .collect(),
        }
    }
}

/// Which requests.
#[derive(Debug)]
pub struct Wanted(RequestFilter);

impl FromFields for Wanted {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self(RequestFilter {
            status: fields.optional("status", status),
            influencer: fields.optional("influencerId", |value| {
                text(value)?.parse::<InfluencerId>().map_err(Problem::invalid)
            }),
            from: fields.optional("from", read_instant),
            before: fields.optional("before", read_instant),
        }))
    }
}

fn status(value: &Value) -> Result<RequestStatus, Problem> {
    use RequestStatus::{Approved, Denied, Partial};
    let word = text(value)?.to_ascii_lowercase();
    let known = [Approved, Denied, Partial].into_iter().find(|one| one.as_str() == word);
    known.ok_or_else(|| Problem::invalid("must be one of: approved, denied, partial"))
}

/// List a partner's requests for influencers
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/admin/partners/{id}/requests", tag = "Partners", operation_id = "listPartnerRequests",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("id" = String, Path, description = "the partner's code or `ptn_…` id", example = "techcombank"),
        ("status" = Option<String>, Query, description = "`approved`, `denied` or `partial`", example = "partial"),
        ("influencerId" = Option<String>, Query, description = "only those about this influencer"),
        ("from" = Option<DateTime<Utc>>, Query, description = "at or after this instant"),
        ("before" = Option<DateTime<Utc>>, Query, description = "before this instant")),
    responses(
        (status = 200, description = "requests", content(
            (List<RequestRow> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    path: PathPartner,
    listing: Listing<RequestRow, Wanted>,
) -> Result<Response, ApiError> {
    listing.refuse_sort("-createdAt")?;
    let after: Option<RequestCursor> = listing.after()?;
    let mut conn = reading(&state).await?;
    let partner = path.find(&mut conn).await?;
    let Wanted(filter) = &listing.filter;
    let (past, next) =
        request_history::list(&mut conn, partner.id.into(), filter, after, listing.limit).await?;
    listing.page(past.into_iter().map(RequestRow::from).collect(), next)
}
