//! `POST /api/v1/session/password-reset` and `…/confirm`: choosing a password that was forgotten, or never chosen.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use identity::{Email, Password, Secret, SecretKind, permit_works};
use jobs::people;
use queue::Queue;
use serde::Serialize;
use utoipa::ToSchema;

use super::password::chosen;
use super::sign_in::{Peer, email};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::person::check_origin;
use crate::middleware::context::RequestContext;
use crate::routes::body::Data;
use crate::state::ApiState;

/// Whose password.
#[derive(Debug, ToSchema)]
#[schema(as = PasswordReset, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PasswordResetSchema {
    /// The address.
    #[schema(example = "anna@example.com", max_length = 254)]
    email: String,
}

struct PasswordReset(Email);

impl FromFields for PasswordReset {
    fn read(fields: &mut Fields) -> Option<Self> {
        fields.required("email", email).map(Self)
    }
}

/// What was promised.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetAsked {
    /// Always true: whether there is such an account is told by mail alone.
    accepted: bool,
}

/// Ask for a password reset
///
/// If there is such an account, a mail with a code is sent. The answer is the same when there is none, and when it was
/// asked for more than three times within 15 minutes.
#[utoipa::path(
    post, path = "/api/v1/session/password-reset", tag = "Session", operation_id = "askPasswordReset",
    request_body = PasswordResetSchema,
    responses(
        (status = 202, description = "a mail is sent, if there is such an account", body = Data<ResetAsked>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: another site makes the browser ask", body = ErrorBody),
        (status = 408, description = "REQUEST_TIMEOUT: the body did not arrive in time", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 415, description = "UNSUPPORTED_MEDIA_TYPE: the body is not JSON", body = ErrorBody),
        (status = 503, description = "OVERLOADED: nothing was done, try again shortly", body = ErrorBody)))]
pub async fn ask(
    State(state): State<ApiState>,
    Peer(address): Peer,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    from_here(&headers)?;
    let PasswordReset(email) = body.fields.finish(PasswordReset::read)?;
    let request_id = Some(RequestContext::current_id());
    let url = state.public_url();
    let stored = people::ask_reset(state.pool(), state.keyring(), &email, address, &url, request_id).await?;
    if stored {
        state.waker().wake(Queue::Maintenance);
    }
    Ok((StatusCode::ACCEPTED, Data::of(ResetAsked { accepted: true })).into_response())
}

/// The code and the password.
#[derive(Debug, ToSchema)]
#[schema(as = PasswordChoice, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PasswordChoiceSchema {
    /// The code of the mail.
    #[schema(example = "mpr_0123456789ABCDEFGHIJabcdefghij0123456789ABC", max_length = 64)]
    code: String,
    /// The new password: at least 12 characters.
    #[schema(example = "staple battery horse", min_length = 12, max_length = 256)]
    password: String,
}

struct PasswordChoice {
    /// None: a text that cannot be a code, which is as wrong as one that does not work.
    code: Option<Secret>,
    password: Password,
}

impl FromFields for PasswordChoice {
    fn read(fields: &mut Fields) -> Option<Self> {
        let code = fields
            .required("code", |value| Ok::<_, Problem>(Secret::parse(SecretKind::Permit, text(value)?)));
        let password = fields.required("password", chosen);
        Some(Self { code: code?, password: password? })
    }
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PasswordChosen {
    /// Always true; sign in with it.
    chosen: bool,
}

/// Choose a password
///
/// With the code of the mail, which works once. All sessions of the person end.
#[utoipa::path(
    post, path = "/api/v1/session/password-reset/confirm", tag = "Session", operation_id = "choosePassword",
    request_body = PasswordChoiceSchema,
    responses(
        (status = 200, description = "chosen", body = Data<PasswordChosen>),
        (status = 400, description = "the body is not valid, or the code does not work (any more)", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: another site makes the browser ask", body = ErrorBody),
        (status = 408, description = "REQUEST_TIMEOUT: the body did not arrive in time", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 415, description = "UNSUPPORTED_MEDIA_TYPE: the body is not JSON", body = ErrorBody),
        (status = 503, description = "OVERLOADED: nothing was done, try again shortly", body = ErrorBody)))]
pub async fn choose(
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Json<Data<PasswordChosen>>, ApiError> {
    from_here(&headers)?;
    let PasswordChoice { code, password } = body.fields.finish(PasswordChoice::read)?;
    let wrong = || ApiError::invalid("code", "INVALID", "does not work: ask for another");
    let code = code.ok_or_else(wrong)?;
    // Before the work that a hash is: whoever has no code cannot keep those busy who sign in.
    let mut conn = state.pool().acquire().await?;
    if !permit_works(&mut conn, &code).await? {
        return Err(wrong());
    }
    drop(conn);
    let hash = state.passwords().hash(password).await?;
    let mut tx = db::begin(state.pool()).await?;
    let request_id = Some(RequestContext::current_id());
    if !people::reset_password(&mut tx, state.keyring(), &code, &hash, request_id).await? {
        return Err(wrong());
    }
    tx.commit().await?;
    Ok(Data::of(PasswordChosen { chosen: true }))
}

/// A browser that says where it comes from must come from here.
fn from_here(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        check_origin(&Method::POST, headers)?;
    }
    Ok(())
}
