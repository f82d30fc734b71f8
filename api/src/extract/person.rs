//! Who is signed in, and whether their role suffices: checked before anything else is.
//!
//! A session comes as the cookie [`COOKIE`] or as bearer token. A browser sends cookies with requests that other sites make
//! it send, so a change that comes with a cookie must say that it comes from here: `Sec-Fetch-Site: same-origin`, or,
//! where a browser says nothing of that, an `Origin` that is this very host. `SameSite` alone would leave sibling hosts.

use axum::extract::FromRequestParts;
use cookie::Cookie;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use identity::{Role, Session, SessionKind, authenticate};

use crate::error::{ApiError, Fault};
use crate::middleware::context::RequestContext;
use crate::state::ApiState;
use audit::Actor;
use jobs::Door;

/// The session's cookie. The prefix makes browsers insist on TLS (or this very machine), the whole host and the root path.
pub const COOKIE: &str = "__Host-millpond";

/// Anybody who is signed in.
#[derive(Debug, Clone, Copy)]
pub struct Viewer(pub Session);
/// An operator or admin.
#[derive(Debug, Clone, Copy)]
pub struct Operator(pub Session);
/// An admin.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub Session);

macro_rules! at_least {
    ($extractor:ident) => {
        impl FromRequestParts<ApiState> for $extractor {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
                admit(parts, state, Role::$extractor).await.map(Self)
            }
        }
    };
}
at_least!(Viewer);
at_least!(Operator);
at_least!(Admin);

/// The signed-in person as the asker of an action.
pub fn door<'a>(state: &'a ApiState, session: &Session) -> Door<'a> {
    Door {
        actor: Actor::User(session.person),
        request_id: Some(RequestContext::current_id()),
        keyring: state.keyring(),
    }
}

async fn admit(parts: &Parts, state: &ApiState, role: Role) -> Result<Session, ApiError> {
    let session = current(parts, state).await?.ok_or(ApiError::NotSignedIn)?;
    tracing::Span::current().record("user.id", tracing::field::display(session.person));
    if session.kind == SessionKind::Cookie && !parts.method.is_safe() {
        check_origin(&parts.method, &parts.headers)?;
    }
    if session.role < role {
        let reason = Fault::new("role", "ROLE_TOO_LOW", format!("the role {role} is needed"));
        return Err(ApiError::Forbidden {
            message: "your role does not allow this",
            reason: Box::new(reason),
        });
    }
    Ok(session)
}

/// The session that a request presents, if it works. A token is looked at before a cookie, and then no cookie is.
async fn current(parts: &Parts, state: &ApiState) -> Result<Option<Session>, ApiError> {
    let Some((kind, secret)) = presented(&parts.headers) else { return Ok(None) };
    let mut conn = state.pool().acquire().await?;
    Ok(authenticate(&mut conn, kind, &secret).await?)
}

fn presented(headers: &HeaderMap) -> Option<(SessionKind, String)> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| (SessionKind::Token, token.trim().to_owned()));
    }
    cookie_of(headers, COOKIE).map(|secret| (SessionKind::Cookie, secret))
}

/// The value of a cookie.
pub fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
}

/// Refuses changes that another site makes a browser ask for.
///
/// # Errors
/// 403.
pub fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method.is_safe() || is_from_here(headers) {
        return Ok(());
    }
    let reason = Fault::new(
        "Origin",
        "CROSS_SITE",
        "a change by cookie must come from this site: `Sec-Fetch-Site: same-origin`, or `Origin` with this host",
    );
    Err(ApiError::Forbidden { message: "the request comes from another site", reason: Box::new(reason) })
}

fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else { return false };
    origin.split_once("://").is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_token_or_a_cookie_is_presented() {
        let read = |pairs: &[_]| presented(&headers(pairs)).map(|(kind, secret)| (kind.as_str(), secret));
        assert_eq!(read(&[("authorization", "Bearer abc")]), Some(("token", "abc".to_owned())));
        assert_eq!(read(&[("authorization", "Basic abc"), ("cookie", "__Host-millpond=x")]), None);
        let cookie = [("cookie", "a=b; __Host-millpond=abc; c=d")];
        assert_eq!(read(&cookie), Some(("cookie", "abc".to_owned())));
        assert_eq!(read(&[("cookie", "millpond=abc")]), None);
    }

    #[test]
    fn changes_by_cookie_come_from_this_site() {
        for (pairs, allowed) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-site")][..], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")][..], false),
            (&[("origin", "https://a.example"), ("host", "a.example")][..], true),
            (&[("origin", "https://b.example"), ("host", "a.example")][..], false),
            (&[("origin", "null"), ("host", "a.example")][..], false),
        ] {
            assert_eq!(check_origin(&Method::POST, &headers(pairs)).is_ok(), allowed, "{pairs:?}");
        }
        assert!(check_origin(&Method::GET, &HeaderMap::new()).is_ok());
    }
}
