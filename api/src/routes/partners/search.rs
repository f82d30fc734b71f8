//! `GET /api/v1/partners/pool/search`: find creators in the shared pool (S0 FR-002).

use axum::Json;
use axum::extract::State;
use db::keyset;
use kernel::Platform;
use kernel::ids::InfluencerId;
use partners::Feature;
use pool::search::{From, NameQuery, Preview, SearchFilter, SearchSort, SortKey, TOTAL_EXACT_MAX, previews};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, number_in, text};
use crate::extract::partner::Subscriber;
use crate::extract::query::Query;
use crate::state::ApiState;

/// Creators of a page unless asked otherwise.
const LIMIT_DEFAULT: u32 = 20;
/// Most creators of a page.
const LIMIT_MAX: u32 = 100;
/// Deeper pages are reached by cursor.
const OFFSET_MAX: u32 = 10_000;
const CURSOR_VERSION: u8 = 3;
/// Names that are typed are not longer.
const NAME_CHARS_MAX: usize = 100;
/// Nobody has more followers than there are numbers in four bytes.
const FOLLOWERS_MAX: u32 = u32::MAX;

/// Whom to find, and which page.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what `Search` reads.
pub struct SearchParams {
    /// Part of the username or the name, up to 100 characters: its words in any order, without regard to case and
    /// accents, each as it is, as the beginning of a word, or with a slip.
    #[param(min_length = 1, max_length = 100, required = false, nullable = false, example = "nguyen linh")]
    q: Option<String>,
    /// `beauty`, `tech`, `lifestyle`, `food`, `travel` or `gaming`.
    #[param(required = false, nullable = false, example = "beauty")]
    category: Option<String>,
    /// `tiktok`, `youtube`, `instagram` or `facebook`.
    #[param(required = false, nullable = false, example = "tiktok")]
    platform: Option<String>,
    /// At least so many followers.
    #[param(minimum = 0, required = false, nullable = false, example = 10000)]
    min_followers: Option<u32>,
    /// At most so many followers.
    #[param(minimum = 0, required = false, nullable = false, example = 1000000)]
    max_followers: Option<u32>,
    /// Engagement of at least so many percent.
    #[param(minimum = 0, required = false, nullable = false, example = 3.0)]
    min_engagement: Option<f64>,
    /// Engagement of at most so many percent.
    #[param(minimum = 0, required = false, nullable = false)]
    max_engagement: Option<f64>,
    /// A score of at least so much.
    #[param(minimum = 0, maximum = 100, required = false, nullable = false, example = 60)]
    min_score: Option<u32>,
    /// `score`, `followers` or `engagement`; with `-` in front, the largest first. Unless given `-score`, and
    /// with `q` whose name is nearest.
    #[param(required = false, nullable = false, pattern = "^-?(score|followers|engagement)$")]
    sort: Option<String>,
    /// Creators of a page, 20 unless given.
    #[param(minimum = 1, maximum = 100, required = false, nullable = false, example = 20)]
    limit: Option<u32>,
    /// Creators to leave out; further pages are reached by `cursor`.
    #[param(minimum = 0, maximum = 10000, required = false, nullable = false, example = 0)]
    offset: Option<u32>,
    /// `nextCursor` of the page before, with the same filters and order; instead of `offset`.
    #[param(required = false, nullable = false)]
    cursor: Option<String>,
}

/// A creator without contact details and metrics.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewView {
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
    #[schema(example = 250000)]
    followers: i64,
    #[schema(example = "beauty")]
    category: Option<String>,
    /// Of the creator, by its followers: `standard`, `premium` or `vip`.
    #[schema(example = "premium")]
    tier: String,
    /// 0 to 100.
    #[schema(example = 78)]
    score: i32,
    /// Always true: the rest comes with an approved request.
    preview_only: bool,
}

impl std::convert::From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        Self {
            id: preview.id,
            platform: preview.platform,
            username: preview.username,
            display_name: preview.display_name,
            avatar_url: preview.avatar_url,
            followers: preview.followers,
            category: preview.category,
            tier: preview.tier.to_ascii_lowercase(),
            score: preview.score,
            preview_only: true,
        }
    }
}

/// Where the page stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchPagination {
    /// Creators that match in all: exact up to 10,000.
    #[schema(example = 1500)]
    total: usize,
    /// There beyond 10,000: the total may be an estimate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    total_is_estimate: bool,
    #[schema(example = 20)]
    limit: u32,
    /// As asked for; 0 with a cursor.
    #[schema(example = 0)]
    offset: u32,
    /// Whether creators follow.
    has_more: bool,
    /// Give it as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
}

/// A page of creators.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchResult {
    /// Always true.
    success: bool,
    data: Vec<PreviewView>,
    pagination: SearchPagination,
}

/// Search the pool
///
/// Answers with public creators only, as previews: contact details and metrics come with an approved request. Searching
/// costs no quota. Whatever was changed before the search began counts. Creators that are equal in what they are sorted
/// by go by score, then followers, then id, so that pages follow each other. With `q` those come first whose name is nearest
/// to it.
#[utoipa::path(
    get, path = "/api/v1/partners/pool/search", tag = "Pool", operation_id = "searchPool",
    security(("partnerId" = [], "apiKey" = [])),
    params(SearchParams),
    responses(
        (status = 200, description = "a page of creators", body = SearchResult),
        (status = 400, description = "parameters are wrong; all of them", body = ErrorBody)))]
pub async fn search(
    State(state): State<ApiState>,
    subscriber: Subscriber,
    Query(search): Query<Search>,
) -> Result<Json<SearchResult>, ApiError> {
    subscriber.needs(Feature::PoolSearch)?;
    let index = state.search_index();
    index.in_step(state.pool().acquire()).await?;
    let found = index.find(search.filter, search.sort, search.from, search.limit as usize).await?;
    let mut conn = state.pool().acquire().await?;
    let data = previews(&mut conn, &found.ids).await?;
    let next_cursor = found.next.map(|place| keyset::encode(CURSOR_VERSION, &place)).transpose();
    Ok(Json(SearchResult {
        success: true,
        data: data.into_iter().map(PreviewView::from).collect(),
        pagination: SearchPagination {
            total: found.total,
            total_is_estimate: found.total > TOTAL_EXACT_MAX,
            limit: search.limit,
            offset: search.offset,
            has_more: found.next.is_some(),
            next_cursor: next_cursor.map_err(ApiError::internal)?,
        },
    }))
}

/// The request's query as values.
#[derive(Debug)]
pub struct Search {
    filter: SearchFilter,
    sort: SearchSort,
    from: From,
    limit: u32,
    offset: u32,
}

impl FromFields for Search {
    fn read(fields: &mut Fields) -> Option<Self> {
        let filter = search_filter(fields);
        let offset = fields.optional("offset", |value| number_in(value, 0..=OFFSET_MAX));
        let after = fields.optional("cursor", |value| {
            keyset::decode(CURSOR_VERSION, text(value)?).map_err(|error| Problem::invalid(error.to_string()))
        });
        if after.is_some() && offset.is_some() {
            fields.fault("offset", "INVALID", "give either `offset` or `cursor`");
        }
        let offset = offset.unwrap_or(0);
        Some(Self {
            sort: fields.optional("sort", sort).unwrap_or_else(|| filter.order()),
            filter,
            from: after.map_or(From::Offset(offset as usize), From::After),
            limit: fields.optional("limit", |value| number_in(value, 1..=LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT),
            offset,
        })
    }
}

/// What partners and admins search by alike.
pub(crate) fn search_filter(fields: &mut Fields) -> SearchFilter {
    let followers = |value: &Value| number_in(value, 0..=FOLLOWERS_MAX).map(u64::from);
    let filter = SearchFilter {
        name: fields.optional("q", name),
        category: fields.optional("category", |value| text(value)?.parse().map_err(Problem::invalid)),
        platform: fields.optional("platform", platform),
        followers_min: fields.optional("minFollowers", followers),
        followers_max: fields.optional("maxFollowers", followers),
        engagement_min: fields.optional("minEngagement", percent),
        engagement_max: fields.optional("maxEngagement", percent),
        score_min: fields.optional("minScore", |value| {
            number_in(value, 0..=100).map(|score| u8::try_from(score).unwrap_or(100))
        }),
    };
    if filter.followers_min > filter.followers_max && filter.followers_max.is_some() {
        fields.fault("minFollowers", "INVALID", "must not be above maxFollowers");
    }
    if filter.engagement_min > filter.engagement_max && filter.engagement_max.is_some() {
        fields.fault("minEngagement", "INVALID", "must not be above maxEngagement");
    }
    filter
}

fn name(value: &Value) -> Result<NameQuery, Problem> {
    let typed = text(value)?;
    if typed.chars().count() > NAME_CHARS_MAX {
        return Err(Problem::invalid(format!("must have 1 to {NAME_CHARS_MAX} characters")));
    }
    NameQuery::new(typed).map_err(Problem::invalid)
}

fn platform(value: &Value) -> Result<Platform, Problem> {
    let name = text(value)?.to_ascii_lowercase();
    name.parse().map_err(|_| Problem::invalid("must be one of: tiktok, youtube, instagram, facebook"))
}

/// A percentage in a query string.
fn percent(value: &Value) -> Result<f64, Problem> {
    let text = text(value)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = plain.then(|| text.parse::<f64>().ok()).flatten();
    number
        .filter(|number| (0.0..=100_000.0).contains(number))
        .ok_or_else(|| Problem::invalid("must be a number of percent such as 3.5, at least 0"))
}

fn sort(value: &Value) -> Result<SearchSort, Problem> {
    let name = text(value)?;
    let (name, descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
    let key = match name {
        "score" => SortKey::Score,
        "followers" => SortKey::Followers,
        "engagement" => SortKey::Engagement,
        _ => {
            let message = "must be one of: score, followers, engagement (with `-`: the largest first)";
            return Err(Problem::invalid(message));
        }
    };
    Ok(SearchSort { key, descending })
}
