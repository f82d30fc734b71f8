//! `GET /api/v1/ops/overview`: everything at a glance.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use queue::ops::{Overview, QueueOverview};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::person::Viewer;
use crate::routes::body::Data;
use crate::routes::instant;
use crate::state::ApiState;

/// Everything at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverviewView {
    /// When it was read.
    #[schema(format = DateTime)]
    at: String,
    /// Each queue.
    queues: Vec<QueueGlance>,
    /// Jobs that failed within the last hour, up to 10,000.
    #[schema(example = 0)]
    dead_last_hour: i64,
    /// Jobs that failed within the last 24 hours, up to 10,000.
    #[schema(example = 3)]
    dead_last_day: i64,
    /// Worker processes that have shown a sign of life within a lease.
    #[schema(example = 4)]
    workers_alive: i64,
    /// Of these, how many claim nothing.
    #[schema(example = 0)]
    workers_quiet: i64,
    /// Limits on which nothing is drawn now, because the other side said so.
    blocked_limits: Vec<Blocked>,
}

/// A limit on which nothing is drawn now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Blocked {
    /// Its name.
    #[schema(example = "meter.calls")]
    name: String,
    /// The key, empty for limits that are not keyed.
    #[schema(example = "")]
    key: String,
    /// Until then.
    #[schema(format = DateTime)]
    until: String,
}

/// A queue at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueGlance {
    /// Its name.
    #[schema(example = "enrich")]
    pub(super) name: String,
    /// Jobs that could run now, up to a bound.
    #[schema(example = 35)]
    ready: i64,
    /// Jobs whose time has not come, up to a bound.
    #[schema(example = 12)]
    scheduled: i64,
    /// Jobs that run.
    #[schema(example = 6)]
    running: i64,
    /// How long the job has been ready that has been longest, in seconds; null: none is.
    oldest_ready_s: Option<f64>,
    /// Who paused all of it; null: nobody.
    paused_by: Option<String>,
    /// Since when.
    #[schema(format = DateTime)]
    paused_at: Option<String>,
    /// Kinds of it that are paused.
    #[schema(example = json!([]))]
    paused_kinds: Vec<String>,
    /// Processes that work it and claim.
    #[schema(example = 2)]
    processes: i64,
    /// Their slots together.
    #[schema(example = 64)]
    slots: i64,
    /// How many of its jobs each process may run at once; null: as many as it has slots.
    concurrency_max: Option<i32>,
    /// Jobs that ended in a second, over the last five minutes; null while nothing is known.
    per_second: Option<f64>,
    /// The part of them that failed, from 0 to 1; null when none ended.
    failed_share: Option<f64>,
}

impl From<QueueOverview> for QueueGlance {
    fn from(queue: QueueOverview) -> Self {
        let (per_second, failed_share) = (queue.recent.per_second(), queue.recent.failed_share());
        let (paused_by, paused_at) = queue.paused.unzip();
        Self {
            name: queue.depth.queue.to_string(),
            ready: queue.depth.ready,
            scheduled: queue.depth.scheduled,
            running: queue.depth.running,
            oldest_ready_s: queue.oldest_ready.map(|age| age.as_secs_f64()),
            paused_by,
            paused_at: paused_at.map(instant),
            paused_kinds: queue.paused_kinds,
            processes: queue.processes,
            slots: queue.slots,
            concurrency_max: queue.concurrency_max,
            per_second,
            failed_share,
        }
    }
}

impl From<Overview> for OverviewView {
    fn from(overview: Overview) -> Self {
        let blocked = overview.blocked.into_iter();
        let blocked_limits = blocked
            .map(|limit| Blocked { name: limit.name, key: limit.key, until: instant(limit.until) })
            .collect();
        Self {
            at: instant(overview.at),
            queues: overview.queues.into_iter().map(QueueGlance::from).collect(),
            dead_last_hour: overview.dead_last_hour,
            dead_last_day: overview.dead_last_day,
            workers_alive: overview.workers_alive,
            workers_quiet: overview.workers_quiet,
            blocked_limits,
        }
    }
}

/// An overview is shared by all who ask within this time.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// The latest overview, for all who ask a process: a hundred who watch cost what one costs. Part of the state.
#[derive(Debug, Clone, Default)]
pub struct Glance(Arc<Mutex<Option<(Instant, OverviewView)>>>);

impl Glance {
    /// The overview, at most a second old. Whoever asks while it is being read waits for that reading.
    async fn read(&self, state: &ApiState) -> Result<OverviewView, ApiError> {
        let mut held = self.0.lock().await;
        if let Some((_, view)) = held.as_ref().filter(|(at, _)| at.elapsed() < SHARED_FOR) {
            return Ok(view.clone());
        }
        // What was read before must not be shown for longer if this reading fails or is given up.
        *held = None;
        let at = Instant::now();
        let mut conn = super::reading(state).await?;
        let view = OverviewView::from(queue::ops::overview(&mut conn, state.lease()).await?);
        *held = Some((at, view.clone()));
        Ok(view)
    }
}

/// Everything at a glance
///
/// At most a second old.
#[utoipa::path(
    get, path = "/api/v1/ops/overview", tag = "Overview", operation_id = "getOverview",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    responses((status = 200, description = "queues, workers, limits and what failed lately", body = Data<OverviewView>)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
) -> Result<axum::Json<Data<OverviewView>>, ApiError> {
    Ok(Data::of(state.glance().read(&state).await?))
}
