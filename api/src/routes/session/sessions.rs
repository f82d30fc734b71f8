//! `/api/v1/session/all`: the person's own sessions; ending one.

use axum::extract::State;
use identity::{SessionRecord, sessions_of};
use jobs::people;
use kernel::ids::SessionId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::extract::body::NoBody;
use crate::extract::path_id::PathId;
use crate::extract::person::{Viewer, door};
use crate::routes::body::Data;
use crate::routes::instant;
use crate::routes::ops::listing::{ListParams, Listed, Listing};
use crate::state::ApiState;

/// One of the person's sessions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnSession {
    /// Its id.
    #[schema(example = "ses_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// `cookie` or `token`.
    #[schema(example = "cookie")]
    kind: String,
    /// Whether it is the one that asks.
    is_current: bool,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was used last, to the minute.
    #[schema(format = DateTime)]
    seen_at: String,
    /// When it ends at the latest.
    #[schema(format = DateTime)]
    expires_at: String,
}

impl Listed for OwnSession {
    const NAME: &'static str = "sessions";
    const ID: &'static str = "id";
    const COLUMNS: &'static [&'static str] = &["id", "kind", "isCurrent", "createdAt", "seenAt", "expiresAt"];
}

impl OwnSession {
    fn of(record: SessionRecord, current: SessionId) -> Self {
        Self {
            is_current: record.id == current,
            id: record.id.to_string(),
            kind: record.kind,
            created_at: instant(record.created_at),
            seen_at: instant(record.seen_at),
            expires_at: instant(record.expires_at),
        }
    }
}

/// My sessions
#[utoipa::path(
    get, path = "/api/v1/session/all", tag = "Session", operation_id = "listSessions",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(ListParams),
    responses(
        (status = 200, description = "the sessions that work", content(
            (crate::routes::body::List<OwnSession> = "application/json"), (String = "text/csv"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody)))]
pub async fn list(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
    listing: Listing<OwnSession>,
) -> Result<axum::response::Response, ApiError> {
    let mut conn = state.pool().acquire().await?;
    let records = sessions_of(&mut conn, me.person).await?;
    listing.answer(records.into_iter().map(|record| OwnSession::of(record, me.id)).collect())
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionEnded {
    /// Always true.
    ended: bool,
}

/// End one of my sessions
#[utoipa::path(
    delete, path = "/api/v1/session/all/{id}", tag = "Session", operation_id = "endSession",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    params(("id" = String, Path, description = "the session's id", example = "ses_01jd8x4xkre9a8y9tbn2p5q3mw")),
    responses(
        (status = 200, description = "it works no more", body = Data<SessionEnded>),
        (status = 400, description = "the id is not valid, or a body says something", body = ErrorBody),
        (status = 404, description = "no such session of this person", body = ErrorBody)))]
pub async fn end(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
    PathId(id): PathId<SessionId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<SessionEnded>>, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    people::end_session(&mut tx, &door(&state, &me), me.person, id).await?;
    tx.commit().await?;
    Ok(Data::of(SessionEnded { ended: true }))
}
