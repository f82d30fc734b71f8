//! The table of contents of the API, and what surrounds its handlers.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::{ApiError, panicked};
use crate::middleware::{
    access_log::log_request, rate_headers::tell_rate, request_id::name_request,
    request_metrics::measure_request, security_headers::secure, shed::shed_load, time_limit::limit_time,
};
use crate::openapi;
use crate::routes::{admin, docs, health, jobs, ops, partners, profiles, session, welcome};
use crate::state::ApiState;

/// Smaller answers fit one packet anyway.
const COMPRESSED_BYTES_MIN: u64 = 1_024;

/// Partners ask and poll; these may wait for results.
fn waiting_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(profiles::enrich::enrich)).routes(routes!(jobs::show::show))
}

/// The rest of what partners may do.
fn quick_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(jobs::list::list))
        .routes(routes!(jobs::cancel::cancel))
        .routes(routes!(partners::quota::show))
        .routes(routes!(partners::subscription::show))
        .routes(routes!(partners::search::search))
        .routes(routes!(partners::request::request))
}

/// Signing in and out, and one's own account.
fn session_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(session::sign_in::sign_in, session::current::show, session::current::sign_out))
        .routes(routes!(session::single_sign_on::begin))
        .routes(routes!(session::single_sign_on::end))
        .routes(routes!(session::password::change))
        .routes(routes!(session::password_reset::ask))
        .routes(routes!(session::password_reset::choose))
        .routes(routes!(welcome::reveal))
        .routes(routes!(session::sessions::list))
        .routes(routes!(session::sessions::end))
}

/// What admins decide about partners and the pool.
fn admin_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(admin::partners::list, admin::partners::create))
        .routes(routes!(admin::partners::show, admin::partners::change))
        .routes(routes!(admin::keys::add))
        .routes(routes!(admin::keys::regenerate))
        .routes(routes!(admin::keys::revoke))
        .routes(routes!(admin::subscription::change))
        .routes(routes!(admin::subscriptions::list))
        .routes(routes!(admin::subscriptions::history))
        .routes(routes!(admin::requests::list))
        .routes(routes!(admin::usage::show))
        .routes(routes!(admin::notifications::send))
        .routes(routes!(admin::pool::list))
        .routes(routes!(admin::pool::change))
        .routes(routes!(admin::pool::bulk::preview, admin::pool::bulk::change))
}

/// What operators see and do.
fn ops_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(ops::overview::show))
        .routes(routes!(ops::events::listen))
        .routes(routes!(ops::queues::list))
        .routes(routes!(ops::queues::pause))
        .routes(routes!(ops::queues::resume))
        .routes(routes!(ops::queues::set_concurrency))
        .routes(routes!(ops::jobs::list::list))
        .routes(routes!(ops::jobs::count::count))
        .routes(routes!(ops::jobs::bulk::preview, ops::jobs::bulk::start))
        .routes(routes!(ops::jobs::detail::show))
        .routes(routes!(ops::jobs::one::retry))
        .routes(routes!(ops::jobs::one::cancel))
        .routes(routes!(ops::dead::list))
        .routes(routes!(ops::limits::list))
        .routes(routes!(ops::limits::set, ops::limits::reset))
        .routes(routes!(ops::schedules::list))
        .routes(routes!(ops::schedules::show, ops::schedules::set, ops::schedules::remove))
        .routes(routes!(ops::schedules::pause))
        .routes(routes!(ops::schedules::resume))
        .routes(routes!(ops::schedules::run))
        .routes(routes!(ops::workers::list))
        .routes(routes!(ops::workers::quiet))
        .routes(routes!(ops::workers::resume))
        .routes(routes!(ops::workers::stop))
        .routes(routes!(ops::tenants::list))
        .routes(routes!(ops::tenants::set))
        .routes(routes!(ops::history::list))
        .routes(routes!(ops::audit::list))
        .routes(routes!(ops::users::list, ops::users::create))
        .routes(routes!(ops::users::show, ops::users::change))
}

/// Open to anyone who reaches the port.
fn probe_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

/// The whole API.
///
/// # Errors
/// When the OpenAPI document cannot be written, which only a fault in the code can cause.
pub fn router(state: ApiState) -> Result<Router, Box<dyn std::error::Error + Send + Sync>> {
    let timeout = state.request_timeout();
    let shed = from_fn_with_state(state.places(), shed_load);
    let waiting = waiting_routes().route_layer(from_fn_with_state(timeout, limit_time));
    let quick = quick_routes().merge(session_routes()).merge(admin_routes()).merge(ops_routes());
    let quick = quick.route_layer(from_fn_with_state(timeout / 2, limit_time));
    let api = OpenApiRouter::with_openapi(openapi::head())
        .merge(waiting)
        .merge(quick)
        .route_layer(shed)
        .merge(probe_routes());
    let (router, document) = api.split_for_parts();
    let router = router.with_state(state).merge(docs::routes(&openapi::complete(document))?);
    let router = router.merge(welcome::page());
    Ok(surrounded(router))
}

/// The OpenAPI document of the whole API.
pub fn document() -> OpenApi {
    let routes = OpenApiRouter::with_openapi(openapi::head())
        .merge(waiting_routes())
        .merge(quick_routes())
        .merge(session_routes())
        .merge(admin_routes())
        .merge(ops_routes())
        .merge(probe_routes());
    openapi::complete(routes.into_openapi())
}

/// The first layer is the outermost. A panic is caught inside everything that names, logs, counts and compresses,
/// so that its answer is like any other.
fn surrounded(router: Router) -> Router {
    // Events must not wait in a compressor.
    let compressed = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE);
    let layers = ServiceBuilder::new()
        .layer(from_fn(name_request))
        .layer(from_fn(log_request))
        .layer(from_fn(measure_request))
        .layer(from_fn(secure))
        .layer(CompressionLayer::new().compress_when(compressed))
        .layer(from_fn(tell_rate))
        .layer(CatchPanicLayer::custom(panicked));
    router
        .fallback(|| async { ApiError::NotFound("path") })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(layers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::extract::Request;
    use axum::response::Response;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use sqlx::postgres::PgPoolOptions;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::*;
    use crate::state::ApiParts;

    /// The API with a database that nothing here reaches.
    fn api() -> Router {
        let settings = config::Settings::load(&config::Sources::default()).unwrap();
        let pool: db::Pool =
            PgPoolOptions::new().connect_lazy("postgres://127.0.0.1:1/nowhere").unwrap().into();
        let parts = ApiParts {
            pool: pool.clone(),
            watcher: queue::Watcher::new(),
            estimator: ::jobs::estimator(pool),
            waker: queue::Waker::new(),
            lease: std::time::Duration::from_millis(settings.queue.lease_ms),
            http: settings.http.clone(),
            api: settings.api.clone(),
            partners: settings.partners.clone(),
            single_sign_on: None,
            keyring: Arc::new(kernel::sealing::Keyring::generate()),
            allow_loopback: false,
            render_metrics: Arc::new(|| "up 1\n".to_owned()),
            stop: CancellationToken::new(),
        };
        router(ApiState::new(parts)).unwrap()
    }

    async fn answered(router: Router, request: http::request::Builder) -> Response {
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn json(response: Response) -> Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn the_routers_own_refusals_have_the_envelope_and_name_the_request() {
        let unknown = answered(api(), Request::get("/nowhere").header("x-request-id", "mine-1")).await;
        assert_eq!(unknown.status(), 404);
        assert_eq!(unknown.headers()["x-request-id"], "mine-1");
        assert_eq!(unknown.headers()["x-content-type-options"], "nosniff");
        let body = json(unknown).await;
        assert_eq!(body["error"]["code"], "NOT_FOUND");
        assert_eq!(body["requestId"], "mine-1");

        let wrong_method = answered(api(), Request::delete("/api/v1/profiles/enrich")).await;
        assert_eq!(wrong_method.status(), 405);
        assert_eq!(wrong_method.headers()["allow"], "POST");
        assert_eq!(json(wrong_method).await["error"]["code"], "METHOD_NOT_ALLOWED");
    }

    #[tokio::test]
    async fn credentials_are_asked_for_before_anything_else() {
        for path in ["/api/v1/jobs?unknown=1", "/api/v1/jobs/wrong_id"] {
            let refused = answered(api(), Request::get(path)).await;
            assert_eq!(refused.status(), 401, "{path}");
            assert_eq!(json(refused).await["error"]["code"], "UNAUTHORIZED");
        }
        let guess = Request::get("/api/v1/jobs").header("x-partner-id", "a").header("x-api-key", "wrong");
        assert_eq!(answered(api(), guess).await.status(), 401);
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_in_the_envelope() {
        async fn panics() {
            panic!("with details that nobody outside may see")
        }
        let router = surrounded(Router::new().route("/panics", get(panics)));
        let failed = answered(router, Request::get("/panics")).await;
        assert_eq!(failed.status(), 500);
        let id = failed.headers()["x-request-id"].to_str().unwrap().to_owned();
        let body = json(failed).await;
        assert_eq!(body["requestId"], id);
        assert_eq!(body["error"]["message"], "an internal error occurred");
    }

    #[tokio::test]
    async fn probes_need_no_credentials_and_readiness_needs_the_database() {
        assert_eq!(answered(api(), Request::get("/health/live")).await.status(), 200);
        assert_eq!(answered(api(), Request::get("/metrics")).await.status(), 200);
        assert_eq!(answered(api(), Request::get("/health/ready")).await.status(), 503);
    }

    #[tokio::test]
    async fn the_page_needs_nothing_from_elsewhere_and_no_inline_script() {
        let page = answered(api(), Request::get("/api-docs/")).await;
        assert_eq!(page.status(), 200);
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("script-src 'self';"), "{policy}");
        let html = page.into_body().collect().await.unwrap().to_bytes();
        let html = String::from_utf8_lossy(&html);
        assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
        let scripts: Vec<_> = html.split("<script").skip(1).collect();
        assert!(!scripts.is_empty());
        for script in scripts {
            assert!(script.trim_start().starts_with("src=\"./"), "{script}");
        }
        assert_eq!(answered(api(), Request::get("/api-docs/nothing.js")).await.status(), 404);
    }

    #[tokio::test]
    async fn the_document_names_every_route_with_its_refusals() {
        let document = json(answered(api(), Request::get("/api-docs/openapi.json")).await).await;
        assert_eq!(document["openapi"], "3.1.0");
        let enrich = &document["paths"]["/api/v1/profiles/enrich"]["post"];
        for status in ["200", "202", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"] {
            assert!(enrich["responses"][status].is_object(), "{status}");
        }
        assert!(enrich["responses"]["429"]["headers"]["Retry-After"].is_object());
        assert!(document["paths"]["/health/ready"]["get"].is_object());
    }

    #[tokio::test]
    async fn the_partner_subset_holds_what_partners_need_and_no_more() {
        let subset = json(answered(api(), Request::get("/api-docs/partner-api.json")).await).await;
        let paths: Vec<_> = subset["paths"].as_object().unwrap().keys().collect();
        let expected = [
            "/api/v1/jobs",
            "/api/v1/jobs/{id}",
            "/api/v1/jobs/{id}/cancel",
            "/api/v1/partners/pool/request",
            "/api/v1/partners/pool/search",
            "/api/v1/partners/quota",
            "/api/v1/partners/subscription",
            "/api/v1/profiles/enrich",
        ];
        assert_eq!(paths, expected);
        assert!(subset["components"]["schemas"]["ErrorBody"].is_object());
        assert!(subset["components"]["schemas"]["Health"].is_null());
        let yaml = answered(api(), Request::get("/api-docs/partner-api.yaml")).await;
        assert_eq!(yaml.headers()["content-type"], "application/yaml");
    }
}
