//! `POST /api/v1/session`: sign in with a password.
//!
//! Wrong, unknown and disabled are one answer after the same work, and tries are counted alike for all of them: see
//! [`jobs::people::sign_in`].

use std::net::IpAddr;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use identity::{Email, Password, Session, SessionKind};
use jobs::people::{self, Attempt};
use serde_json::Value;
use utoipa::ToSchema;

use super::{SessionView, set_cookie};
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::peer::peer;
use crate::extract::person::check_origin;
use crate::middleware::context::RequestContext;
use crate::routes::body::Data;
use crate::state::ApiState;

/// Who wants in.
#[derive(Debug, ToSchema)]
#[schema(as = SignIn, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct SignInSchema {
    /// The address.
    #[schema(example = "anna@example.com", max_length = 254)]
    email: String,
    /// The password.
    #[schema(example = "correct horse battery", max_length = 256)]
    password: String,
    /// `cookie` (for a browser, unless given) or `token` (for a program: shown in the answer, no cookie is set).
    #[schema(required = false, nullable = false, pattern = "^(cookie|token)$", example = "cookie")]
    kind: String,
}

struct SignIn {
    email: Email,
    password: Password,
    kind: SessionKind,
}

impl FromFields for SignIn {
    fn read(fields: &mut Fields) -> Option<Self> {
        let email = fields.required("email", email);
        let password = fields.required("password", |value| {
            Password::presented(text(value)?).map_err(|fault| Problem::invalid(fault.message))
        });
        let kind = fields.optional("kind", kind);
        Some(Self { email: email?, password: password?, kind: kind.unwrap_or(SessionKind::Cookie) })
    }
}

/// An e-mail address.
pub(crate) fn email(value: &Value) -> Result<Email, Problem> {
    Email::parse(text(value)?).map_err(Problem::invalid)
}

fn kind(value: &Value) -> Result<SessionKind, Problem> {
    match text(value)? {
        "cookie" => Ok(SessionKind::Cookie),
        "token" => Ok(SessionKind::Token),
        _ => Err(Problem::invalid("must be `cookie` or `token`")),
    }
}

/// Where the request comes from.
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(peer(parts)))
    }
}

/// Sign in
///
/// Five failures of one account, or fifty from one address, within 15 minutes lock it for 15 minutes, whether the account
/// exists or not; tries while it is locked do not prolong that. Where a person has signed in within 30 days, strangers'
/// failures do not count against them.
#[utoipa::path(
    post, path = "/api/v1/session", tag = "Session", operation_id = "signIn",
    request_body = SignInSchema,
    responses(
        (status = 200, description = "signed in", body = Data<SessionView>, headers(
            ("Set-Cookie" = String, description = "the session's cookie, unless a token was asked for"))),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 401, description = "UNAUTHORIZED: the address or the password is wrong", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: another site makes the browser ask", body = ErrorBody),
        (status = 408, description = "REQUEST_TIMEOUT: the body did not arrive in time", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 415, description = "UNSUPPORTED_MEDIA_TYPE: the body is not JSON", body = ErrorBody),
        (status = 429, description = "RATE_LIMITED: too many failures; see `Retry-After`", body = ErrorBody, headers(
            ("Retry-After" = u64, description = "seconds until the lock ends"))),
        (status = 503, description = "OVERLOADED: nothing was done, try again shortly", body = ErrorBody)))]
pub async fn sign_in(
    State(state): State<ApiState>,
    Peer(address): Peer,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    // A browser that says where it comes from must come from here: nobody is to be signed in as somebody else.
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        check_origin(&Method::POST, &headers)?;
    }
    let SignIn { email, password, kind } = body.fields.finish(SignIn::read)?;
    let request_id = Some(RequestContext::current_id());
    let attempt = Attempt { email, password, address, kind, request_id };
    let signed_in = people::sign_in(state.pool(), state.keyring(), state.passwords(), attempt).await?;
    let opened = signed_in.session;
    let person = signed_in.person;
    let session =
        Session { id: opened.id, person: person.id, role: person.role, kind, expires_at: opened.expires_at };
    let mut view = SessionView::of(&person, &session);
    if kind == SessionKind::Token {
        view.token = Some(opened.secret.expose().to_owned());
        return Ok(Data::of(view).into_response());
    }
    let cookie = set_cookie(opened.secret.expose(), opened.expires_at)?;
    Ok(([(header::SET_COOKIE, cookie)], Data::of(view)).into_response())
}
