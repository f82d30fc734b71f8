//! The hidden subcommand `api-bare`: a handler that runs the same search and nothing around it. Nobody is asked who they
//! are, nothing is limited, logged, counted or compressed. What the API takes beyond it is the price of all that.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use config::{Settings, Sources};
use db::{Pool, keyset};
use kernel::Platform;
use pool::search::{
    From, Preview, SearchFilter, SearchIndex, SearchSort, SortKey, TOTAL_EXACT_MAX, previews,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::process::{say_ready, stopped_with_input};
use super::server::connect;

/// How it is started.
#[derive(Debug, Clone, clap::Args)]
pub struct BareArgs {
    /// The database's address.
    #[arg(long)]
    pub database: String,
}

/// The version of the API's cursors.
const CURSOR_VERSION: u8 = 3;

#[derive(Clone)]
struct Bare(Arc<(Pool, SearchIndex)>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    category: Option<String>,
    platform: Option<String>,
    min_followers: Option<u64>,
    max_followers: Option<u64>,
    min_engagement: Option<f64>,
    max_engagement: Option<f64>,
    min_score: Option<u8>,
    sort: Option<String>,
    limit: Option<u32>,
    offset: Option<u32>,
    cursor: Option<String>,
}

/// Serves until standard input ends.
///
/// # Errors
/// When the database cannot be reached.
pub async fn run(args: BareArgs) -> anyhow::Result<()> {
    let pool = connect(&Settings::load(&Sources::default())?, &args.database).await?;
    let state = Bare(Arc::new((pool, SearchIndex::default())));
    let router = Router::new().route("/api/v1/partners/pool/search", get(search)).with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.context("taking a port")?;
    let stop = stopped_with_input()?;
    say_ready(listener.local_addr()?.port());
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    serving.await?;
    Ok(())
}

async fn search(
    State(state): State<Bare>,
    Query(params): Query<Params>,
) -> Result<Json<Value>, (StatusCode, String)> {
    found(&state, params)
        .await
        .map(Json)
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn found(Bare(state): &Bare, params: Params) -> anyhow::Result<Value> {
    let (pool, index) = &**state;
    let (limit, offset) = (params.limit.unwrap_or(20), params.offset.unwrap_or(0));
    let from = match &params.cursor {
        Some(cursor) => From::After(keyset::decode(CURSOR_VERSION, cursor)?),
        None => From::Offset(offset as usize),
    };
    let sort = sort(params.sort.as_deref())?;
    let filter = filter(&params)?;
    index.in_step(pool.acquire()).await?;
    let found = index.find(filter, sort, from, limit as usize).await?;
    let mut conn = pool.acquire().await?;
    let data = previews(&mut conn, &found.ids).await?;
    let next = found.next.map(|place| keyset::encode(CURSOR_VERSION, &place)).transpose()?;
    let mut pagination = json!({
        "total": found.total, "limit": limit, "offset": offset, "hasMore": next.is_some(), "nextCursor": next,
    });
    if found.total > TOTAL_EXACT_MAX {
        pagination["totalIsEstimate"] = json!(true);
    }
    let data: Vec<Value> = data.into_iter().map(preview).collect();
    Ok(json!({ "success": true, "data": data, "pagination": pagination }))
}

fn filter(params: &Params) -> anyhow::Result<SearchFilter> {
    Ok(SearchFilter {
        category: params.category.as_deref().map(str::parse).transpose()?,
        platform: params.platform.as_deref().map(str::parse::<Platform>).transpose()?,
        followers_min: params.min_followers,
        followers_max: params.max_followers,
        engagement_min: params.min_engagement,
        engagement_max: params.max_engagement,
        score_min: params.min_score,
        name: None,
    })
}

fn sort(name: Option<&str>) -> anyhow::Result<SearchSort> {
    let Some(name) = name else { return Ok(SearchSort::default()) };
    let (name, descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
    let key = match name {
        "score" => SortKey::Score,
        "followers" => SortKey::Followers,
        "engagement" => SortKey::Engagement,
        _ => return Err(anyhow!("no such order")),
    };
    Ok(SearchSort { key, descending })
}

fn preview(preview: Preview) -> Value {
    json!({
        "id": preview.id, "platform": preview.platform, "username": preview.username,
        "displayName": preview.display_name, "avatarUrl": preview.avatar_url, "followers": preview.followers,
        "category": preview.category, "tier": preview.tier.to_ascii_lowercase(), "score": preview.score,
        "previewOnly": true,
    })
}
