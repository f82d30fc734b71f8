//! The documentation: the OpenAPI document, its partner subset, and a readable page that needs nothing from the
//! internet. The page's scripts are files of ours, so its content policy allows no inline script; its styles are
//! partly inline, because the page sets them so.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use crate::error::ApiError;
use crate::openapi::partner_subset;

const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The routes of the documentation.
///
/// # Errors
/// When the document cannot be written as JSON or YAML.
pub fn routes(api: &OpenApi) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let partner = partner_subset(api);
    Ok(Router::new()
        .route("/api-docs/openapi.json", document("application/json", api.to_pretty_json()?))
        .route("/api-docs/openapi.yaml", document("application/yaml", api.to_yaml()?))
        .route("/api-docs/partner-api.json", document("application/json", partner.to_pretty_json()?))
        .route("/api-docs/partner-api.yaml", document("application/yaml", partner.to_yaml()?))
        .route("/api-docs", get(|| async { Redirect::permanent("/api-docs/") }))
        .merge(page()))
}

fn document(content_type: &'static str, text: String) -> axum::routing::MethodRouter {
    let text: Arc<str> = text.into();
    get(move || {
        let text = text.to_string();
        async move { ([(header::CONTENT_TYPE, content_type)], text) }
    })
}

fn page() -> Router {
    let config = Arc::new(
        Config::new(["/api-docs/partner-api.json", "/api-docs/openapi.json"])
            // Its default asks a server on the internet whether the document is valid.
            .validator_url("none")
            .try_it_out_enabled(true),
    );
    let index = Arc::clone(&config);
    Router::new()
        .route("/api-docs/", get(move || async move { file("index.html", index) }))
        .route("/api-docs/{file}", get(move |Path(name): Path<String>| async move { file(&name, config) }))
}

fn file(name: &str, config: Arc<Config<'static>>) -> Result<Response, ApiError> {
    let found = utoipa_swagger_ui::serve(name, config)
        .map_err(|error| ApiError::Internal(error.to_string().into()))?
        .ok_or(ApiError::NotFound("page"))?;
    let content_type = HeaderValue::from_str(&found.content_type).map_err(ApiError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}
