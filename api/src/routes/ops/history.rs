//! `GET /api/v1/ops/history`: what became of jobs, minute by minute or hour by hour.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use queue::Queue;
use queue::history::{Durations, HistoryFilter, Point, Step, history};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use super::owners::{Owners, name};
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, instant as read_instant, text};
use crate::extract::person::Viewer;
use crate::routes::body::List;
use crate::routes::instant;
use crate::state::ApiState;

/// Buckets of one answer.
const POINTS_MAX: i64 = 3_000;

/// What ended in one bucket of time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointView {
    /// The bucket's beginning.
    #[schema(format = DateTime)]
    at: String,
    /// Jobs that were done.
    #[schema(example = 1280)]
    completed: u64,
    /// Jobs that were given up.
    #[schema(example = 4)]
    failed: u64,
    /// Jobs that were called off.
    #[schema(example = 1)]
    cancelled: u64,
    /// Attempts that all of these took.
    #[schema(example = 1310)]
    attempts: u64,
    /// How often they were taken back from dead workers.
    #[schema(example = 0)]
    taken_back: u64,
    /// From being stored to the first attempt: the median, in milliseconds, right within a factor of two.
    wait_p50_ms: Option<u64>,
    /// 95 of 100 waited no longer.
    wait_p95_ms: Option<u64>,
    /// From the first attempt to the end: the median, in milliseconds, right within a factor of two.
    run_p50_ms: Option<u64>,
    /// 95 of 100 took no longer.
    run_p95_ms: Option<u64>,
    /// Jobs that could run, when somebody looked.
    ready: Option<u64>,
    /// Jobs that ran.
    running: Option<u64>,
    /// How long the oldest had been ready, in seconds.
    oldest_ready_s: Option<f64>,
}

impl Listed for PointView {
    const NAME: &'static str = "history";
    const ID: &'static str = "at";
    const COLUMNS: &'static [&'static str] = &[
        "at",
        "completed",
        "failed",
        "cancelled",
        "attempts",
        "takenBack",
        "waitP50Ms",
        "waitP95Ms",
        "runP50Ms",
        "runP95Ms",
        "ready",
        "running",
        "oldestReadyS",
    ];
}

impl From<Point> for PointView {
    fn from(point: Point) -> Self {
        let depth = point.depth;
        Self {
            at: instant(point.at),
            completed: point.completed,
            failed: point.failed,
            cancelled: point.cancelled,
            attempts: point.attempts,
            taken_back: point.taken_back,
            wait_p50_ms: quantile(&point.waits, 0.5),
            wait_p95_ms: quantile(&point.waits, 0.95),
            run_p50_ms: quantile(&point.runs, 0.5),
            run_p95_ms: quantile(&point.runs, 0.95),
            ready: depth.as_ref().map(|depth| depth.ready),
            running: depth.as_ref().map(|depth| depth.running),
            oldest_ready_s: depth.and_then(|depth| depth.oldest_ready).map(|age| age.as_secs_f64()),
        }
    }
}

fn quantile(durations: &Durations, share: f64) -> Option<u64> {
    durations.quantile(share).map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Which stretch, of what.
#[derive(Debug)]
pub struct Stretch {
    queue: Option<Queue>,
    kind: Option<String>,
    tenant: Option<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    step: Option<Step>,
}

impl FromFields for Stretch {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            queue: fields.optional("queue", |value| text(value)?.parse().map_err(Problem::invalid)),
            kind: fields.optional("kind", name),
            tenant: fields.optional("tenant", name),
            from: fields.optional("from", read_instant),
            to: fields.optional("to", read_instant),
            step: fields.optional("step", step),
        })
    }
}

fn step(value: &Value) -> Result<Step, Problem> {
    match text(value)? {
        "minute" => Ok(Step::Minute),
        "hour" => Ok(Step::Hour),
        _ => Err(Problem::invalid("must be `minute` or `hour`")),
    }
}

/// History
///
/// Of the last two hours unless asked otherwise. Minutes are kept for two days, hours for ninety; an answer has 3,000
/// buckets at the most. A minute is there some 15 to 75 seconds after its end.
#[utoipa::path(
    get, path = "/api/v1/ops/history", tag = "History", operation_id = "getHistory",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("queue" = Option<String>, Query, description = "only of this queue", example = "enrich"),
        ("kind" = Option<String>, Query, description = "only this kind"),
        ("tenant" = Option<String>, Query, description = "only of this partner's code, or `system`"),
        ("from" = Option<DateTime<Utc>>, Query, description = "buckets that begin at or after this instant"),
        ("to" = Option<DateTime<Utc>>, Query, description = "buckets that begin before this instant"),
        ("step" = Option<String>, Query, description = "`minute` (unless given) or `hour`")),
    responses(
        (status = 200, description = "the buckets, the oldest first", content(
            (List<PointView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<PointView, Stretch>,
) -> Result<Response, ApiError> {
    let Stretch { queue, kind, tenant, from, to, step } = &listing.filter;
    let step = step.unwrap_or(Step::Minute);
    let to = to.unwrap_or_else(kernel::clock::now);
    let from = from.unwrap_or_else(|| to.checked_sub_signed(TimeDelta::hours(2)).unwrap_or(to));
    check_length(from, to, step.length())?;
    let mut conn = super::reading(&state).await?;
    let tenant = match tenant {
        Some(tenant) => Some(Owners::load(&mut conn).await?.find(tenant)?),
        None => None,
    };
    let filter = HistoryFilter { queue: *queue, kind: kind.clone(), tenant, from, to, step };
    let history = history(&mut conn, &filter).await?;
    listing.answer(history.points.into_iter().map(PointView::from).collect())
}

fn check_length(from: DateTime<Utc>, to: DateTime<Utc>, step: Duration) -> Result<(), ApiError> {
    let step_s = i64::try_from(step.as_secs()).unwrap_or(1).max(1);
    if (to - from).num_seconds() / step_s > POINTS_MAX {
        return Err(ApiError::invalid(
            "from",
            "INVALID",
            format!("must not be more than {POINTS_MAX} buckets before `to`: ask for hours, or for less"),
        ));
    }
    Ok(())
}
