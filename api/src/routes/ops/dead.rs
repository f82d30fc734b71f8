//! `GET /api/v1/ops/dead`: dead letters by what they have in common. Those of a group are found by
//! `GET /api/v1/ops/jobs?state=failed&kind=…&errorCode=…&errorSignature=…`, and redriven by the same filter.

use axum::extract::State;
use axum::response::Response;
use queue::{DeadFilter, DeadGroup, dead_letters};
use serde::Serialize;
use utoipa::ToSchema;

use super::jobs::filter::signature;
use super::listing::{ListParams, Listed, Listing};
use super::owners::{Owners, name};
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, instant as read_instant};
use crate::extract::person::Viewer;
use crate::routes::body::List;
use crate::routes::instant;
use crate::state::ApiState;

/// Groups that are read.
const GROUPS_MAX: usize = 1_000;

/// Dead jobs of one kind that failed alike.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadGroupView {
    /// Kind, code and signature together.
    #[schema(example = "profiles.fetch/VENDOR_UNAVAILABLE/the profile service did not answer")]
    id: String,
    /// Their kind.
    #[schema(example = "profiles.fetch")]
    kind: String,
    /// The code of their error.
    #[schema(example = "VENDOR_UNAVAILABLE")]
    error_code: String,
    /// Their message, without what differs from job to job.
    #[schema(example = "the profile service did not answer")]
    error_signature: String,
    /// How many.
    #[schema(example = 12)]
    jobs: u64,
    /// When the first of them failed.
    #[schema(format = DateTime)]
    first_at: String,
    /// When the last of them failed.
    #[schema(format = DateTime)]
    last_at: String,
    /// Some of them, the newest.
    #[schema(example = json!(["job_01jd8x4xkre9a8y9tbn2p5q3mw"]))]
    samples: Vec<String>,
    /// Whether there are more dead jobs than were looked at: counts are of the newest alone.
    is_capped: bool,
}

impl Listed for DeadGroupView {
    const NAME: &'static str = "dead-letters";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] =
        &["id", "kind", "errorCode", "errorSignature", "jobs", "firstAt", "lastAt", "samples", "isCapped"];
}

impl DeadGroupView {
    fn of(group: DeadGroup, is_capped: bool) -> Self {
        Self {
            id: format!("{} {} {}", group.kind, group.code, group.message),
            kind: group.kind,
            error_code: group.code,
            error_signature: group.message,
            jobs: group.jobs,
            first_at: instant(group.first_at),
            last_at: instant(group.last_at),
            samples: group.samples.iter().map(ToString::to_string).collect(),
            is_capped,
        }
    }
}

/// Which dead jobs, as asked.
#[derive(Debug)]
pub struct Dead {
    filter: DeadFilter,
    tenant: Option<String>,
}

impl FromFields for Dead {
    fn read(fields: &mut Fields) -> Option<Self> {
        let filter = DeadFilter {
            kinds: fields.optional("kind", name).into_iter().collect(),
            queue: fields.optional("queue", name),
            code: fields.optional("errorCode", name),
            signature: fields.optional("errorSignature", signature),
            finished_from: fields.optional("finishedFrom", read_instant),
            finished_before: fields.optional("finishedBefore", read_instant),
            ..DeadFilter::default()
        };
        Some(Self { filter, tenant: fields.optional("tenant", name) })
    }
}

/// List dead letters
///
/// Jobs that failed for good, grouped by kind, code and message, the largest group first.
#[utoipa::path(
    get, path = "/api/v1/ops/dead", tag = "Dead letters", operation_id = "listDeadLetters",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams,
        ("kind" = Option<String>, Query, description = "only this kind"),
        ("queue" = Option<String>, Query, description = "only of this queue"),
        ("tenant" = Option<String>, Query, description = "only of this partner's code, or `system`"),
        ("errorCode" = Option<String>, Query, description = "only this code"),
        ("errorSignature" = Option<String>, Query, description = "only this signature"),
        ("finishedFrom" = Option<DateTime<Utc>>, Query, description = "failed at or after this instant"),
        ("finishedBefore" = Option<DateTime<Utc>>, Query, description = "failed before this instant")),
    responses(
        (status = 200, description = "the groups", content(
            (List<DeadGroupView> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(_me): Viewer,
    listing: Listing<DeadGroupView, Dead>,
) -> Result<Response, ApiError> {
    let mut conn = super::reading(&state).await?;
    let mut filter = listing.filter.filter.clone();
    if let Some(tenant) = &listing.filter.tenant {
        filter.tenant = Some(Owners::load(&mut conn).await?.find(tenant)?);
    }
    let dead = dead_letters(&mut conn, &filter, GROUPS_MAX).await?;
    let is_capped = dead.is_capped;
    let groups = dead.groups.into_iter().map(|group| DeadGroupView::of(group, is_capped)).collect();
    listing.answer(groups)
}
