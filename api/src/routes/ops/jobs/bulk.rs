//! `/api/v1/ops/jobs/bulk`: many jobs at once, seen before they are touched.
//!
//! A preview answers what would be touched and the filter, frozen in time; submitted as it is, what is done is what was
//! seen. The change itself is a job with progress, which goes on wherever it is interrupted and can be cancelled.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jobs::ops::{BulkGroups, BulkPreview, BulkRequest, RATE_MAX, preview_bulk, start_bulk};
use queue::JobSearch;
use queue::bulk::BulkAction;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::OpsJob;
use super::count::CountView;
use super::filter::{JobFilter, JobFilterParams};
use crate::error::{ApiError, ErrorBody, Fault};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::person::{Operator, door};
use crate::extract::query::Query;
use crate::routes::body::Data;
use crate::routes::ops::owners::{Owners, name};
use crate::state::ApiState;

/// Everything a frozen filter may say.
const FILTER_FIELDS: [&str; 16] = [
    "states",
    "statuses",
    "kinds",
    "queues",
    "tenant",
    "key",
    "requestId",
    "batch",
    "code",
    "signature",
    "createdFrom",
    "createdBefore",
    "finishedFrom",
    "finishedBefore",
    "ids",
    "arg",
];

/// What a bulk change would touch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkPreviewView {
    /// `redrive` or `cancel`.
    #[schema(example = "redrive")]
    action: &'static str,
    /// The filter, bounded in time: submit it as it is.
    #[schema(value_type = Object)]
    filter: Value,
    /// How many match.
    matched: CountView,
    /// The first of them.
    samples: Vec<OpsJob>,
    /// Of how many the groups are.
    #[schema(example = 12)]
    looked_at: u64,
    /// Whether more match than those.
    is_partial: bool,
    /// How many there are of each kind.
    kinds: BTreeMap<String, u64>,
    /// In each queue.
    queues: BTreeMap<String, u64>,
    /// Of each owner.
    owners: BTreeMap<String, u64>,
    /// With each error, by code and signature.
    errors: Vec<ErrorCount>,
}

/// Jobs that failed alike.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorCount {
    #[schema(example = "VENDOR_UNAVAILABLE")]
    error_code: String,
    #[schema(example = "the profile service did not answer")]
    error_signature: String,
    #[schema(example = 12)]
    jobs: u64,
}

impl BulkPreviewView {
    fn of(action: BulkAction, preview: BulkPreview, owners: &Owners) -> Self {
        let BulkGroups { kinds, queues, tenants, signatures } = preview.groups;
        let errors = signatures.into_iter().map(|((error_code, error_signature), jobs)| ErrorCount {
            error_code,
            error_signature,
            jobs,
        });
        Self {
            action: action.as_str(),
            filter: shown(&preview.filter, owners),
            matched: CountView { count: preview.matched.count, is_estimated: preview.matched.is_estimated },
            samples: preview.samples.into_iter().map(|job| OpsJob::of(job, owners)).collect(),
            looked_at: preview.looked_at,
            is_partial: preview.is_partial,
            kinds,
            queues,
            owners: tenants.into_iter().map(|(tenant, jobs)| (owners.name(tenant), jobs)).collect(),
            errors: errors.collect(),
        }
    }
}

/// A filter as it is submitted: with the owner's name.
fn shown(filter: &JobSearch, owners: &Owners) -> Value {
    let mut json = json!(filter);
    if let Some(tenant) = filter.tenant {
        json["tenant"] = owners.name(tenant).into();
    }
    json
}

fn action(value: &Value) -> Result<BulkAction, Problem> {
    match text(value)? {
        "redrive" => Ok(BulkAction::Redrive),
        "cancel" => Ok(BulkAction::Cancel),
        _ => Err(Problem::invalid("must be `redrive` or `cancel`")),
    }
}

/// What is to be done, to which jobs.
#[derive(Debug)]
pub struct Wish {
    action: BulkAction,
    filter: JobFilter,
}

impl FromFields for Wish {
    fn read(fields: &mut Fields) -> Option<Self> {
        let action = fields.optional("action", action).unwrap_or(BulkAction::Redrive);
        Some(Self { action, filter: JobFilter::read(fields)? })
    }
}

/// Preview a bulk change
///
/// What it would touch, and its filter frozen. Nothing is changed.
#[utoipa::path(
    get, path = "/api/v1/ops/jobs/bulk", tag = "Jobs for operators", operation_id = "previewBulk",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(JobFilterParams, ("action" = Option<String>, Query,
        description = "`redrive` (failed jobs live again, and cancelled ones where states are given; unless given) or `cancel` (live jobs are called off)",
        example = "redrive")),
    responses(
        (status = 200, description = "what it would touch", body = Data<BulkPreviewView>),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn preview(
    State(state): State<ApiState>,
    Operator(_me): Operator,
    Query(wish): Query<Wish>,
) -> Result<Json<Data<BulkPreviewView>>, ApiError> {
    let mut conn = crate::routes::ops::reading(&state).await?;
    let (search, owners) = wish.filter.resolve(&mut conn).await?;
    let preview = preview_bulk(&mut conn, wish.action, search).await?;
    Ok(Data::of(BulkPreviewView::of(wish.action, preview, &owners)))
}

/// A bulk change.
#[derive(Debug, ToSchema)]
#[schema(as = BulkChange, rename_all = "camelCase", example = json!({
    "action": "redrive", "filter": {"kinds": ["profiles.fetch"], "code": "VENDOR_UNAVAILABLE"}, "ratePerS": 50
}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct BulkChangeSchema {
    /// `redrive` or `cancel`.
    #[schema(example = "redrive", pattern = "^(redrive|cancel)$")]
    action: String,
    /// The filter of a preview: `states`, `statuses`, `kinds`, `queues`, `tenant`, `key`, `requestId`, `batch`, `code`,
    /// `signature`, `createdFrom`, `createdBefore`, `finishedFrom`, `finishedBefore`, `ids`, `arg`. At least one.
    #[schema(value_type = Object, example = json!({"kinds": ["profiles.fetch"], "code": "VENDOR_UNAVAILABLE"}))]
    filter: Value,
    /// Jobs a second at the most; all at once without it.
    #[schema(required = false, nullable = false, exclusive_minimum = 0, maximum = 100_000, example = 50)]
    rate_per_s: f64,
}

struct BulkChange {
    action: BulkAction,
    filter: JobSearch,
    tenant: Option<String>,
    rate_per_s: Option<f64>,
}

impl FromFields for BulkChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let action = fields.required("action", action);
        let filter = fields.required("filter", frozen);
        let rate_per_s = fields.optional("ratePerS", rate);
        let (filter, tenant) = filter?;
        Some(Self { action: action?, filter, tenant, rate_per_s })
    }
}

fn rate(value: &Value) -> Result<f64, Problem> {
    let fits = value.as_f64().filter(|rate| *rate > 0.0 && *rate <= RATE_MAX);
    fits.ok_or_else(|| Problem::invalid(format!("must be a number above 0 and at most {RATE_MAX}")))
}

/// A filter, and the owner that it names. A misspelt field must not match everything.
fn frozen(value: &Value) -> Result<(JobSearch, Option<String>), Problem> {
    let Value::Object(fields) = value else { return Err(Problem::wrong_type("an object")) };
    let unknown: Vec<&str> =
        fields.keys().map(String::as_str).filter(|field| !FILTER_FIELDS.contains(field)).collect();
    if !unknown.is_empty() {
        return Err(Problem::invalid(format!("has no field {}", unknown.join(", "))));
    }
    if fields.is_empty() {
        return Err(Problem::invalid("must say which jobs; to mean all, give states"));
    }
    // PostgreSQL's text holds no NUL.
    if value.to_string().contains("\\u0000") {
        return Err(Problem::invalid("must not contain NUL characters"));
    }
    let mut fields: Map<String, Value> = fields.clone();
    let tenant = fields.remove("tenant").map(|tenant| name(&tenant)).transpose()?;
    let search = serde_json::from_value(Value::Object(fields)).map_err(Problem::invalid)?;
    Ok((search, tenant))
}

/// A bulk change that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkStartedView {
    /// The job that carries it out: its progress counts the jobs it has met, its result says what became of them, and
    /// cancelling it stops it.
    #[schema(example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: String,
    /// The filter as it is carried out.
    #[schema(value_type = Object)]
    filter: Value,
    /// How many match now.
    matched: CountView,
}

/// Change many jobs
///
/// Stores a job that carries it out at a rate. It goes on wherever it is interrupted, and touches no job twice.
#[utoipa::path(
    post, path = "/api/v1/ops/jobs/bulk", tag = "Jobs for operators", operation_id = "startBulk",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    request_body = BulkChangeSchema,
    responses(
        (status = 202, description = "the job that carries it out", body = Data<BulkStartedView>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody)))]
pub async fn start(
    State(state): State<ApiState>,
    Operator(me): Operator,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let BulkChange { action, mut filter, tenant, rate_per_s } = body.fields.finish(BulkChange::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let owners = Owners::load(&mut tx).await?;
    if let Some(tenant) = tenant {
        let unknown =
            |_| ApiError::Validation(vec![Fault::new("filter.tenant", "INVALID", "is nobody's name")]);
        filter.tenant = Some(owners.find(&tenant).map_err(unknown)?);
    }
    let started = start_bulk(&mut tx, &door(&state, &me), BulkRequest { action, filter, rate_per_s }).await?;
    tx.commit().await?;
    state.waker().wake(started.queue);
    let view = BulkStartedView {
        job_id: started.job.to_string(),
        filter: shown(&started.filter, &owners),
        matched: CountView { count: started.matched.count, is_estimated: started.matched.is_estimated },
    };
    Ok((StatusCode::ACCEPTED, Data::of(view)).into_response())
}
