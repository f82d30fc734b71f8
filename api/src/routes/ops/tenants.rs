//! `/api/v1/ops/tenants`: what each is to have of the workers, and has.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::TimeDelta;
use jobs::tenants::{self, ShareChange};
use queue::TenantShare;
use queue::ops::TenantStanding;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use super::owners::Owners;
use super::queues::whole;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, number_in};
use crate::extract::path_id::PathName;
use crate::extract::person::{Admin, Viewer, door};
use crate::routes::body::{Data, List};
use crate::state::ApiState;

const WINDOW_MINUTES_DEFAULT: u32 = 60;
const WINDOW_MINUTES_MAX: u32 = 30 * 24 * 60;

/// A tenant's share.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantView {
    /// The partner's code, or `system`.
    #[schema(example = "techcombank")]
    name: String,
    /// Its weight among those who have work.
    #[schema(example = 4)]
    weight: i16,
    /// Jobs of its share running at once at the most; null: no bound.
    concurrency_max: Option<i32>,
    /// Whether it has jobs that are ready or running.
    has_work: bool,
    /// What its weight is among those who have work, from 0 to 1.
    #[schema(example = 0.25)]
    target: f64,
    /// The part of all running jobs that is its, from 0 to 1.
    #[schema(example = 0.21)]
    actual: f64,
    /// Jobs of its share that run.
    #[schema(example = 6)]
    running: i64,
    /// Jobs of its own that were done in the window.
    #[schema(example = 1280)]
    completed: u64,
    /// Jobs of its own that failed in the window.
    #[schema(example = 4)]
    failed: u64,
    /// What its jobs spent of budgets in their present periods.
    spent: Vec<SpentView>,
}

/// What a tenant's jobs spent of a budget.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpentView {
    /// The budget.
    #[schema(example = "apify.spend")]
    budget: String,
    /// In minor units.
    #[schema(example = 48200)]
    spent_minor: i64,
    /// Reserved by attempts that still run, in minor units.
    #[schema(example = 1200)]
    reserved_minor: i64,
}

impl Listed for TenantView {
    const NAME: &'static str = "tenants";
    const ID: &'static str = "name";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "weight",
        "concurrencyMax",
        "hasWork",
        "target",
        "actual",
        "running",
        "completed",
        "failed",
        "spent",
    ];
}

impl TenantView {
    fn of(standing: TenantStanding, owners: &Owners) -> Self {
        let spent = standing.spent.into_iter().map(|spent| SpentView {
            budget: spent.name,
            spent_minor: spent.spent_minor,
            reserved_minor: spent.reserved_minor,
        });
        Self {
            name: owners.name(standing.tenant),
            weight: standing.weight,
            concurrency_max: standing.concurrency_max,
            has_work: standing.has_work,
            target: standing.target,
            actual: standing.actual,
            running: standing.running,
            completed: standing.completed,
            failed: standing.failed,
            spent: spent.collect(),
        }
    }
}

/// Over how long ends are counted.
#[derive(Debug)]
pub struct Window {
    minutes: u32,
}

impl FromFields for Window {
    fn read(fields: &mut Fields) -> Option<Self> {
        let minutes = fields.optional("windowMinutes", |value| number_in(value, 1..=WINDOW_MINUTES_MAX));
        Some(Self { minutes: minutes.unwrap_or(WINDOW_MINUTES_DEFAULT) })
    }
}

/// List tenants' shares
///
/// Everybody who has work, whose share was ever set, or whose jobs ended in the window.
#[utoipa::path(
    get, path = "/api/v1/ops/tenants", tag = "Tenants", operation_id = "listTenants",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams, ("windowMinutes" = Option<u32>, Query, minimum = 1, maximum = 43_200,
        description = "over how long ends are counted, 60 unless given")),
    responses(
        (status = 200, description = "their shares", content(
            (List<TenantView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<TenantView, Window>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let to = kernel::clock::now();
    let from = to - TimeDelta::minutes(listing.filter.minutes.into());
    let shares = queue::ops::shares(&mut conn, from, to).await?;
    let owners = Owners::load(&mut conn).await?;
    listing.answer(shares.tenants.into_iter().map(|standing| TenantView::of(standing, &owners)).collect())
}

/// What is to be different about a share; fields that are missing stay.
#[derive(Debug, ToSchema)]
#[schema(as = ShareChange, rename_all = "camelCase", example = json!({"weight": 8, "concurrencyMax": 200}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct ShareChangeSchema {
    /// A weight of its own; null: again that of its subscription.
    #[schema(required = false, minimum = 1, maximum = 1_000)]
    weight: Option<i16>,
    /// Jobs of its share running at once at the most; null: no bound.
    #[schema(required = false, minimum = 1, maximum = 2_147_483_647)]
    concurrency_max: Option<i32>,
}

struct Changes(ShareChange);

impl FromFields for Changes {
    fn read(fields: &mut Fields) -> Option<Self> {
        let weight = fields.given("weight", |value| number::<i16>(value, 1_000));
        let concurrency_max = fields.given("concurrencyMax", |value| number::<i32>(value, i32::MAX.into()));
        Some(Self(ShareChange { weight, concurrency_max }))
    }
}

/// A whole number from 1, or nothing.
fn number<T: TryFrom<i64>>(value: &Value, max: i64) -> Result<Option<T>, Problem> {
    match value {
        Value::Null => Ok(None),
        value => whole(value, 1, max).map(|number| T::try_from(number).ok()),
    }
}

/// A tenant's share after a change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareView {
    /// The partner's code, or `system`.
    #[schema(example = "techcombank")]
    name: String,
    /// Its weight among those who have work.
    #[schema(example = 4)]
    weight: i16,
    /// Jobs of its share running at once at the most; null: no bound.
    concurrency_max: Option<i32>,
}

/// Set a tenant's share
///
/// Jobs that are queued already are claimed by the new one.
#[utoipa::path(
    patch, path = "/api/v1/ops/tenants/{name}", tag = "Tenants", operation_id = "setShare",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("name" = String, Path, description = "the partner's code, or `system`", example = "techcombank")),
    request_body = ShareChangeSchema,
    responses(
        (status = 200, description = "the share", body = Data<ShareView>),
        (status = 400, description = "the name or the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "no such tenant", body = ErrorBody)))]
pub async fn set(
    State(state): State<ApiState>,
    Admin(me): Admin,
    PathName(name): PathName,
    body: JsonBody,
) -> Result<Json<Data<ShareView>>, ApiError> {
    let Changes(change) = body.fields.finish(Changes::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let owners = Owners::load(&mut tx).await?;
    let tenant = owners.find(&name).map_err(|_| ApiError::NotFound("tenant"))?;
    let TenantShare { weight, concurrency_max } =
        tenants::set_share(&mut tx, &door(&state, &me), tenant, change).await?;
    tx.commit().await?;
    Ok(Data::of(ShareView { name, weight, concurrency_max }))
}
