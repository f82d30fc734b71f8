//! The documentation: an OpenAPI 3.1 document that holds together, and a page that works offline.

mod examples;
mod fitting;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::Answer;
use super::stage::{Stage, profile};
use fitting::assert_fits;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn open(stage: &Stage, path: &str) -> Answer {
    let answer = Answer::to(stage.api.request(Method::GET, path)).await;
    assert_eq!(answer.status, 200, "{path}");
    answer
}

/// Every operation with its path and method.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &'_ Value)| {
        let item = item.as_object().expect("a path item");
        assert!(item.keys().all(|key| METHODS.contains(&key.as_str())), "{path}");
        METHODS
            .iter()
            .filter_map(|method| {
                document["paths"][path].get(method).map(|op| (format!("{method} {path}"), op))
            })
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// Everything that a `$ref` anywhere names.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn assert_holds_together(document: &Value) {
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    assert!(document["paths"].as_object().is_some_and(|paths| !paths.is_empty()));

    let mut named = BTreeSet::new();
    references(document, &mut named);
    for name in &named {
        let pointer = name.strip_prefix('#').unwrap_or_else(|| panic!("{name} is outside the document"));
        assert!(document.pointer(pointer).is_some(), "{name} leads nowhere");
    }
    for schema in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(named.contains(format!("#/components/schemas/{schema}").as_str()), "{schema} is unused");
    }

    let mut ids = BTreeSet::new();
    for (name, operation) in operations(document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no operationId"));
        assert!(ids.insert(id), "{id} is there twice");
        assert!(operation["summary"].is_string(), "{name} has no summary");
        assert_parameters_fit(&name, operation);
        assert_responses_fit(&name, document, operation);
        for scheme in operation["security"].as_array().into_iter().flatten() {
            for scheme in scheme.as_object().expect("schemes").keys() {
                let known = &document["components"]["securitySchemes"][scheme];
                assert!(["apiKey", "http"].iter().any(|kind| known["type"] == *kind), "{name}: {scheme}");
            }
        }
    }
}

fn assert_parameters_fit(name: &str, operation: &Value) {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |place: &str| -> BTreeSet<String> {
        let placed = parameters.iter().filter(|parameter| parameter["in"] == place);
        placed.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
    };
    let in_path: BTreeSet<String> = name.split(['{', '}']).skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(of("path"), in_path, "{name}");
    for parameter in &parameters {
        assert!(parameter["schema"].is_object(), "{name}: {parameter}");
        assert_eq!(parameter["required"] == true, parameter["in"] == "path", "{name}: {parameter}");
    }
}

fn is_for_partners(operation: &Value) -> bool {
    operation["security"].as_array().is_some_and(|all| all.iter().any(|one| one.get("partnerId").is_some()))
}

/// The envelope of every error, with or without more beside it.
fn assert_is_envelope(document: &Value, schema: &Value, place: &str) {
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/"));
    let body = &document["components"]["schemas"][name.expect(place)];
    let error = body["properties"]["error"]["$ref"].as_str();
    assert_eq!(error, Some("#/components/schemas/ErrorDetail"), "{place}");
    let required = body["required"].as_array().expect(place);
    for field in ["success", "error", "requestId"] {
        assert!(required.iter().any(|one| one == field), "{place}: {field}");
    }
}

fn assert_responses_fit(name: &str, document: &Value, operation: &Value) {
    let responses = operation["responses"].as_object().expect("responses");
    assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{name}");
    assert!(responses.contains_key("500"), "{name}");
    if operation["security"].is_array() {
        for status in ["401", "403", "503"] {
            assert!(responses.contains_key(status), "{name} does not tell of {status}");
        }
        // Of people only who guesses a password is told to wait.
        let is_bounded = is_for_partners(operation) || operation["operationId"] == "changePassword";
        assert_eq!(responses.contains_key("429"), is_bounded, "{name}: 429");
        let role = operation["x-required-role"].as_str();
        let has_role = role.is_some_and(|role| ["viewer", "operator", "admin"].contains(&role));
        assert_eq!(has_role, !is_for_partners(operation), "{name}: {role:?}");
    }
    for (status, response) in responses {
        assert!(response["description"].is_string(), "{name} {status}");
        assert!(response["headers"]["X-Request-Id"].is_object(), "{name} {status}");
        if !status.starts_with(['2', '3']) {
            let schema = &response["content"]["application/json"]["schema"];
            assert_is_envelope(document, schema, &format!("{name} {status}"));
        }
    }
}

// S0-271, S0-335
#[tokio::test]
async fn the_document_is_openapi_3_1_and_holds_together() {
    let stage = Stage::new().await;
    let answer = open(&stage, "/api-docs/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let mut document = answer.json();
    assert_holds_together(&document);
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!("openapi", document);
}

// S0-176, S0-272, S0-273
#[tokio::test]
async fn the_partner_subset_holds_together_and_has_what_needs_a_partners_key() {
    let stage = Stage::new().await;
    let whole = open(&stage, "/api-docs/openapi.json").await.json();
    let subset = open(&stage, "/api-docs/partner-api.json").await.json();
    assert_holds_together(&subset);
    let (names, kept): (Vec<_>, Vec<_>) = operations(&subset).into_iter().unzip();
    let guarded = operations(&whole).into_iter().filter(|(_, operation)| is_for_partners(operation));
    let (expected, as_in_whole): (Vec<_>, Vec<_>) = guarded.unzip();
    assert_eq!(names, expected);
    assert_eq!(kept, as_in_whole);
    insta::assert_debug_snapshot!("partner_operations", names);
}

// S0-276, S0-298
#[tokio::test]
async fn what_a_finished_job_tells_is_what_is_documented() {
    let (stage, _worker) = Stage::working().await;
    let schemas = open(&stage, "/api-docs/partner-api.json").await.json()["components"]["schemas"].clone();
    for (handle, part) in [("amy.codes", "result"), ("missing.person", "error")] {
        let job = stage.enriched(handle).await;
        let job = stage.ended(&job).await;
        assert!(job[part].is_object(), "{job}");
        assert_fits(&job, &json!({ "$ref": "#/components/schemas/JobView" }), &schemas, "job");
        let held = stage.enrich(&json!({ "url": profile(handle) })).header("Prefer", "wait=15");
        let held = Answer::to(held).await.expect(200);
        assert_fits(&held, &json!({ "$ref": "#/components/schemas/FinalBody" }), &schemas, "final body");
    }
}

// S0-176
#[tokio::test]
async fn both_documents_are_served_as_yaml_too() {
    let stage = Stage::new().await;
    for name in ["openapi", "partner-api"] {
        let yaml = open(&stage, &format!("/api-docs/{name}.yaml")).await;
        assert_eq!(yaml.header("content-type"), Some("application/yaml"));
        let text = yaml.text();
        assert!(text.starts_with("openapi: 3.1.0\n"), "{}", &text[..80]);
        let document = open(&stage, &format!("/api-docs/{name}.json")).await.json();
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(text.contains(&format!("\n  {path}:\n")), "{path} is missing in {name}.yaml");
        }
        for (_, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(text.contains(&format!("operationId: {id}\n")), "{id} is missing in {name}.yaml");
        }
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let stage = Stage::new().await;
    let moved = Answer::to(stage.api.request(Method::GET, "/api-docs")).await;
    assert_eq!(moved.status, 200, "a browser is led on to the page");

    let page = open(&stage, "/api-docs/").await;
    assert_eq!(page.header("content-type"), Some("text/html"));
    let html = page.text();
    assert!(!html.contains("//"), "an address of another host: {html}");
    let parts: Vec<_> = ["src=\"", "href=\""]
        .into_iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().expect("a value").trim_start_matches("./"))
        .collect();
    assert!(parts.len() >= 4, "{parts:?}");
    for part in parts {
        let part = open(&stage, &format!("/api-docs/{part}")).await;
        assert!(!part.bytes.is_empty());
        assert_policy_keeps_to_ourselves(&part);
    }
    assert_policy_keeps_to_ourselves(&page);
    let initializer = open(&stage, "/api-docs/swagger-initializer.js").await;
    let script = initializer.text();
    assert!(script.contains("/api-docs/partner-api.json"), "{script}");
    assert!(!script.contains("http:") && !script.contains("https:"), "{script}");
}

/// Whatever a script may hold, the browser loads from and connects to nobody else.
fn assert_policy_keeps_to_ourselves(answer: &Answer) {
    let policy = answer.header("content-security-policy").expect("a policy");
    let (rules, sources): (Vec<_>, Vec<_>) =
        policy.split(';').map(|rule| rule.trim().split_once(' ').expect("a rule")).unzip();
    for rule in ["default-src", "script-src", "connect-src"] {
        assert!(rules.contains(&rule), "{policy}");
    }
    let ours = ["'none'", "'self'", "'unsafe-inline'", "data:"];
    assert!(
        sources.iter().flat_map(|sources| sources.split(' ')).all(|source| ours.contains(&source)),
        "{policy}"
    );
}
