//! The session of whoever is signed in.

pub mod current;
pub mod password;
pub mod password_reset;
pub mod sessions;
pub mod sign_in;
pub mod single_sign_on;

use chrono::{DateTime, Utc};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use identity::{Person, Session};
use kernel::ids::{SessionId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

use super::instant;
use crate::error::ApiError;
use crate::extract::person::COOKIE;

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "userId": "usr_01jd8x4xkre9a8y9tbn2p5q3mw",
    "email": "anna@example.com",
    "role": "operator",
    "sessionId": "ses_01jd8x4xkre9a8y9tbn2p5q3mw",
    "kind": "cookie",
    "expiresAt": "2026-02-07T08:30:00.000Z"
}))]
pub struct SessionView {
    /// Their id.
    #[schema(value_type = String)]
    user_id: UserId,
    /// Their address.
    #[schema(example = "lan@example.com")]
    email: String,
    /// `viewer`, `operator` or `admin`.
    #[schema(example = "operator")]
    role: &'static str,
    /// The session's id; not the secret.
    #[schema(value_type = String)]
    session_id: SessionId,
    /// `cookie` or `token`.
    #[schema(example = "profiles.enrich")]
    kind: &'static str,
    /// When it ends at the latest.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The bearer token, shown this once, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl SessionView {
    fn of(person: &Person, session: &Session) -> Self {
        Self {
            user_id: person.id,
            email: person.email.as_str().to_owned(),
            role: person.role.as_str(),
            session_id: session.id,
            kind: session.kind.as_str(),
            expires_at: instant(session.expires_at),
            token: None,
        }
    }
}

/// The cookie of a new session.
///
/// # Errors
/// A fault of ours.
pub fn set_cookie(secret: &str, expires_at: DateTime<Utc>) -> Result<HeaderValue, ApiError> {
    let left = expires_at - kernel::clock::now();
    written(Cookie::build((COOKIE, secret)).max_age(Duration::seconds(left.num_seconds())).build())
}

/// What makes a browser forget it.
fn clear_cookie() -> Result<HeaderValue, ApiError> {
    written(Cookie::build((COOKIE, "")).max_age(Duration::ZERO).build())
}

/// Lax and not strict: whoever follows a link here from a mail, or comes back from single sign-on, is signed in.
fn written(mut cookie: Cookie<'_>) -> Result<HeaderValue, ApiError> {
    cookie.set_secure(true);
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Lax);
    cookie.set_path("/");
    HeaderValue::from_str(&cookie.to_string()).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_host_alone_and_out_of_reach_of_scripts() {
        let end = kernel::clock::now() + chrono::TimeDelta::seconds(100);
        let set = set_cookie("mps_abc", end).unwrap().to_str().unwrap().to_owned();
        assert!(set.starts_with("__Host-millpond=mps_abc; "), "{set}");
        for attribute in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age="] {
            assert!(set.contains(attribute), "{set}");
        }
        assert!(!set.contains("Domain"), "{set}");
        assert!(clear_cookie().unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
