//! `/api/v1/ops/schedules`: cron lines and what became of their ticks; changing, pausing and running one.

use ::schedules::{Change, Missed, TickRow};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jobs::schedules::{self, Shown};
use kernel::ids::JobId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::listing::{ListParams, Listed, Listing};
use super::owners::name;
use super::queues::whole;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::{JsonBody, NoBody};
use crate::extract::fields::{Fields, FromFields, Problem, flag, text};
use crate::extract::path_id::PathName;
use crate::extract::person::{Operator, Viewer, door};
use crate::routes::body::{Data, List};
use crate::routes::instant;
use crate::state::ApiState;

/// Ticks shown of one schedule.
const TICKS_SHOWN: i64 = 50;
/// Ticks to come that are shown.
const NEXT_SHOWN: usize = 5;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleView {
    /// Its name.
    #[schema(example = "prune-jobs")]
    name: String,
    /// Its line.
    #[schema(example = "0 4 * * *")]
    cron: String,
    /// The line in words; null: it cannot be read.
    words: Option<String>,
    /// The zone it is read in.
    #[schema(example = "Asia/Ho_Chi_Minh")]
    time_zone: String,
    /// The kind of its jobs.
    #[schema(example = "maintenance.prune_jobs")]
    kind: String,
    /// Their arguments.
    args: Value,
    /// What becomes of missed ticks: `skip`, `once` or `backfill:N`.
    #[schema(example = "once")]
    missed: String,
    /// How much later each tick may run, by chance.
    #[schema(example = 0)]
    jitter_ms: u32,
    /// Whether it ticks.
    is_enabled: bool,
    /// Whether the program declares it.
    is_declared: bool,
    /// Whether an operator changed it.
    is_edited: bool,
    /// Who.
    edited_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    edited_at: Option<String>,
    /// Its next tick.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// When it ran last.
    #[schema(format = DateTime)]
    last_run_at: Option<String>,
    /// The job of that run.
    last_job_id: Option<String>,
    /// What became of that job, unless it is gone by now.
    last_job_status: Option<&'static str>,
    /// Ticks that were missed.
    #[schema(example = 0)]
    missed_ticks: u64,
    /// Why it cannot tick.
    error: Option<String>,
}

impl Listed for ScheduleView {
    const NAME: &'static str = "schedules";
    const ID: &'static str = "name";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "cron",
        "words",
        "timeZone",
        "kind",
        "args",
        "missed",
        "jitterMs",
        "isEnabled",
        "isDeclared",
        "isEdited",
        "editedBy",
        "editedAt",
        "nextAt",
        "lastRunAt",
        "lastJobId",
        "lastJobStatus",
        "missedTicks",
        "error",
    ];
}

impl From<Shown> for ScheduleView {
    fn from(shown: Shown) -> Self {
        let Shown { schedule, timing, last_job } = shown;
        Self {
            is_edited: schedule.is_edited(),
            is_declared: schedule.declared.is_some(),
            name: schedule.name,
            cron: schedule.definition.cron,
            words: timing.ok().map(|timing| timing.in_words()),
            time_zone: schedule.definition.time_zone,
            kind: schedule.definition.kind,
            args: schedule.definition.args,
            missed: schedule.definition.missed.to_string(),
            jitter_ms: schedule.definition.jitter_ms,
            is_enabled: schedule.definition.enabled,
            edited_by: schedule.edited_by,
            edited_at: schedule.edited_at.map(instant),
            next_at: schedule.next_at.map(instant),
            last_run_at: schedule.last_run_at.map(instant),
            last_job_id: schedule.last_job.map(|job| job.to_string()),
            last_job_status: last_job.map(|job| job.status.as_str()),
            missed_ticks: schedule.missed_ticks,
            error: schedule.error,
        }
    }
}

/// What became of a tick.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TickView {
    /// When it was due.
    #[schema(format = DateTime)]
    tick_at: String,
    /// `run`, `missed`, `manual` …
    #[schema(example = "ran")]
    outcome: &'static str,
    /// How many ticks the entry stands for.
    #[schema(example = 1)]
    ticks: u64,
    /// Its job.
    job_id: Option<String>,
    /// Who asked for it, if somebody did.
    asked_by: Option<String>,
    /// When that was decided.
    #[schema(format = DateTime)]
    decided_at: String,
}

impl From<TickRow> for TickView {
    fn from(tick: TickRow) -> Self {
        Self {
            tick_at: instant(tick.tick_at),
            outcome: tick.outcome.as_str(),
            ticks: tick.ticks,
            job_id: tick.job.map(|job| job.to_string()),
            asked_by: tick.asked_by,
            decided_at: instant(tick.decided_at),
        }
    }
}

/// A schedule with its ticks.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleDetail {
    /// The schedule.
    schedule: ScheduleView,
    /// The next ticks, while it can tick.
    #[schema(example = json!(["2026-01-31T21:00:00Z"]))]
    next: Vec<String>,
    /// What became of the last ones, the newest first.
    ticks: Vec<TickView>,
}

/// List schedules
#[utoipa::path(
    get, path = "/api/v1/ops/schedules", tag = "Schedules", operation_id = "listSchedules",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams),
    responses(
        (status = 200, description = "every schedule", content(
            (List<ScheduleView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<ScheduleView>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    listing.answer(schedules::list(&mut conn).await?.into_iter().map(ScheduleView::from).collect())
}

/// Show a schedule
#[utoipa::path(
    get, path = "/api/v1/ops/schedules/{name}", tag = "Schedules", operation_id = "getSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(("name" = String, Path, description = "the schedule", example = "prune-jobs")),
    responses(
        (status = 200, description = "the schedule, its next ticks and its last", body = Data<ScheduleDetail>),
        (status = 400, description = "the name is not valid", body = ErrorBody),
        (status = 404, description = "no such schedule", body = ErrorBody)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    PathName(name): PathName,
) -> Result<Json<Data<ScheduleDetail>>, ApiError> {
    let mut conn = super::reading(&state).await?;
    let (shown, ticks) = schedules::show(&mut conn, &name, TICKS_SHOWN).await?;
    let now = kernel::clock::now();
    let next = match (&shown.timing, shown.schedule.definition.enabled) {
        (Ok(timing), true) => timing.next_ticks(now).take(NEXT_SHOWN).map(instant).collect(),
        _ => Vec::new(),
    };
    let ticks = ticks.into_iter().map(TickView::from).collect();
    Ok(Data::of(ScheduleDetail { schedule: shown.into(), next, ticks }))
}

/// What is to be different about a schedule; fields that are missing stay.
#[derive(Debug, ToSchema)]
#[schema(as = ScheduleChange, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct ScheduleChangeSchema {
    /// Another line of five, six or seven fields; required for a new schedule.
    #[schema(required = false, nullable = false, example = "0 4 * * *")]
    cron: String,
    /// Another IANA time zone.
    #[schema(required = false, nullable = false, example = "Asia/Ho_Chi_Minh")]
    time_zone: String,
    /// Another kind of job; required for a new schedule.
    #[schema(required = false, nullable = false, example = "maintenance.prune_jobs")]
    kind: String,
    /// Other arguments.
    #[schema(required = false, nullable = false, value_type = Object, example = json!({}))]
    args: Value,
    /// What becomes of missed ticks: `skip`, `once` or `backfill:N`.
    #[schema(required = false, nullable = false, example = "once")]
    missed: String,
    /// How much later each tick may run, by chance.
    #[schema(required = false, nullable = false, minimum = 0, maximum = 86_400_000, example = 0)]
    jitter_ms: u32,
    /// Whether it ticks.
    #[schema(required = false, nullable = false)]
    is_enabled: bool,
}

struct Changes(Change);

impl FromFields for Changes {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self(Change {
            cron: fields.optional("cron", name),
            time_zone: fields.optional("timeZone", name),
            kind: fields.optional("kind", name),
            args: fields.optional("args", object),
            missed: fields.optional("missed", missed),
            jitter_ms: fields
                .optional("jitterMs", |value| whole(value, 0, DAY_MS))
                .and_then(|jitter_ms| u32::try_from(jitter_ms).ok()),
            enabled: fields.optional("isEnabled", flag),
        }))
    }
}

fn object(value: &Value) -> Result<Value, Problem> {
    // PostgreSQL's text holds no NUL.
    let fits = value.is_object() && !value.to_string().contains("\\u0000");
    if fits { Ok(value.clone()) } else { Err(Problem::invalid("must be an object without NUL characters")) }
}

fn missed(value: &Value) -> Result<Missed, Problem> {
    text(value)?.parse().map_err(Problem::invalid)
}

/// Change or make a schedule
///
/// One that is not there yet is made, when line and kind are given. What the program declares of it no longer counts,
/// until it is reset. `isEnabled` pauses it and resumes it, too.
#[utoipa::path(
    put, path = "/api/v1/ops/schedules/{name}", tag = "Schedules", operation_id = "setSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the schedule", example = "prune-jobs")),
    request_body = ScheduleChangeSchema,
    responses(
        (status = 200, description = "the schedule as it is now", body = Data<ScheduleView>),
        (status = 400, description = "the name or the body is not valid; all its faults", body = ErrorBody),
        (status = 409, description = "there are too many schedules, or it was made just now", body = ErrorBody)))]
pub async fn set(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    body: JsonBody,
) -> Result<Json<Data<ScheduleView>>, ApiError> {
    let Changes(change) = body.fields.finish(Changes::read)?;
    let mut tx = db::begin(state.pool()).await?;
    schedules::change(&mut tx, jobs::ALL, &name, &change, &door(&state, &me)).await?;
    let (shown, _) = schedules::show(&mut tx, &name, 0).await?;
    tx.commit().await?;
    Ok(Data::of(shown.into()))
}

/// Pause a schedule
///
/// Ticks while it is paused are not missed: they are not wanted.
#[utoipa::path(
    post, path = "/api/v1/ops/schedules/{name}/pause", tag = "Schedules", operation_id = "pauseSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the schedule", example = "prune-jobs")),
    responses(
        (status = 200, description = "the schedule as it is now", body = Data<ScheduleView>),
        (status = 400, description = "the name is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such schedule", body = ErrorBody),
        (status = 409, description = "it is paused already", body = ErrorBody)))]
pub async fn pause(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    NoBody: NoBody,
) -> Result<Json<Data<ScheduleView>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    schedules::pause(&mut tx, jobs::ALL, &name, &door(&state, &me)).await?;
    let (shown, _) = schedules::show(&mut tx, &name, 0).await?;
    tx.commit().await?;
    Ok(Data::of(shown.into()))
}

/// Resume a schedule
///
/// It ticks on, from now.
#[utoipa::path(
    post, path = "/api/v1/ops/schedules/{name}/resume", tag = "Schedules", operation_id = "resumeSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the schedule", example = "prune-jobs")),
    responses(
        (status = 200, description = "the schedule as it is now", body = Data<ScheduleView>),
        (status = 400, description = "the name is not valid, a body says something, or it cannot tick", body = ErrorBody),
        (status = 404, description = "no such schedule", body = ErrorBody),
        (status = 409, description = "it is not paused", body = ErrorBody)))]
pub async fn resume(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    NoBody: NoBody,
) -> Result<Json<Data<ScheduleView>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    schedules::resume(&mut tx, jobs::ALL, &name, &door(&state, &me)).await?;
    let (shown, _) = schedules::show(&mut tx, &name, 0).await?;
    tx.commit().await?;
    Ok(Data::of(shown.into()))
}

/// What became of a schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Whether it is gone; false: it is what the program declares again.
    is_removed: bool,
}

/// Remove or reset a schedule
///
/// One that an operator made is removed; one of the program's own is what the program declares again.
#[utoipa::path(
    delete, path = "/api/v1/ops/schedules/{name}", tag = "Schedules", operation_id = "removeSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the schedule", example = "nightly")),
    responses(
        (status = 200, description = "removed, or as declared", body = Data<Removed>),
        (status = 400, description = "the name is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such schedule", body = ErrorBody)))]
pub async fn remove(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    NoBody: NoBody,
) -> Result<Json<Data<Removed>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let (shown, _) = schedules::show(&mut tx, &name, 0).await?;
    let is_removed = shown.schedule.declared.is_none();
    let door = door(&state, &me);
    match is_removed {
        true => schedules::remove(&mut tx, &name, &door).await?,
        false => drop(schedules::reset(&mut tx, jobs::ALL, &name, &door).await?),
    }
    tx.commit().await?;
    Ok(Data::of(Removed { is_removed }))
}

/// A run that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its job.
    #[schema(value_type = String, example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: JobId,
    /// The instant of its tick.
    #[schema(format = DateTime)]
    tick_at: String,
}

/// Run a schedule now
///
/// Stores a job of it, paused or not, beside its ticks.
#[utoipa::path(
    post, path = "/api/v1/ops/schedules/{name}/run", tag = "Schedules", operation_id = "runSchedule",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("operator"))),
    params(("name" = String, Path, description = "the schedule", example = "prune-jobs")),
    responses(
        (status = 202, description = "the job", body = Data<RunView>),
        (status = 400, description = "the name is not valid, a body says something, or it makes no job", body = ErrorBody),
        (status = 404, description = "no such schedule", body = ErrorBody)))]
pub async fn run(
    State(state): State<ApiState>,
    Operator(me): Operator,
    PathName(name): PathName,
    NoBody: NoBody,
) -> Result<Response, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    let run = schedules::run_now(&mut tx, jobs::ALL, &name, &door(&state, &me)).await?;
    tx.commit().await?;
    state.waker().wake(run.queue);
    Ok((StatusCode::ACCEPTED, Data::of(RunView { job_id: run.job, tick_at: instant(run.at) }))
        .into_response())
}
