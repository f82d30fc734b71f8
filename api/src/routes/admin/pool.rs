//! `/api/v1/admin/pool`: the pool as admins see it, private creators included, and who may see them (S0 FR-009).

pub mod bulk;
pub mod filter;

use ::pool::search::{From, Place, SearchSort, SortKey};
use ::pool::{ListedEntry, Visibility, listed};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jobs::pool::set_visibility;
use kernel::Platform;
use kernel::ids::InfluencerId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::path_id::PathId;
use crate::extract::person::{Admin, Viewer, door};
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::routes::ops::listing::{ListParams, Listed, Listing};
use crate::routes::ops::reading;
use crate::state::ApiState;
use filter::{PoolFilterParams, PoolQuery, VisibilityQuery};

/// A creator in the list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PoolInfluencer)]
#[serde(rename_all = "camelCase")]
pub struct PoolRow {
    #[schema(value_type = String, example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: InfluencerId,
    /// The vendor's id; null: entered by hand.
    #[schema(example = "vb_prof_123")]
    vb_profile_id: Option<String>,
    #[schema(value_type = String, example = "tiktok")]
    platform: Platform,
    /// Without `@`.
    #[schema(example = "beauty_creator")]
    username: String,
    #[schema(example = "Beauty Creator VN")]
    display_name: String,
    avatar_url: Option<String>,
    #[schema(example = 250000)]
    followers: i64,
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
    /// `PUBLIC`: partners find it. `PRIVATE`: only our own people.
    #[schema(example = "PUBLIC")]
    visibility: String,
    /// `MANUAL`, `PARTNER` or `BULK_IMPORT`.
    #[schema(example = "PARTNER")]
    source: String,
    /// `ACTIVE`, `PAUSED`, `FAILED` or `ARCHIVED`.
    #[schema(example = "ACTIVE")]
    sync_status: String,
    /// When the vendor was asked last.
    #[schema(format = DateTime)]
    synced_at: Option<String>,
    /// Why that failed.
    sync_error: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

impl Listed for PoolRow {
    const NAME: &'static str = "pool";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "platform",
        "username",
        "displayName",
        "followers",
        "engagement",
        "score",
        "category",
        "tier",
        "visibility",
        "source",
        "syncStatus",
        "syncedAt",
        "syncError",
        "vbProfileId",
        "avatarUrl",
        "createdAt",
    ];
}

impl std::convert::From<ListedEntry> for PoolRow {
    fn from(entry: ListedEntry) -> Self {
        Self {
            id: entry.id,
            vb_profile_id: entry.vb_profile_id,
            platform: entry.platform,
            username: entry.username,
            display_name: entry.display_name,
            avatar_url: entry.avatar_url,
            followers: entry.followers,
            engagement: entry.engagement,
            score: entry.score,
            category: entry.category,
            tier: entry.tier.to_ascii_lowercase(),
            visibility: entry.visibility,
            source: entry.source,
            sync_status: entry.sync_status,
            synced_at: entry.synced_at.map(instant),
            sync_error: entry.sync_error,
            created_at: instant(entry.created_at),
        }
    }
}

/// List the pool
///
/// Private creators included, without contact details. Sorted by `score`, `followers`, `engagement` or `createdAt`; unless
/// asked otherwise the newest first, and with `q` whose name is nearest. Whatever was changed before the list was asked
/// for counts.
#[utoipa::path(
    get, path = "/api/v1/admin/pool/influencers", tag = "Pool for admins", operation_id = "listPool",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams, VisibilityQuery, PoolFilterParams),
    responses(
        (status = 200, description = "creators", content(
            (List<PoolRow> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<PoolRow, PoolQuery>,
) -> Result<Response, ApiError> {
    let order = order(&listing)?;
    let from = listing.after::<Place>()?.map_or(From::Offset(0), From::After);
    let index = state.search_index();
    index.in_step(state.pool().acquire()).await?;
    let filter = listing.filter.filter.clone();
    let found = index.find_any(filter, order, from, listing.limit as usize).await?;
    let mut conn = reading(&state).await?;
    let rows = listed(&mut conn, &found.ids).await?;
    listing.page(rows.into_iter().map(PoolRow::from).collect(), found.next)
}

fn order(listing: &Listing<PoolRow, PoolQuery>) -> Result<SearchSort, ApiError> {
    let Some(sort) = listing.sort() else {
        let key = if listing.filter.filter.search.name.is_some() { SortKey::Name } else { SortKey::Created };
        return Ok(SearchSort { key, descending: true });
    };
    let key = match sort.field {
        "score" => SortKey::Score,
        "followers" => SortKey::Followers,
        "engagement" => SortKey::Engagement,
        "createdAt" => SortKey::Created,
        _ => {
            let message =
                "must be one of: score, followers, engagement, createdAt (with `-`: the largest first)";
            return Err(ApiError::invalid("sort", "INVALID", message));
        }
    };
    Ok(SearchSort { key, descending: sort.descending })
}

/// What is to be different.
#[derive(Debug, ToSchema)]
#[schema(as = PoolInfluencerChange, example = json!({"visibility": "PRIVATE"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct ChangeSchema {
    /// `PUBLIC` or `PRIVATE`.
    visibility: String,
}

struct Change(Visibility);

impl FromFields for Change {
    fn read(fields: &mut Fields) -> Option<Self> {
        fields.required("visibility", visibility).map(Self)
    }
}

fn visibility(value: &Value) -> Result<Visibility, Problem> {
    text(value)?.parse().map_err(Problem::invalid)
}

/// Change a creator of the pool
///
/// The next search of any partner knows.
#[utoipa::path(
    patch, path = "/api/v1/admin/pool/influencers/{id}", tag = "Pool for admins",
    operation_id = "changePoolInfluencer",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "its `at_inf_…` id",
        example = "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw")),
    request_body = ChangeSchema,
    responses(
        (status = 200, description = "the creator as it is now", body = Data<PoolRow>),
        (status = 400, description = "the id or the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is none", body = ErrorBody)))]
pub async fn change(
    State(state): State<ApiState>,
    Admin(me): Admin,
    PathId(id): PathId<InfluencerId>,
    body: JsonBody,
) -> Result<Json<Data<PoolRow>>, ApiError> {
    let Change(visibility) = body.fields.finish(Change::read)?;
    let mut tx = db::begin(state.pool()).await?;
    set_visibility(&mut tx, &door(&state, &me), id, visibility).await?;
    let row = listed(&mut tx, &[id]).await?.pop().ok_or(ApiError::NotFound("influencer"))?;
    tx.commit().await?;
    Ok(Data::of(row.into()))
}
