//! The OpenAPI document: its head, what all operations share, and the subset that partners need.

mod examples;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr};

use crate::error::ErrorBody;
use crate::extract::person::COOKIE;

const HEAD: &str = "\
Millpond accepts slow work as jobs: a request is answered at once with a job id, and the result is polled, waited for \
or posted to a callback address.

Every error has one body: `{\"success\": false, \"error\": {\"code\", \"message\", \"details\"?}, \"requestId\"}`. \
Unknown fields and parameters are refused, and all faults of a body come at once. Every answer carries `X-Request-Id`, \
yours if you send one (1 to 128 visible ASCII characters). A `traceparent` of the W3C Trace Context recommendation is \
taken up, an unreadable one is ignored; the work that a request starts, its callbacks included, is in the same trace. \
Instants are RFC 3339 in UTC.

Each partner may send so many requests a clock minute; `RateLimit` and `RateLimit-Policy` on every authenticated \
answer say how many are left, and a 429 says in `Retry-After` when to come back.

People sign in by `POST /api/v1/session`, for a cookie or a bearer token. What each operation needs of them is in \
`x-required-role`: `viewer`, `operator` or `admin`, each of which may do what those before it may. A change by cookie must \
come from this site. Lists take `limit`, `cursor`, `sort` and `format=csv`, whose next cursor is in `X-Next-Cursor`.";

/// The head of the document.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Millpond API", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    tags(
        (name = "Account", description = "A partner's quota and subscription"),
        (name = "Pool", description = "Find creators and request them"),
        (name = "Pool for admins", description = "Who is in the pool and who may see them"),
        (name = "Profiles", description = "Creators' profiles, crawled on request"),
        (name = "Jobs", description = "Work in progress and its results"),
        (name = "Partners", description = "Partners, their keys and what they have bought; for admins"),
        (name = "Overview", description = "Everything at a glance"),
        (name = "Queues", description = "What stands in queues; pause, resume, drain, bound"),
        (name = "Jobs for operators", description = "Find, look at, retry and cancel any job"),
        (name = "Dead letters", description = "What failed for good, by what it has in common"),
        (name = "Limits", description = "What jobs may use of others"),
        (name = "Schedules", description = "Cron lines and their ticks"),
        (name = "Workers", description = "The processes that run jobs"),
        (name = "Tenants", description = "Shares of the workers"),
        (name = "History", description = "What became of jobs over time"),
        (name = "Audit", description = "Who changed what"),
        (name = "Session", description = "Signing in and out"),
        (name = "Users", description = "Who may sign in"),
        (name = "Health", description = "Probes and metrics"),
    ),
    components(schemas(ErrorBody)),
)]
struct Head;

/// The document before any route.
pub(crate) fn head() -> OpenApi {
    let mut api = Head::openapi();
    api.info.description = Some(HEAD.to_owned());
    let components = api.components.get_or_insert_default();
    let header = |name: &str, about: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, about)))
    };
    components
        .add_security_scheme("partnerId", header("X-Partner-ID", "the partner's code, e.g. techcombank"));
    components.add_security_scheme("apiKey", header("X-API-Key", "one of the partner's API keys"));
    let cookie = ApiKeyValue::with_description(
        COOKIE,
        "a browser's session; changes also need `Sec-Fetch-Site: same-origin` or a matching `Origin`",
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    api
}

/// Adds to every operation what the middleware and the credentials can answer.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    for item in api.paths.paths.values_mut() {
        for operation in changes(item) {
            add_body_errors(operation);
        }
        for operation in operations(item) {
            let (partners, people) = (needs(operation, "partnerId"), needs(operation, "session"));
            add_error(operation, "500", "INTERNAL_ERROR: a fault of the server");
            if partners || people {
                add_error(operation, "503", "OVERLOADED: nothing was done, try again shortly");
            }
            if people {
                add_error(operation, "401", "UNAUTHORIZED: nobody is signed in, or the session has ended");
                add_error(
                    operation,
                    "403",
                    "FORBIDDEN: the role does not suffice, or another site asks; why, in `details`",
                );
            }
            if partners {
                add_error(operation, "401", "UNAUTHORIZED: credentials are missing or wrong");
                add_error(
                    operation,
                    "403",
                    "FORBIDDEN: the partner or its subscription may not; why, in `details`",
                );
                add_error(operation, "429", "RATE_LIMITED: see `Retry-After`");
                add_rate(operation);
            }
            add_request_id(operation);
        }
    }
    // Bodies that all answers of a kind share leave the schemas of their parts behind.
    drop_unused_schemas(&mut api);
    examples::add_examples(&mut api);
    api
}

/// Also an operation that takes no body reads what is sent, to refuse one that says something.
fn add_body_errors(operation: &mut Operation) {
    add_error(operation, "408", "REQUEST_TIMEOUT: the body did not arrive in time");
    add_error(operation, "413", "PAYLOAD_TOO_LARGE: the body is too long");
    if operation.request_body.is_some() {
        add_error(operation, "415", "UNSUPPORTED_MEDIA_TYPE: the body is not JSON");
    }
}

/// Whether an operation takes this kind of credentials.
fn needs(operation: &Operation, scheme: &str) -> bool {
    let names =
        |requirement| serde_json::to_value(requirement).is_ok_and(|named| named.get(scheme).is_some());
    operation.security.iter().flatten().any(names)
}

/// The part of the document that needs a partner's credentials, with only the schemas it uses.
pub(crate) fn partner_subset(api: &OpenApi) -> OpenApi {
    let mut subset = api.clone();
    subset.info.title = "Millpond partner API".to_owned();
    subset.paths.paths.retain(|_, item| operations(item).any(|operation| needs(operation, "partnerId")));
    let used_tags: BTreeSet<String> = subset
        .paths
        .paths
        .values_mut()
        .flat_map(|item| operations(item).flat_map(|operation| operation.tags.clone().unwrap_or_default()))
        .collect();
    if let Some(tags) = &mut subset.tags {
        tags.retain(|tag| used_tags.contains(&tag.name));
    }
    drop_unused_schemas(&mut subset);
    subset
}

/// The operations that change something, all of which read a body.
fn changes(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn add_error(operation: &mut Operation, status: &str, description: &str) {
    let content = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    let response =
        ResponseBuilder::new().description(description).content("application/json", content).build();
    operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
}

fn add_request_id(operation: &mut Operation) {
    add_header(operation, "X-Request-Id", Type::String, "the request's id, yours or ours");
}

fn add_rate(operation: &mut Operation) {
    add_header(
        operation,
        "RateLimit",
        Type::String,
        "requests left in this minute and seconds until the next",
    );
    add_header(operation, "RateLimit-Policy", Type::String, "requests a minute");
    if let Some(RefOr::T(refused)) = operation.responses.responses.get_mut("429") {
        let schema = ObjectBuilder::new().schema_type(Type::Integer);
        let header =
            HeaderBuilder::new().schema(Some(schema)).description(Some("seconds until the next minute"));
        refused.headers.insert("Retry-After".to_owned(), RefOr::T(header.build()));
    }
}

fn add_header(operation: &mut Operation, name: &str, of: Type, description: &str) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        // Nobody's rate can be told to somebody unknown.
        if status == "401" && name.starts_with("RateLimit") {
            continue;
        }
        let schema = ObjectBuilder::new().schema_type(of.clone());
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
        response.headers.insert(name.to_owned(), RefOr::T(header));
    }
}

fn drop_unused_schemas(api: &mut OpenApi) {
    let Some(components) = &mut api.components else { return };
    let schemas: BTreeMap<String, Value> = components
        .schemas
        .iter()
        .map(|(name, schema)| (name.clone(), as_json(serde_json::to_value(schema))))
        .collect();
    let mut used = BTreeSet::new();
    let mut open = Vec::new();
    references(&as_json(serde_json::to_value(&api.paths)), &mut open);
    while let Some(name) = open.pop() {
        if let Some(schema) = schemas.get(&name)
            && used.insert(name)
        {
            references(schema, &mut open);
        }
    }
    components.schemas.retain(|name, _| used.contains(name));
}

/// What of the document could not be written as JSON is nothing.
fn as_json(value: Result<Value, serde_json::Error>) -> Value {
    value.unwrap_or_default()
}

/// The names of the schemas that a piece of the document refers to.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            let reference = entries.get("$ref").and_then(Value::as_str);
            found.extend(
                reference.and_then(|path| path.strip_prefix("#/components/schemas/")).map(str::to_owned),
            );
            entries.values().for_each(|entry| references(entry, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
