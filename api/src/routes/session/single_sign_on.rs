//! `GET /api/v1/session/oidc` and `…/callback`: sign in by the OpenID provider that settings name.
//!
//! Guarantees: what was begun can be ended only by the browser that began it, within ten minutes: state, nonce and PKCE
//! verifier lie sealed in a cookie of this host alone, and nowhere else. A person is sent back to a path of this very site, whatever
//! the request said. The provider takes each code once.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use jobs::people::sign_in_by;
use kernel::sealing::{Keyring, SealContext};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use url::{Url, form_urlencoded};
use uuid::Uuid;
use vendors::oidc::{CameBack, Started};

use super::set_cookie;
use crate::error::{ApiError, ErrorBody};
use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::extract::person::cookie_of;
use crate::extract::query::Query;
use crate::middleware::context::RequestContext;
use crate::single_sign_on::SingleSignOn;
use crate::state::ApiState;

/// The cookie of a sign-in under way.
const COOKIE: &str = "__Host-millpond-oidc";
const LIFE_S: i64 = 600;
const PATH_BYTES_MAX: usize = 512;
/// A provider's parameters are its own, but none of ours is that long.
const PARAMETER_BYTES_MAX: usize = 4_096;
const SEALED_IN: SealContext =
    SealContext { table: "cookie", column: "oidc", owner: Uuid::nil(), row: Uuid::nil() };

/// Where somebody wants to be afterwards.
#[derive(Debug)]
pub struct Begin {
    return_to: String,
}

impl FromFields for Begin {
    fn read(fields: &mut Fields) -> Option<Self> {
        let return_to = fields.optional("returnTo", |value| own_path(text(value)?));
        Some(Self { return_to: return_to.unwrap_or_else(|| "/".to_owned()) })
    }
}

/// A path of this site. Browsers take `//host` and `/\host` for addresses of other sites, and drop tabs and line breaks.
fn own_path(text: &str) -> Result<String, Problem> {
    let base = Url::parse("https://own.invalid/").ok();
    let joined = base.as_ref().and_then(|base| base.join(text).ok());
    let stays = joined.zip(base).is_some_and(|(joined, base)| joined.origin() == base.origin());
    let is_path = text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= PATH_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let fault = || Problem::invalid("must be a path of this site, such as `/queues`");
    (stays && is_path).then(|| text.to_owned()).ok_or_else(fault)
}

/// What the browser keeps meanwhile, sealed.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    pkce_verifier: String,
    return_to: String,
    began_at_s: i64,
}

impl Pending {
    fn sealed(&self, keyring: &Keyring) -> Result<String, ApiError> {
        let text = serde_json::to_vec(self).map_err(ApiError::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(keyring.seal(&text, &SEALED_IN)))
    }

    /// What a cookie of ours says, unless it is too old.
    fn open(keyring: &Keyring, cookie: &str) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let pending: Self = serde_json::from_slice(&keyring.open(&sealed, &SEALED_IN).ok()?).ok()?;
        let age_s = kernel::clock::now().timestamp() - pending.began_at_s;
        (-60..=LIFE_S).contains(&age_s).then_some(pending)
    }
}

/// Sign in by single sign-on
///
/// For a browser: leads to the provider, which leads back to `/api/v1/session/oidc/callback`.
#[utoipa::path(
    get, path = "/api/v1/session/oidc", tag = "Session", operation_id = "beginSingleSignOn",
    params(("returnTo" = Option<String>, Query,
        description = "the path of this site to be led to afterwards; `/` unless given", example = "/queues",
        max_length = 512)),
    responses(
        (status = 303, description = "to the provider", headers(
            ("Location" = String, description = "the provider's page"),
            ("Set-Cookie" = String, description = "binds what was begun to this browser, for ten minutes"))),
        (status = 400, description = "parameters are not valid; all their faults", body = ErrorBody),
        (status = 404, description = "there is no single sign-on here", body = ErrorBody),
        (status = 503, description = "the provider cannot be reached, or there is too much to do", body = ErrorBody)))]
pub async fn begin(State(state): State<ApiState>, Query(begin): Query<Begin>) -> Result<Response, ApiError> {
    let SingleSignOn { provider, .. } = configured(&state)?;
    let Started { url, state: token, nonce, pkce_verifier } =
        provider.authorization(&callback_url(&state)).await?;
    let pending = Pending {
        state: token,
        nonce,
        pkce_verifier,
        return_to: begin.return_to,
        began_at_s: kernel::clock::now().timestamp(),
    };
    let cookie = written(&pending.sealed(state.keyring())?, Duration::seconds(LIFE_S))?;
    led_to(url.as_str(), [cookie])
}

/// End a sign-in by single sign-on
///
/// Where the provider leads the browser back to. What parameters it adds to these is its own matter.
#[utoipa::path(
    get, path = "/api/v1/session/oidc/callback", tag = "Session", operation_id = "endSingleSignOn",
    params(
        ("state" = Option<String>, Query, description = "what the provider was given"),
        ("code" = Option<String>, Query, description = "the provider's code"),
        ("error" = Option<String>, Query, description = "why the provider gives none")),
    responses(
        (status = 303, description = "signed in", headers(
            ("Location" = String, description = "the path that was asked for at the beginning"),
            ("Set-Cookie" = String, description = "the session's cookie"))),
        (status = 400, description = "this browser began no such sign-in, or too long ago", body = ErrorBody),
        (status = 401, description = "UNAUTHORIZED: the provider does not prove who it is", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: the person has no account here, or a disabled one", body = ErrorBody),
        (status = 404, description = "there is no single sign-on here", body = ErrorBody),
        (status = 503, description = "the provider cannot be reached, or there is too much to do", body = ErrorBody)))]
pub async fn end(State(state): State<ApiState>, headers: HeaderMap, uri: Uri) -> Result<Response, ApiError> {
    let SingleSignOn { provider, newcomers } = configured(&state)?;
    let brought = Brought::of(uri.query().unwrap_or_default())?;
    let pending = cookie_of(&headers, COOKIE).and_then(|cookie| Pending::open(state.keyring(), &cookie));
    let pending = pending
        .filter(|pending| bool::from(pending.state.as_bytes().ct_eq(brought.state.as_bytes())))
        .ok_or_else(|| {
            ApiError::invalid("state", "NOT_BEGUN", "this browser began no such sign-in, or too long ago")
        })?;
    // Only now is what the address says the provider's word, and not some other site's.
    let code = brought.code.ok_or(ApiError::NotProven)?;
    let redirect_uri = callback_url(&state);
    let Pending { nonce, pkce_verifier, return_to, .. } = &pending;
    let came_back = CameBack { code: &code, redirect_uri: &redirect_uri, nonce, pkce_verifier };
    let claims = provider.exchange(came_back).await?;
    let request_id = Some(RequestContext::current_id());
    let signed_in = sign_in_by(state.pool(), state.keyring(), newcomers, &claims, request_id).await?;
    let session = set_cookie(signed_in.session.secret.expose(), signed_in.session.expires_at)?;
    led_to(return_to, [session, written("", Duration::ZERO)?])
}

/// What a browser comes back with.
struct Brought {
    state: String,
    code: Option<String>,
}

impl Brought {
    fn of(query: &str) -> Result<Self, ApiError> {
        let (mut state, mut code) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "code" => &mut code,
                _ => continue,
            };
            let fits = value.len() <= PARAMETER_BYTES_MAX && place.is_none();
            *place = Some(value.into_owned());
            if !fits {
                return Err(ApiError::invalid(&name, "INVALID", "must be given once, and not be so long"));
            }
        }
        let state = state.ok_or_else(|| ApiError::invalid("state", "REQUIRED", "is required"))?;
        Ok(Self { state, code })
    }
}

fn configured(state: &ApiState) -> Result<&SingleSignOn, ApiError> {
    state.single_sign_on().ok_or(ApiError::NotFound("single sign-on"))
}

fn callback_url(state: &ApiState) -> String {
    format!("{}/api/v1/session/oidc/callback", state.public_url())
}

fn written(value: &str, life: Duration) -> Result<HeaderValue, ApiError> {
    // Lax and not strict: the provider's page leads the browser back here.
    let cookie = Cookie::build((COOKIE, value)).max_age(life).path("/").secure(true).http_only(true);
    let cookie = cookie.same_site(SameSite::Lax).build().to_string();
    HeaderValue::from_str(&cookie).map_err(ApiError::internal)
}

fn led_to<const N: usize>(location: &str, cookies: [HeaderValue; N]) -> Result<Response, ApiError> {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let location = HeaderValue::from_str(location).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_led_to_paths_of_this_site_alone() {
        for good in ["/", "/queues?x=1#top", "/a//b"] {
            assert!(own_path(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "queues",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x=y",
            "/ü",
            &format!("/{}", "a".repeat(PATH_BYTES_MAX)),
        ] {
            assert!(own_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_begun_is_opened_by_our_keys_alone_and_not_for_ever() {
        let ring = Keyring::generate();
        let pending = |began_at_s| Pending {
            state: "s".to_owned(),
            nonce: "n".to_owned(),
            pkce_verifier: "v".to_owned(),
            return_to: "/".to_owned(),
            began_at_s,
        };
        let now_s = kernel::clock::now().timestamp();
        let cookie = pending(now_s).sealed(&ring).unwrap();
        assert!(Pending::open(&ring, &cookie).is_some());
        assert!(Pending::open(&Keyring::generate(), &cookie).is_none());
        assert!(Pending::open(&ring, &cookie[1..]).is_none());
        let old = pending(now_s - LIFE_S - 1).sealed(&ring).unwrap();
        assert!(Pending::open(&ring, &old).is_none());
    }
}
