//! `PUT /api/v1/session/password`: choose another password.

use axum::extract::State;
use identity::Password;
use jobs::people;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::person::{Viewer, door};
use crate::routes::body::Data;
use crate::state::ApiState;

/// The present password and the next.
#[derive(Debug, ToSchema)]
#[schema(as = PasswordChange, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PasswordChangeSchema {
    /// The present one.
    #[schema(example = "correct horse battery", max_length = 256)]
    current: String,
    /// The next one: at least 12 characters.
    #[schema(example = "staple battery horse", min_length = 12, max_length = 256)]
    password: String,
}

struct PasswordChange {
    current: Password,
    password: Password,
}

impl FromFields for PasswordChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let current = fields.required("current", |value| {
            Password::presented(text(value)?).map_err(|fault| Problem::invalid(fault.message))
        });
        let password = fields.required("password", chosen);
        Some(Self { current: current?, password: password? })
    }
}

/// A password that will do.
pub(crate) fn chosen(value: &Value) -> Result<Password, Problem> {
    Password::chosen(text(value)?).map_err(|fault| Problem::invalid(fault.message))
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChanged {
    /// How many other sessions ended with it.
    #[schema(example = 2)]
    pub(crate) sessions_ended: u64,
}

/// Change the password
///
/// All other sessions of the person end. Five wrong present passwords within 15 minutes lock this for 15 minutes, and nothing
/// else.
#[utoipa::path(
    put, path = "/api/v1/session/password", tag = "Session", operation_id = "changePassword",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("viewer"))),
    request_body = PasswordChangeSchema,
    responses(
        (status = 200, description = "changed", body = Data<PasswordChanged>),
        (status = 400, description = "the body is not valid, or the present password is another", body = ErrorBody),
        (status = 429, description = "RATE_LIMITED: too many wrong passwords; see `Retry-After`", body = ErrorBody, headers(
            ("Retry-After" = u64, description = "seconds until the lock ends")))))]
pub async fn change(
    State(state): State<ApiState>,
    Viewer(me): Viewer,
    body: JsonBody,
) -> Result<axum::Json<Data<PasswordChanged>>, ApiError> {
    let PasswordChange { current, password } = body.fields.finish(PasswordChange::read)?;
    let door = door(&state, &me);
    let sessions_ended =
        people::change_password(state.pool(), &door, state.passwords(), &me, current, password).await?;
    Ok(Data::of(PasswordChanged { sessions_ended }))
}
