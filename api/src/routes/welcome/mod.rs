//! `/welcome`, where a new partner's contact fetches its key, and `POST /api/v1/welcome/key`, by which the page does.
//!
//! The code of the onboarding mail stands behind the `#` of the link, so it reaches no server log, and whoever merely
//! opens the link (mail scanners do) does not use it up: the page asks only when its button is pressed.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use jobs::partners::reveal_key;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, text};
use crate::middleware::context::RequestContext;
use crate::routes::body::Data;
use crate::state::ApiState;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The page and what belongs to it.
pub fn page() -> Router {
    Router::new()
        .route("/welcome", get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route("/welcome/page.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/welcome/page.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// The code of the mail.
#[derive(Debug, ToSchema)]
#[schema(as = WelcomeCode, example = json!({"code": "mpo_0123456789ABCDEFGHIJabcdefghij0123456789ABC"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct WelcomeCodeSchema {
    /// What stands behind the `#` of the link.
    #[schema(max_length = 64)]
    code: String,
}

struct WelcomeCode(String);

impl FromFields for WelcomeCode {
    fn read(fields: &mut Fields) -> Option<Self> {
        fields.required("code", |value| text(value).map(str::to_owned)).map(Self)
    }
}

/// A partner's credentials.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevealedKey {
    /// For the header `X-Partner-ID`.
    #[schema(example = "techcombank")]
    partner_id: String,
    /// For the header `X-API-Key`: shown this once.
    #[schema(example = "mpk_1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R9s0T1u2V")]
    api_key: String,
}

/// Fetch a new partner's key
///
/// With the code of the onboarding mail, which works once and for seven days.
#[utoipa::path(
    post, path = "/api/v1/welcome/key", tag = "Account", operation_id = "revealKey",
    request_body = WelcomeCodeSchema,
    responses(
        (status = 200, description = "the key", body = Data<RevealedKey>),
        (status = 400, description = "the body is not valid, or the code does not work (any more)", body = ErrorBody),
        (status = 408, description = "REQUEST_TIMEOUT: the body did not arrive in time", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 415, description = "UNSUPPORTED_MEDIA_TYPE: the body is not JSON", body = ErrorBody),
        (status = 503, description = "OVERLOADED: nothing was done, try again shortly", body = ErrorBody)))]
pub async fn reveal(State(state): State<ApiState>, body: JsonBody) -> Result<Response, ApiError> {
    let WelcomeCode(code) = body.fields.finish(WelcomeCode::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let request_id = Some(RequestContext::current_id());
    let shown = reveal_key(&mut tx, state.keyring(), &code, request_id).await?;
    let shown = shown.ok_or_else(|| {
        ApiError::invalid(
            "code",
            "INVALID",
            "does not work: it was used, its time is over, or it is mistyped",
        )
    })?;
    tx.commit().await?;
    let body = Data::of(RevealedKey { partner_id: shown.code, api_key: shown.api_key });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, body).into_response())
}
