//! `/api/v1/admin/pool/bulk-visibility`: who may see many creators, seen before it is changed.
//!
//! A preview answers who would change, with a confirmation that stands for exactly them. A change of all that a filter
//! meets needs it: if meanwhile others would change, it is refused and nothing is changed.

use ::pool::search::{From, PoolFilter, SearchSort};
use ::pool::{Visibility, listed};
use axum::Json;
use axum::extract::State;
use jobs::pool::{VisibilityChange, VisibilityChanged, preview_visibility, set_visibilities};
use kernel::ids::InfluencerId;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::filter::{PoolFilterParams, PoolWords};
use super::{PoolRow, visibility};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::person::{Admin, door};
use crate::extract::query::Query;
use crate::routes::body::Data;
use crate::routes::ops::reading;
use crate::state::ApiState;

/// Influencers named in a body at the most.
const IDS_MAX: usize = 1_000;
/// In a query string.
const IDS_IN_QUERY_MAX: usize = 100;
/// Whom a filter may meet at the most, of those who would change.
const CHANGED_MAX: usize = 10_000;
/// Shown of those who would change.
const SAMPLES: usize = 10;
const CONFIRMATION_CHARS_MAX: usize = 200;

/// Whom a change is for.
#[derive(Debug)]
enum Whom {
    Named(Vec<InfluencerId>),
    Met(PoolWords),
}

impl Whom {
    /// Their ids: of all who are named, or of those who are met and not as visible as asked for yet.
    async fn ids(&self, state: &ApiState, visibility: Visibility) -> Result<Vec<InfluencerId>, ApiError> {
        let filter = match self {
            Self::Named(ids) => return Ok(ids.clone()),
            Self::Met(words) => &words.filter,
        };
        let other = match visibility {
            Visibility::Public => Visibility::Private,
            Visibility::Private => Visibility::Public,
        };
        let filter = PoolFilter { visibility: Some(other), ..filter.clone() };
        let index = state.search_index();
        index.in_step(state.pool().acquire()).await?;
        let found = index.find_any(filter, SearchSort::default(), From::Offset(0), CHANGED_MAX).await?;
        if found.total > CHANGED_MAX {
            let message = format!("meets {} that would change; narrow it to {CHANGED_MAX}", found.total);
            return Err(ApiError::invalid("filter", "TOO_MANY", message));
        }
        Ok(found.ids)
    }

    fn given(&self) -> Map<String, Value> {
        match self {
            Self::Named(_) => Map::new(),
            Self::Met(words) => words.given.clone(),
        }
    }
}

/// What is to be previewed, beside a filter.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PreviewParams {
    /// Who may see them then: `PUBLIC` or `PRIVATE`, which it is unless given.
    #[param(required = false, nullable = false, example = "PRIVATE")]
    visibility: Option<String>,
    /// Up to 100 ids, set apart by commas; instead of a filter.
    #[param(required = false, nullable = false)]
    influencer_ids: Option<String>,
}

/// What is previewed.
#[derive(Debug)]
pub struct Wish {
    visibility: Visibility,
    whom: Whom,
}

impl FromFields for Wish {
    fn read(fields: &mut Fields) -> Option<Self> {
        let visibility = fields.optional("visibility", visibility).unwrap_or(Visibility::Private);
        let named =
            fields.optional("influencerIds", |value| ids(text(value)?.split(',').map(Ok), IDS_IN_QUERY_MAX));
        let words = PoolWords::read(fields)?;
        let whom = match named {
            Some(_) if !words.given.is_empty() => {
                fields.fault("influencerIds", "INVALID", "give either `influencerIds` or a filter");
                return None;
            }
            Some(named) => Whom::Named(named),
            None => Whom::Met(words),
        };
        Some(Self { visibility, whom })
    }
}

fn ids<'a>(
    texts: impl Iterator<Item = Result<&'a str, Problem>>,
    max: usize,
) -> Result<Vec<InfluencerId>, Problem> {
    let mut ids: Vec<InfluencerId> = Vec::new();
    for (index, text) in texts.enumerate() {
        if index == max {
            return Err(Problem::invalid(format!("must name 1 to {max} influencers")));
        }
        let id = text?.parse::<InfluencerId>();
        ids.push(id.map_err(|error| Problem::invalid(format!("entry {index}: {error}")))?);
    }
    if ids.is_empty() {
        return Err(Problem::invalid(format!("must name 1 to {max} influencers")));
    }
    // Named twice is named once.
    ids.sort_unstable_by_key(|id| id.uuid());
    ids.dedup();
    Ok(ids)
}

/// What a change would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VisibilityPreviewView {
    /// `PUBLIC` or `PRIVATE`.
    #[schema(example = "PRIVATE")]
    visibility: &'static str,
    /// The filter: submit it as it is.
    #[schema(value_type = Object, example = json!({"category": "beauty", "maxFollowers": "10000"}))]
    filter: Value,
    /// How many would change.
    #[schema(example = 2)]
    changing: usize,
    /// How many of those who were named are as asked for already.
    #[schema(example = 0)]
    unchanged: usize,
    /// Some of those who would change.
    samples: Vec<PoolRow>,
    /// Who cannot be changed.
    failed: Vec<FailedView>,
    /// Stands for exactly this change: submit it as it is.
    #[schema(example = "9f2c1e7a04b84d0a9a5de0a1f3c4b6d8")]
    confirmation: String,
}

/// Who cannot be changed, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailedView {
    #[schema(value_type = String, example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: InfluencerId,
    #[schema(example = "NOT_FOUND")]
    error: &'static str,
}

fn failed(missing: Vec<InfluencerId>) -> Vec<FailedView> {
    missing.into_iter().map(|id| FailedView { id, error: "NOT_FOUND" }).collect()
}

/// Preview a change of many
///
/// Who would change, with a confirmation that stands for exactly them. Nothing is changed.
#[utoipa::path(
    get, path = "/api/v1/admin/pool/bulk-visibility", tag = "Pool for admins",
    operation_id = "previewBulkVisibility",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(PreviewParams, PoolFilterParams),
    responses(
        (status = 200, description = "who would change", body = Data<VisibilityPreviewView>),
        (status = 400, description = "parameters are not valid, or more than 10,000 would change; all faults",
            body = ErrorBody)))]
pub async fn preview(
    State(state): State<ApiState>,
    Admin(_me): Admin,
    Query(Wish { visibility, whom }): Query<Wish>,
) -> Result<Json<Data<VisibilityPreviewView>>, ApiError> {
    let ids = whom.ids(&state, visibility).await?;
    let mut conn = reading(&state).await?;
    let preview = preview_visibility(&mut conn, state.keyring(), &ids, visibility).await?;
    let samples: Vec<InfluencerId> = preview.changing.iter().copied().take(SAMPLES).collect();
    Ok(Data::of(VisibilityPreviewView {
        visibility: visibility.as_str(),
        filter: whom.given().into(),
        changing: preview.changing.len(),
        unchanged: preview.unchanged,
        samples: listed(&mut conn, &samples).await?.into_iter().map(PoolRow::from).collect(),
        failed: failed(preview.missing),
        confirmation: preview.confirmation,
    }))
}

/// A change of many: of those who are named, or of all that a filter meets.
#[derive(Debug, ToSchema)]
#[schema(as = BulkVisibilityChange, rename_all = "camelCase", example = json!({
    "visibility": "PRIVATE", "influencerIds": ["at_inf_01jd8x4xkre9a8y9tbn2p5q3mw"]
}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct BulkVisibilitySchema {
    /// `PUBLIC` or `PRIVATE`.
    visibility: String,
    #[schema(required = false, nullable = false, min_items = 1, max_items = 1000)]
    influencer_ids: Vec<String>,
    /// The filter of a preview, instead of ids.
    #[schema(required = false, nullable = false, value_type = Object)]
    filter: Value,
    /// That of the preview. Required with a filter; with ids, the change is refused if it does not fit.
    #[schema(required = false, nullable = false)]
    confirmation: String,
}

struct Change {
    visibility: Visibility,
    whom: Whom,
    confirmation: Option<String>,
}

impl FromFields for Change {
    fn read(fields: &mut Fields) -> Option<Self> {
        let visibility = fields.required("visibility", visibility);
        let named = fields.optional("influencerIds", |value| {
            let list = value.as_array().ok_or_else(|| Problem::wrong_type("a list of ids"))?;
            ids(list.iter().map(text), IDS_MAX)
        });
        let met = fields.nested("filter", PoolWords::read);
        let confirmation = fields.optional("confirmation", confirmation);
        let whom = match (named, met) {
            (Some(named), None) => Whom::Named(named),
            (None, Some(met)) if confirmation.is_some() => Whom::Met(met),
            (None, Some(_)) => {
                fields.fault("confirmation", "REQUIRED", "is required with a filter: preview it first");
                return None;
            }
            // Also where one of them was at fault already.
            _ => {
                fields.fault("influencerIds", "INVALID", "give either `influencerIds` or `filter`");
                return None;
            }
        };
        Some(Self { visibility: visibility?, whom, confirmation })
    }
}

fn confirmation(value: &Value) -> Result<String, Problem> {
    let fits = |text: &&str| text.chars().count() <= CONFIRMATION_CHARS_MAX;
    let text = Some(text(value)?).filter(fits);
    text.map(str::to_owned).ok_or_else(|| Problem::invalid("must be the confirmation of a preview"))
}

/// What a change did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkVisibilityView {
    /// How many changed.
    #[schema(example = 2)]
    updated: usize,
    /// How many were as asked for already.
    #[schema(example = 0)]
    unchanged: usize,
    /// Who could not be changed.
    failed: Vec<FailedView>,
}

/// Change who may see many creators
///
/// All at once, and the next search of any partner knows. Whoever is not there is named under `failed` and keeps nobody
/// else from changing.
#[utoipa::path(
    patch, path = "/api/v1/admin/pool/bulk-visibility", tag = "Pool for admins",
    operation_id = "changeBulkVisibility",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    request_body = BulkVisibilitySchema,
    responses(
        (status = 200, description = "what was done", body = Data<BulkVisibilityView>),
        (status = 400, description = "the body is not valid, or the filter meets more than 10,000; all faults",
            body = ErrorBody),
        (status = 409, description = "others would change than those of the preview", body = ErrorBody)))]
pub async fn change(
    State(state): State<ApiState>,
    Admin(me): Admin,
    body: JsonBody,
) -> Result<Json<Data<BulkVisibilityView>>, ApiError> {
    let Change { visibility, whom, confirmation } = body.fields.finish(Change::read)?;
    let influencers = whom.ids(&state, visibility).await?;
    let mut tx = db::begin(state.pool()).await?;
    let change = VisibilityChange { influencers, visibility, confirmation };
    let done: VisibilityChanged = set_visibilities(&mut tx, &door(&state, &me), &change).await?;
    tx.commit().await?;
    let VisibilityChanged { updated, unchanged, missing } = done;
    Ok(Data::of(BulkVisibilityView { updated, unchanged, failed: failed(missing) }))
}
