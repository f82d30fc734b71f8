//! `/api/v1/ops/limits`: what jobs may use of others, and how much of it is used; changing a limit for all workers at
//! once.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jobs::limits::{self, MAX_MAX, WINDOW_MS_MAX, shape_as_json};
use queue::limits::{Level, Limit, Period, Shape, levels};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use super::queues::whole;
use crate::error::{ApiError, ErrorBody, Fault};
use crate::extract::body::{JsonBody, NoBody};
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::path_id::PathName;
use crate::extract::person::{Operator, Viewer, door};
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::state::ApiState;

/// A limit, or one bucket of it, and how full it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitView {
    /// Name and key together.
    #[schema(example = "meter.calls")]
    id: String,
    /// Its name.
    #[schema(example = "meter.calls")]
    name: String,
    /// The key, empty for limits that are not keyed.
    #[schema(example = "")]
    key: String,
    /// `rate` (calls in a window), `concurrency` (calls at once) or `budget` (minor units in a period).
    #[schema(example = "rate")]
    shape: String,
    /// So many at the most.
    #[schema(example = 600)]
    max: i64,
    /// Of a rate: its window.
    #[schema(example = 60000)]
    window_ms: Option<i64>,
    /// Of a budget: `day` or `month`.
    period: Option<String>,
    /// Drawn in this window, held at once, or spent and reserved in this period.
    #[schema(example = 412)]
    used: i64,
    /// Of what a budget has used: what attempts have reserved that still run.
    #[schema(example = 0)]
    reserved: i64,
    /// When the window or period ends.
    #[schema(format = DateTime)]
    ends_at: Option<String>,
    /// The other side said stop until then.
    #[schema(format = DateTime)]
    blocked_until: Option<String>,
    /// Whether an operator changed it.
    is_edited: bool,
}

impl Listed for LimitView {
    const NAME: &'static str = "limits";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "key",
        "shape",
        "max",
        "windowMs",
        "period",
        "used",
        "reserved",
        "endsAt",
        "blockedUntil",
        "isEdited",
    ];
}

impl From<Level> for LimitView {
    fn from(level: Level) -> Self {
        let ShapeView { shape, max, window_ms, period } = ShapeView::of(&level.limit.shape);
        let name = level.limit.name.into_owned();
        let id = if level.key.is_empty() { name.clone() } else { format!("{name}/{}", level.key) };
        Self {
            id,
            name,
            key: level.key,
            shape,
            max,
            window_ms,
            period,
            used: level.used,
            reserved: level.reserved,
            ends_at: level.ends_at.map(instant),
            blocked_until: level.blocked_until.map(instant),
            is_edited: level.edited,
        }
    }
}

/// What a limit allows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShapeView {
    /// `rate`, `concurrency` or `budget`.
    #[schema(example = "rate")]
    shape: String,
    /// So many at the most.
    #[schema(example = 600)]
    max: i64,
    /// Of a rate: its window.
    #[schema(example = 60000)]
    window_ms: Option<i64>,
    /// Of a budget: `day` or `month`.
    period: Option<String>,
}

impl ShapeView {
    fn of(shape: &Shape) -> Self {
        let json = shape_as_json(shape);
        let text = |field: &str| json[field].as_str().map(str::to_owned);
        Self {
            shape: text("shape").unwrap_or_default(),
            max: json["max"].as_i64().or(json["maxMinor"].as_i64()).unwrap_or_default(),
            window_ms: json["windowMs"].as_i64(),
            period: text("period"),
        }
    }
}

/// List limits
#[utoipa::path(
    get, path = "/api/v1/ops/limits", tag = "Limits", operation_id = "listLimits",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams),
    responses(
        (status = 200, description = "every limit, one entry for each key", content(
            (List<LimitView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<LimitView>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let levels = levels(&mut *conn).await?;
    listing.answer(levels.into_iter().map(LimitView::from).collect())
}

/// What a limit is to allow.
#[derive(Debug, ToSchema)]
#[schema(as = LimitChange, rename_all = "camelCase", example = json!({"shape": "rate", "max": 600, "windowMs": 60000}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct LimitChangeSchema {
    /// `rate`, `concurrency` or `budget`.
    #[schema(example = "rate", pattern = "^(rate|concurrency|budget)$")]
    shape: String,
    /// So many calls, slots or minor units at the most; 0 stops all.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_992_i64, example = 600)]
    max: i64,
    /// Of a rate, required: its window.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 2_678_400_000_i64, example = 60_000)]
    window_ms: i64,
    /// Of a budget, required: `day` or `month`.
    #[schema(required = false, nullable = false, pattern = "^(day|month)$")]
    period: String,
}

struct LimitChange {
    shape: String,
    max: i64,
    window_ms: Option<i64>,
    period: Option<Period>,
}

impl FromFields for LimitChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let shape = fields.required("shape", shape);
        let max = fields.required("max", |value| whole(value, 0, MAX_MAX));
        let window_ms = fields.optional("windowMs", |value| whole(value, 1, WINDOW_MS_MAX));
        let period = fields.optional("period", period);
        Some(Self { shape: shape?, max: max?, window_ms, period })
    }
}

fn shape(value: &Value) -> Result<String, Problem> {
    let name = text(value)?;
    let known = ["rate", "concurrency", "budget"].contains(&name);
    if known {
        Ok(name.to_owned())
    } else {
        Err(Problem::invalid("must be `rate`, `concurrency` or `budget`"))
    }
}

fn period(value: &Value) -> Result<Period, Problem> {
    match text(value)? {
        "day" => Ok(Period::Day),
        "month" => Ok(Period::Month),
        _ => Err(Problem::invalid("must be `day` or `month`")),
    }
}

impl LimitChange {
    /// The shape, when the fields fit each other.
    fn into_shape(self) -> Result<Shape, ApiError> {
        let Self { shape, max, window_ms, period } = self;
        let mut faults = Vec::new();
        let mut fits = |field: &str, is_given: bool, belongs: bool| match (is_given, belongs) {
            (false, true) => faults.push(Fault::new(field, "REQUIRED", format!("a {shape} needs it"))),
            (true, false) => faults.push(Fault::new(field, "INVALID", format!("a {shape} has none"))),
            _ => {}
        };
        fits("windowMs", window_ms.is_some(), shape == "rate");
        fits("period", period.is_some(), shape == "budget");
        if !faults.is_empty() {
            return Err(ApiError::Validation(faults));
        }
        Ok(match (window_ms, period) {
            (Some(window_ms), _) => {
                Shape::Rate { max, window: Duration::from_millis(window_ms.unsigned_abs()) }
            }
            (_, Some(period)) => Shape::Budget { max_minor: max, period },
            _ => Shape::Concurrency { max },
        })
    }
}

/// Set a limit
///
/// For all workers at once; what code and settings say of it no longer counts, until it is reset.
#[utoipa::path(
    put, path = "/api/v1/ops/limits/{name}", tag = "Limits", operation_id = "setLimit",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the limit", example = "meter.calls")),
    request_body = LimitChangeSchema,
    responses(
        (status = 200, description = "what it allows now", body = Data<ShapeView>),
        (status = 400, description = "the name or the body is not valid; all its faults", body = ErrorBody)))]
pub async fn set(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    body: JsonBody,
) -> Result<Json<Data<ShapeView>>, ApiError> {
    let shape = body.fields.finish(LimitChange::read)?.into_shape()?;
    let limit = Limit::new(name, shape);
    let mut tx = db::begin(state.pool()).await?;
    limits::set(&mut tx, &door(&state, &me), &limit).await?;
    tx.commit().await?;
    Ok(Data::of(ShapeView::of(&limit.shape)))
}

/// What a limit is after it was reset.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetView {
    /// What it allows; null: it is gone, because neither code nor settings say anything of it.
    limit: Option<ShapeView>,
}

/// Reset a limit
///
/// It is what code and settings say again; one that they say nothing of is gone.
#[utoipa::path(
    delete, path = "/api/v1/ops/limits/{name}", tag = "Limits", operation_id = "resetLimit",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the limit", example = "meter.calls")),
    responses(
        (status = 200, description = "what it allows now", body = Data<ResetView>),
        (status = 400, description = "the name is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such limit", body = ErrorBody),
        (status = 409, description = "nobody changed it", body = ErrorBody)))]
pub async fn reset(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    NoBody: NoBody,
) -> Result<Json<Data<ResetView>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let limit = limits::reset(&mut tx, &door(&state, &me), &name).await?;
    tx.commit().await?;
    Ok(Data::of(ResetView { limit: limit.map(|limit| ShapeView::of(&limit.shape)) }))
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_document_names_the_bounds_that_hold() {
        let schema = serde_json::to_value(LimitChangeSchema::schema()).unwrap();
        assert_eq!(schema["properties"]["max"]["maximum"], MAX_MAX);
        assert_eq!(schema["properties"]["windowMs"]["maximum"], WINDOW_MS_MAX);
    }
}
