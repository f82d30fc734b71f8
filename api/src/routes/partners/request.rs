//! `POST /api/v1/partners/pool/request`: get influencers with their contact details, for quota (S0 FR-003).
//!
//! Decision, charge, record and events are one transaction; the answer comes after its commit. A repeated request (same
//! `Idempotency-Key`) is answered with what was decided then, and charges nothing.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use db::Connection;
use http::StatusCode;
use jobs::pool::{Asking, request_influencers};
use kernel::Platform;
use kernel::ids::InfluencerId;
use partners::Feature;
use partners::idempotency::Effect;
use partners::requests::{INFLUENCERS_MAX, REASON_CHARS_MAX, find};
use partners::{Authenticated, InfluencerRequest, Outcome};
use pool::{PoolEntry, servable};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::quota::QuotaView;
use crate::error::{ApiError, ErrorBody, ErrorDetail};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::idempotency::{IDEMPOTENT_REPLAYED, Idempotency};
use crate::extract::partner::{Subscriber, door};
use crate::middleware::context::RequestContext;
use crate::state::ApiState;

/// Whom to get, and why.
#[derive(Debug, ToSchema)]
#[schema(as = PoolRequest, example = json!({
    "influencerIds": ["at_inf_01jd8x4xkre9a8y9tbn2p5q3mw", "at_inf_01jd8x4xkre9a8y9tbn2p5q3mx"],
    "reason": "Campaign Tết 2026"
}))]
#[allow(dead_code)] // The schema of what `Wish` reads.
pub struct PoolRequestBody {
    /// 1 to 20 ids of the pool, in the order in which quota is spent.
    #[schema(rename = "influencerIds", min_items = 1, max_items = 20)]
    influencer_ids: Vec<String>,
    /// Kept with the request.
    #[schema(required = false, min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// How to reach a creator.
#[derive(Debug, Serialize, ToSchema)]
struct ContactInfo {
    #[schema(example = "creator@email.com")]
    email: Option<String>,
    #[schema(example = "+84901234567")]
    phone: Option<String>,
}

/// What a creator's posts get on average.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DetailedMetrics {
    #[schema(example = 50000)]
    avg_views: Option<i64>,
    #[schema(example = 5000)]
    avg_likes: Option<i64>,
    #[schema(example = 200)]
    avg_comments: Option<i64>,
}

/// All that there is about a creator.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApprovedInfluencer {
    #[schema(value_type = String, example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: InfluencerId,
    #[schema(value_type = String, example = "tiktok")]
    platform: Platform,
    /// Without `@`.
    #[schema(example = "beauty_creator")]
    username: String,
    #[schema(example = "Beauty Creator VN")]
    display_name: String,
    #[schema(example = "https://cdn.example.com/beauty_creator.jpg")]
    avatar_url: Option<String>,
    #[schema(example = "Da đẹp mỗi ngày")]
    bio: Option<String>,
    #[schema(example = 250000)]
    followers: i64,
    #[schema(example = 312)]
    following: i64,
    /// Percent.
    #[schema(example = 4.8)]
    engagement: f64,
    /// 0 to 100.
    #[schema(example = 78)]
    score: i32,
    #[schema(example = "beauty")]
    category: Option<String>,
    /// `standard`, `premium` or `vip`.
    #[schema(example = "premium")]
    tier: String,
    contact_info: ContactInfo,
    detailed_metrics: DetailedMetrics,
    /// How old the figures are; null: never crawled.
    synced_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Why somebody was denied.
#[derive(Debug, Serialize, ToSchema)]
struct DeniedReason {
    #[schema(value_type = String, example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mx")]
    id: InfluencerId,
    /// For programs.
    #[schema(pattern = "^(QUOTA_EXCEEDED|NOT_FOUND)$", example = "QUOTA_EXCEEDED")]
    code: &'static str,
    /// For people.
    #[schema(example = "no quota was left for it this month")]
    message: &'static str,
}

/// What became of a request: everybody who was asked for is either approved or denied.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRequestResult {
    /// Whether anybody was approved.
    success: bool,
    /// The record of this request.
    #[schema(value_type = String, example = "req_01jd8x4xkre9a8y9tbn2p5q3mw")]
    pool_request_id: kernel::ids::RequestId,
    approved: Vec<ApprovedInfluencer>,
    #[schema(value_type = Vec<String>, example = json!(["at_inf_01jd8x4xkre9a8y9tbn2p5q3mx"]))]
    denied: Vec<InfluencerId>,
    /// One for each that was denied.
    denied_reasons: Vec<DeniedReason>,
    /// The quota after this request.
    quota: QuotaView,
}

/// Nobody was approved, or nothing was decided at all: then there is only the error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRequestRefused {
    /// Always false.
    success: bool,
    error: ErrorDetail,
    /// Name it when asking about this request.
    request_id: String,
    /// The record of what was denied.
    #[schema(value_type = String, required = false)]
    pool_request_id: kernel::ids::RequestId,
    /// Empty.
    #[schema(required = false)]
    approved: Vec<ApprovedInfluencer>,
    /// All that were asked for.
    #[schema(value_type = Vec<String>, required = false, example = json!(["at_inf_01jd8x4xkre9a8y9tbn2p5q3mx"]))]
    denied: Vec<InfluencerId>,
    /// One for each.
    #[schema(required = false)]
    denied_reasons: Vec<DeniedReason>,
    /// The quota, as it was.
    #[schema(required = false)]
    quota: QuotaView,
}

/// Request influencers
///
/// Approves in the order given while there is quota; each costs one unit, and nothing when it was approved for you in this
/// month already. Who is unknown, private or removed is denied as `NOT_FOUND` and costs nothing. When nobody is approved
/// the status is 403 (`QUOTA_EXCEEDED`) if any was denied for quota, else 404.
///
/// With an `Idempotency-Key`, repeating the request within 24 hours answers with what was decided then.
#[utoipa::path(
    post, path = "/api/v1/partners/pool/request", tag = "Pool", operation_id = "requestInfluencers",
    security(("partnerId" = [], "apiKey" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, yours to choose")),
    request_body(content = PoolRequestBody, content_type = "application/json"),
    responses(
        (status = 200, description = "all or some are approved", body = PoolRequestResult),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 403, description = "QUOTA_EXCEEDED with what was denied; or the partner or its subscription may not",
         body = PoolRequestRefused),
        (status = 404, description = "there is none of them", body = PoolRequestRefused),
        (status = 409, description = "a request with this Idempotency-Key is being carried out", body = ErrorBody),
        (status = 422, description = "the Idempotency-Key was used for another request", body = ErrorBody)))]
pub async fn request(
    State(state): State<ApiState>,
    subscriber: Subscriber,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, ApiError> {
    subscriber.needs(Feature::PoolRequest)?;
    let Subscriber(partner) = subscriber;
    let wish = body.fields.finish(Wish::read)?;
    let asking = Asking {
        partner: partner.partner,
        key: partner.key,
        influencers: wish.influencers,
        reason: wish.reason,
        zone: state.quota_zone(),
    };
    let mut tx = db::begin(state.pool()).await?;
    let decided = decide_once(&mut tx, &state, &partner, &idempotency, &body.bytes, asking).await?;
    let mut response = answer(&state, &decided)?;
    tx.commit().await?;
    response.headers_mut().extend(decided.replayed.then(|| IDEMPOTENT_REPLAYED.clone()));
    Ok(response)
}

/// A request with what the pool knows of those it is about.
struct Decided {
    request: InfluencerRequest,
    entries: Vec<PoolEntry>,
    replayed: bool,
}

async fn decide_once(
    conn: &mut Connection,
    state: &ApiState,
    partner: &Authenticated,
    idempotency: &Idempotency,
    body: &[u8],
    asking: Asking,
) -> Result<Decided, ApiError> {
    let tenant = partner.tenant;
    match idempotency.earlier(conn, tenant, body).await? {
        None => {
            let (request, entries) = request_influencers(conn, &door(state, partner), asking).await?;
            idempotency.keep(conn, tenant, body, Effect::Influencers(request.id)).await?;
            Ok(Decided { request, entries, replayed: false })
        }
        Some(Effect::Influencers(id)) => {
            let request = find(conn, tenant, id, asking.zone).await?.ok_or(ApiError::NotFound("request"))?;
            let approved: Vec<InfluencerId> = request.with(Outcome::Approved).collect();
            let entries = servable(conn, &approved).await?;
            Ok(Decided { request, entries, replayed: true })
        }
        // The fingerprint holds the path, so what another route made is never told here.
        Some(Effect::Job(_)) => Err(ApiError::IdempotencyKeyReused),
    }
}

fn answer(state: &ApiState, decided: &Decided) -> Result<Response, ApiError> {
    let Decided { request, entries, .. } = decided;
    let entries: HashMap<InfluencerId, &PoolEntry> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let approved: Result<Vec<ApprovedInfluencer>, ApiError> = request
        .with(Outcome::Approved)
        .filter_map(|id| entries.get(&id).map(|entry| approved(state, entry)))
        .collect();
    let denied = request.decisions.iter().filter(|decision| decision.outcome != Outcome::Approved);
    let denied_reasons: Vec<DeniedReason> =
        denied.map(|decision| denied_reason(decision.influencer, decision.outcome)).collect();
    let result = PoolRequestResult {
        success: request.with(Outcome::Approved).next().is_some(),
        pool_request_id: request.id,
        approved: approved?,
        denied: denied_reasons.iter().map(|reason| reason.id).collect(),
        denied_reasons,
        quota: request.quota.into(),
    };
    if result.success {
        return Ok(Json(result).into_response());
    }
    let (status, error) = match request.with(Outcome::QuotaExceeded).next() {
        Some(_) => {
            let (used, limit) = (request.quota.used, request.quota.limit.unwrap_or_default());
            let day = request.quota.month.resets_on;
            let message = format!("Monthly quota exceeded. Used: {used}/{limit}. Resets at {day}.");
            (StatusCode::FORBIDDEN, ErrorDetail::new("QUOTA_EXCEEDED", message))
        }
        None => {
            let message = "there is no such influencer in the pool".to_owned();
            (StatusCode::NOT_FOUND, ErrorDetail::new("NOT_FOUND", message))
        }
    };
    let PoolRequestResult { success, pool_request_id, approved, denied, denied_reasons, quota } = result;
    let request_id = RequestContext::current_id();
    let body = PoolRequestRefused {
        success,
        error,
        request_id,
        pool_request_id,
        approved,
        denied,
        denied_reasons,
        quota,
    };
    Ok((status, Json(body)).into_response())
}

fn approved(state: &ApiState, entry: &PoolEntry) -> Result<ApprovedInfluencer, ApiError> {
    let contact = entry.contact(state.keyring())?;
    let entry = entry.clone();
    Ok(ApprovedInfluencer {
        id: entry.id,
        platform: entry.platform,
        username: entry.username,
        display_name: entry.display_name,
        avatar_url: entry.avatar_url,
        bio: entry.bio,
        followers: entry.followers,
        following: entry.following,
        engagement: entry.engagement,
        score: entry.score,
        category: entry.category,
        tier: entry.tier.to_ascii_lowercase(),
        contact_info: ContactInfo { email: contact.email, phone: contact.phone },
        detailed_metrics: DetailedMetrics {
            avg_views: entry.avg_views,
            avg_likes: entry.avg_likes,
            avg_comments: entry.avg_comments,
        },
        synced_at: entry.synced_at,
    })
}

fn denied_reason(id: InfluencerId, outcome: Outcome) -> DeniedReason {
    match outcome {
        Outcome::QuotaExceeded => {
            DeniedReason { id, code: "QUOTA_EXCEEDED", message: "no quota was left for it this month" }
        }
        Outcome::NotFound | Outcome::Approved => {
            DeniedReason { id, code: "NOT_FOUND", message: "there is no such influencer in the pool" }
        }
    }
}

/// The request's body as values.
struct Wish {
    influencers: Vec<InfluencerId>,
    reason: Option<String>,
}

impl FromFields for Wish {
    fn read(fields: &mut Fields) -> Option<Self> {
        let influencers = fields.required("influencerIds", influencers);
        let reason = fields.optional("reason", reason);
        Some(Self { influencers: influencers?, reason })
    }
}

fn influencers(value: &Value) -> Result<Vec<InfluencerId>, Problem> {
    let list = value.as_array().ok_or_else(|| Problem::wrong_type("a list of ids"))?;
    if !(1..=INFLUENCERS_MAX).contains(&list.len()) {
        return Err(Problem::invalid(format!("must name 1 to {INFLUENCERS_MAX} influencers")));
    }
    let id = |(index, value): (usize, &Value)| {
        let id = text(value)?.parse::<InfluencerId>();
        id.map_err(|error| Problem::invalid(format!("entry {index}: {error}")))
    };
    list.iter().enumerate().map(id).collect()
}

fn reason(value: &Value) -> Result<String, Problem> {
    let reason = text(value)?.trim();
    let fits = (1..=REASON_CHARS_MAX).contains(&reason.chars().count()) && !reason.contains('\0');
    if fits {
        Ok(reason.to_owned())
    } else {
        Err(Problem::invalid(format!("must have 1 to {REASON_CHARS_MAX} characters")))
    }
}
