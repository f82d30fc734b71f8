//! `GET /api/v1/ops/jobs`: jobs that match, page by page.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use db::keyset;
use queue::{Order, SearchCursor, search};
use serde::Serialize;
use utoipa::ToSchema;

use super::OpsJob;
use super::filter::{JobFilter, JobFilterParams};
use crate::error::{ApiError, ErrorBody};
use crate::extract::person::Viewer;
use crate::routes::body::Pagination;
use crate::routes::ops::listing::{CURSOR_VERSION, Format, ListParams, Listing};
use crate::state::ApiState;

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpsJobs {
    /// Always true.
    success: bool,
    data: Vec<OpsJob>,
    pagination: Pagination,
    /// So many jobs were looked at that the page ends before it is full: `nextCursor` goes on.
    partial: bool,
}

/// Find jobs
///
/// The newest first; `sort=createdAt` gives the oldest. Where only failed and cancelled jobs are asked for, by when they
/// ended. A question looks at some 10,000 jobs at the most: one that needs more answers `partial`, also with an empty
/// page, and goes on with `nextCursor`.
#[utoipa::path(
    get, path = "/api/v1/ops/jobs", tag = "Jobs for operators", operation_id = "findJobs",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams, JobFilterParams),
    responses(
        (status = 200, description = "a page of jobs", content(
            (OpsJobs = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<OpsJob, JobFilter>,
) -> Result<Response, ApiError> {
    let order = order(&listing)?;
    let after: Option<SearchCursor> = listing.after()?;
    let mut conn = crate::routes::ops::reading(&state).await?;
    let (filter, owners) = listing.filter.resolve(&mut conn).await?;
    let limit = listing.limit as usize;
    // A file is put together of as many pages as it takes.
    let mut found = search(&mut conn, &filter, order, after.as_ref(), limit).await?;
    if listing.format == Format::Csv {
        while found.jobs.len() < limit
            && !found.partial
            && let Some(next) = found.next
        {
            let more = search(&mut conn, &filter, order, Some(&next), limit - found.jobs.len()).await?;
            found.jobs.extend(more.jobs);
            (found.next, found.partial) = (more.next, more.partial);
        }
    }
    let jobs = found.jobs.into_iter().map(|job| OpsJob::of(job, &owners)).collect();
    if listing.format == Format::Csv {
        return listing.page(jobs, found.next);
    }
    let next_cursor = found
        .next
        .map(|next| keyset::encode(CURSOR_VERSION, &next))
        .transpose()
        .map_err(ApiError::internal)?;
    let pagination = Pagination { limit: listing.limit, has_more: next_cursor.is_some(), next_cursor };
    Ok(axum::Json(OpsJobs { success: true, data: jobs, pagination, partial: found.partial }).into_response())
}

fn order(listing: &Listing<OpsJob, JobFilter>) -> Result<Order, ApiError> {
    match listing.sort() {
        None => Ok(Order::Newest),
        Some(sort) if ["createdAt", "finishedAt"].contains(&sort.field) => {
            Ok(if sort.descending { Order::Newest } else { Order::Oldest })
        }
        Some(_) => Err(ApiError::invalid(
            "sort",
            "INVALID",
            "must be one of: createdAt, finishedAt (with `-`: the newest first); which of them a search can sort by \
             follows from what it asks for",
        )),
    }
}
