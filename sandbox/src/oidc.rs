//! An OpenID provider for single sign-on: discovery, the authorization code flow with PKCE, ID tokens signed ES256, its
//! keys, and user info (OpenID Connect Core 1.0, RFC 6749, RFC 7636). Everybody may sign in as anybody.
//!
//! There is one client, `millpond`, with the sandbox's token as its secret; it may come back to addresses of this very
//! machine. Who signs in follows from the e-mail address: given as `login_hint`, consent is given at once; without it a page asks.
//! Addresses that begin with `unverified` are not verified.
//!
//! Guarantees: a code is good once, for a minute, for the redirect address and the PKCE challenge that it was made for. Codes
//! and tokens that are kept are bounded; the oldest make room. Beside the faults of all fakes, the operation `token` knows
//! `id_token` with what shall be `wrong` with it.

mod grants;
mod id_token;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use url::{Host, Url, form_urlencoded};

use crate::Shared;
use crate::exchange::Exchange;
use crate::json::{self, Refusal};
use grants::{Grant, Grants, Person};
pub(crate) use id_token::WrongIdToken;
use id_token::{About, Signer};

const CLIENT_ID: &str = "millpond";
const VENDOR: &str = "oidc";

/// What the provider remembers.
#[derive(Debug, Default)]
pub(crate) struct Provider {
    signer: Signer,
    grants: Grants,
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/oidc/.well-known/openid-configuration", get(discovery))
        .route("/oidc/jwks", get(jwks))
        .route("/oidc/authorize", get(authorize))
        .route("/oidc/token", post(token))
        .route("/oidc/userinfo", get(user_info))
        .route("/_sandbox/oidc/rotate", post(rotate))
}

/// The issuer is wherever it was asked: a sandbox behind another name is a provider of that name.
fn issuer(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}/oidc")
}

fn begin(shared: &Shared, operation: &'static str, handle: Option<&str>, headers: &HeaderMap) -> Exchange {
    Exchange::begin(shared, VENDOR, operation, handle, None, headers)
}

async fn discovery(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let issuer = issuer(&headers);
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid", "email", "profile"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "email", "email_verified", "name"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    });
    let work = async { json::answer(StatusCode::OK, &document) };
    begin(&shared, "discovery", None, &headers).carry_out(work).await
}

async fn jwks(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let work = async { json::answer(StatusCode::OK, &shared.oidc.signer.public_keys()) };
    begin(&shared, "jwks", None, &headers).carry_out(work).await
}

/// Another key, and no word of the last one any more.
async fn rotate(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.oidc.signer.rotate();
    StatusCode::NO_CONTENT
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    scope: String,
    state: Option<String>,
    nonce: Option<String>,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
    login_hint: Option<String>,
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
    uri: axum::http::Uri,
) -> Response {
    let exchange = begin(&shared, "authorize", None, &headers);
    exchange
        .carry_out(async {
            let asked = match json::query(asked) {
                Ok(asked) => asked,
                Err(refusal) => return refusal.into_response(),
            };
            // Whoever comes with a wrong client or address is not sent anywhere (RFC 6749, 4.1.2.1).
            let Some(back) = allowed_redirect(&asked) else {
                let message = "the client is `millpond`, and redirect_uri an address of this machine";
                return Refusal::invalid(message).into_response();
            };
            match consent(&shared, &asked) {
                Ok(Some(code)) => redirect(back, &[("code", Some(&code)), ("state", asked.state.as_deref())]),
                Ok(None) => page(uri.query().unwrap_or_default()),
                Err(error) => redirect(back, &[("error", Some(error)), ("state", asked.state.as_deref())]),
            }
        })
        .await
}

fn allowed_redirect(asked: &Asked) -> Option<Url> {
    let url = Url::parse(&asked.redirect_uri).ok()?;
    let is_here = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    (asked.client_id == CLIENT_ID && is_here && url.fragment().is_none()).then_some(url)
}

/// A code; none: somebody must still say who they are.
fn consent(shared: &Shared, asked: &Asked) -> Result<Option<String>, &'static str> {
    if asked.response_type != "code" {
        return Err("unsupported_response_type");
    }
    if !asked.scope.split(' ').any(|scope| scope == "openid") {
        return Err("invalid_scope");
    }
    if asked.code_challenge_method != "S256" || asked.code_challenge.is_empty() {
        return Err("invalid_request");
    }
    let Some(email) = asked.login_hint.as_deref().filter(|email| !email.is_empty()) else { return Ok(None) };
    let person = Person::of(email).ok_or("login_required")?;
    Ok(Some(shared.oidc.grants.make_code(Grant {
        person,
        redirect_uri: asked.redirect_uri.clone(),
        nonce: asked.nonce.clone(),
        challenge: asked.code_challenge.clone(),
    })))
}

fn redirect(mut back: Url, parameters: &[(&str, Option<&str>)]) -> Response {
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (*name, value)));
    back.query_pairs_mut().extend_pairs(given);
    let mut response = StatusCode::SEE_OTHER.into_response();
    // A parsed address is ASCII without control characters.
    if let Ok(location) = HeaderValue::from_str(back.as_str()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// A form that sends the same request again, with an address in it.
fn page(query: &str) -> Response {
    let fields: String = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name != "login_hint")
        .map(|(name, value)| {
            format!(r#"<input type="hidden" name="{}" value="{}">"#, in_html(&name), in_html(&value))
        })
        .collect();
    let page = format!(
        r#"<!doctype html><meta charset="utf-8"><title>Sandbox sign-in</title><h1>Sign in to the sandbox</h1>
<form action="authorize">{fields}<label>E-mail address <input name="login_hint" type="email" required
autofocus></label> <button>Sign in</button></form><p>Nothing here is real: everybody may be anybody.</p>"#
    );
    let mut response = page.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn in_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[derive(Debug, Default)]
struct Exchanged {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

impl Exchanged {
    fn of(form: &[u8]) -> Self {
        let mut fields: BTreeMap<_, _> = form_urlencoded::parse(form).into_owned().collect();
        let mut take = |name: &str| fields.remove(name);
        Self {
            grant_type: take("grant_type").unwrap_or_default(),
            code: take("code").unwrap_or_default(),
            redirect_uri: take("redirect_uri").unwrap_or_default(),
            code_verifier: take("code_verifier").unwrap_or_default(),
            client_id: take("client_id"),
            client_secret: take("client_secret"),
        }
    }
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    form: Result<Bytes, BytesRejection>,
) -> Response {
    let exchange = begin(&shared, "token", None, &headers);
    let wrong = exchange.wrong_id_token();
    exchange
        .carry_out(async {
            let Ok(form) = form.as_deref().map(Exchanged::of) else {
                return refused(StatusCode::BAD_REQUEST, "invalid_request");
            };
            if !is_client(&shared, &headers, &form) {
                let mut response = refused(StatusCode::UNAUTHORIZED, "invalid_client");
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
                return response;
            }
            if form.grant_type != "authorization_code" {
                return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type");
            }
            let oidc = &shared.oidc;
            let Some(grant) = oidc.grants.redeem(&form.code, &form.redirect_uri, &form.code_verifier) else {
                return refused(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            let access_token = oidc.grants.make_token(grant.person.clone());
            let about = About { issuer: &issuer(&headers), client: CLIENT_ID, grant: &grant };
            let id_token = oidc.signer.id_token(&about, wrong, kernel::clock::now());
            let mut response = json::answer(
                StatusCode::OK,
                &json!({
                    "access_token": access_token,
                    "token_type": "Bearer",
                    "expires_in": 300,
                    "scope": "openid email profile",
                    "id_token": id_token,
                }),
            );
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        })
        .await
}

/// By `client_secret_basic` or `client_secret_post`.
fn is_client(shared: &Shared, headers: &HeaderMap, form: &Exchanged) -> bool {
    let basic = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.strip_prefix("Basic ")).and_then(|packed| {
        let text = String::from_utf8(STANDARD.decode(packed).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((unescaped(id), unescaped(secret)))
    });
    let posted = form.client_id.clone().zip(form.client_secret.clone());
    basic.or(posted).is_some_and(|(id, secret)| id == CLIENT_ID && secret == shared.token)
}

/// In the header both parts are form-encoded once more (RFC 6749, 2.3.1).
fn unescaped(text: &str) -> String {
    let pairs = form_urlencoded::parse(text.as_bytes()).map(|(name, _)| name.into_owned());
    pairs.collect()
}

fn refused(status: StatusCode, error: &str) -> Response {
    json::answer(status, &json!({"error": error, "error_description": "see GET / of the sandbox"}))
}

async fn user_info(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let exchange = begin(&shared, "userinfo", None, &headers);
    let work = async {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer "));
        match token.and_then(|token| shared.oidc.grants.person(token)) {
            Some(person) => json::answer(StatusCode::OK, &person.claims()),
            None => {
                let mut response = refused(StatusCode::UNAUTHORIZED, "invalid_token");
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
        }
    };
    exchange.carry_out(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(client_id: &str, redirect_uri: &str) -> Asked {
        Asked { client_id: client_id.to_owned(), redirect_uri: redirect_uri.to_owned(), ..Asked::default() }
    }

    #[test]
    fn people_are_sent_back_to_this_machine_only() {
        for good in ["http://127.0.0.1:8080/back", "http://localhost/back?x=1", "https://[::1]/"] {
            assert!(allowed_redirect(&asked(CLIENT_ID, good)).is_some(), "{good}");
        }
        for wrong in ["https://evil.example/", "/back", "javascript:1", "http://localhost/#x", ""] {
            assert!(allowed_redirect(&asked(CLIENT_ID, wrong)).is_none(), "{wrong}");
        }
        assert!(allowed_redirect(&asked("other", "http://localhost/")).is_none());
    }

    #[test]
    fn credentials_in_a_header_are_encoded_twice() {
        assert_eq!(unescaped("a%3Ab+c"), "a:b c");
    }
}
