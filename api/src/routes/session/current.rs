//! `GET` and `DELETE /api/v1/session`: who is signed in; sign out.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use identity::{IdentityError, find};
use jobs::people;
use serde::Serialize;
use utoipa::ToSchema;

use super::{SessionView, clear_cookie};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::NoBody;
use crate::extract::person::{Viewer, door};
use crate::routes::body::Data;
use crate::state::ApiState;

/// Who is signed in
#[utoipa::path(
    get, path = "/api/v1/session", tag = "Session", operation_id = "getSession",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    responses((status = 200, description = "the person and the session", body = Data<SessionView>)))]
pub async fn show(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
) -> Result<axum::Json<Data<SessionView>>, ApiError> {
    let mut conn = state.pool().acquire().await?;
    let found = find(&mut conn, state.keyring(), me.person).await?.ok_or(IdentityError::NotFound)?;
    Ok(Data::of(SessionView::of(&found.person, &me)))
}

/// What became of a session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ended {
    /// Always true.
    ended: bool,
}

/// Sign out
///
/// The session works nowhere from this answer on.
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "Session", operation_id = "signOut",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    responses(
        (status = 200, description = "signed out", body = Data<Ended>, headers(
            ("Set-Cookie" = String, description = "makes a browser forget the cookie"))),
        (status = 400, description = "a body says something", body = ErrorBody),
        (status = 404, description = "the session has ended meanwhile", body = ErrorBody)))]
pub async fn sign_out(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
    NoBody: NoBody,
) -> Result<Response, ApiError> {
    let mut tx = db::begin(state.pool()).await?;
    people::sign_out(&mut tx, &door(&state, &me), &me).await?;
    tx.commit().await?;
    Ok(([(header::SET_COOKIE, clear_cookie()?)], Data::of(Ended { ended: true })).into_response())
}
