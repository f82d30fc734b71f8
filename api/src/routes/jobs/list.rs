//! `GET /api/v1/jobs`: the partner's jobs, the newest first.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use db::keyset;
use kernel::ids::{JobId, TenantId};
use queue::{JobStatus, ListFilter};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Expected, JobView, PARTNER_KINDS};
use crate::error::{ApiError, ErrorBody};
use crate::estimate;
use crate::extract::fields::{Fields, FromFields, Problem, instant, number_in, text};
use crate::extract::partner::Partner;
use crate::extract::query::Query;
use crate::state::ApiState;

const LIMIT_DEFAULT: u32 = 20;
const LIMIT_MAX: u32 = 100;
const CURSOR_VERSION: u8 = 1;

/// Which jobs, and which page of them.
#[derive(Debug)]
pub struct Page {
    limit: u32,
    older_than: Option<JobId>,
    kind: Option<&'static str>,
    status: Option<JobStatus>,
    created_after: Option<DateTime<Utc>>,
    created_before: Option<DateTime<Utc>>,
}

impl FromFields for Page {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            limit: fields.optional("limit", |value| number_in(value, 1..=LIMIT_MAX)).unwrap_or(LIMIT_DEFAULT),
            older_than: fields.optional("cursor", |value| {
                keyset::decode(CURSOR_VERSION, text(value)?).map_err(Problem::invalid)
            }),
            kind: fields.optional("kind", |value| kind(text(value)?)),
            status: fields.optional("status", |value| text(value)?.parse().map_err(Problem::invalid)),
            created_after: fields.optional("createdAfter", instant),
            created_before: fields.optional("createdBefore", instant),
        })
    }
}

fn kind(name: &str) -> Result<&'static str, Problem> {
    let known = PARTNER_KINDS.into_iter().find(|kind| *kind == name);
    known.ok_or_else(|| Problem::invalid(format!("must be one of: {}", PARTNER_KINDS.join(", "))))
}

impl Page {
    fn filter(&self, tenant: TenantId) -> ListFilter {
        ListFilter {
            tenant: Some(tenant),
            kinds: self
                .kind
                .map_or_else(|| PARTNER_KINDS.to_vec(), |kind| vec![kind])
                .into_iter()
                .map(str::to_owned)
                .collect(),
            status: self.status,
            created_from: self.created_after,
            created_before: self.created_before,
            older_than: self.older_than,
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobsBody {
    /// Always true.
    success: bool,
    data: Vec<JobView>,
    pagination: Pagination,
}

/// Where the page stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    /// Most entries of a page.
    #[schema(example = 50)]
    limit: u32,
    /// Give it as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// List jobs
///
/// The partner's jobs, the newest first. Unknown parameters are refused.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "Jobs", operation_id = "listJobs",
    security(("partnerId" = [], "apiKey" = [])),
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "entries a page, 20 unless given"),
        ("cursor" = Option<String>, Query, description = "`nextCursor` of the page before"),
        ("kind" = Option<String>, Query, description = "only this kind", example = "profiles.enrich"),
        ("status" = Option<String>, Query,
            description = "only `queued`, `processing`, `completed`, `failed` or `cancelled`"),
        ("createdAfter" = Option<DateTime<Utc>>, Query, description = "stored at or after this instant (RFC 3339)"),
        ("createdBefore" = Option<DateTime<Utc>>, Query, description = "stored before this instant (RFC 3339)"),
    ),
    responses(
        (status = 200, description = "a page of jobs", body = JobsBody),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Partner(partner): Partner,
    Query(page): Query<Page>,
) -> Result<Json<JobsBody>, ApiError> {
    // One more than shown tells whether there is a next page.
    let wanted = i64::from(page.limit) + 1;
    let mut conn = state.pool().acquire().await?;
    let mut jobs = queue::list(&mut conn, &page.filter(partner.tenant), wanted).await?;
    drop(conn);
    let has_more = jobs.len() > page.limit as usize;
    jobs.truncate(page.limit as usize);
    let last = jobs.last().filter(|_| has_more);
    let next_cursor = last.map(|job| keyset::encode(CURSOR_VERSION, &job.id)).transpose();
    let now = kernel::clock::now();
    let live: BTreeSet<&str> =
        jobs.iter().filter(|job| !job.status.has_ended()).map(|job| job.kind.as_str()).collect();
    let mut usual = BTreeMap::new();
    for kind in live {
        usual.insert(kind.to_owned(), estimate::usual(&state, kind, partner.tenant).await);
    }
    let viewed = jobs.into_iter().map(|job| {
        let usual = usual.get(&job.kind).copied().flatten().filter(|_| !job.status.has_ended());
        let remaining = usual.map(|usual| estimate::remaining(usual, job.created_at, now));
        JobView::of(job, Expected { remaining, eta: None }, now)
    });
    let data = viewed.collect();
    Ok(Json(JobsBody {
        success: true,
        data,
        pagination: Pagination {
            limit: page.limit,
            next_cursor: next_cursor.map_err(ApiError::internal)?,
            has_more,
        },
    }))
}
