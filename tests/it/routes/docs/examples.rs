//! Every operation shows what it takes and what it answers, and what it shows is true.

use identity::{Role, SessionKind, open_session};
use reqwest::Method;
use serde_json::Value;

use super::fitting::misfits;
use super::{is_for_partners, open, operations};
use crate::routes::answer::Answer;
use crate::routes::stage::Stage;
use crate::support::person::TestPerson;

/// The JSON that an operation takes, and what it answers when all went well, each with its place.
fn contents<'a>(name: &str, operation: &'a Value) -> Vec<(String, &'a Value)> {
    let taken = ("body".to_owned(), &operation["requestBody"]);
    let answers = operation["responses"].as_object().expect("responses").iter();
    let answers = answers
        .filter(|(status, _)| status.starts_with('2'))
        .map(|(status, answer)| (status.clone(), answer));
    let all = std::iter::once(taken).chain(answers);
    let json = all.map(|(place, part)| (format!("{name} {place}"), &part["content"]["application/json"]));
    json.filter(|(_, content)| content.is_object()).collect()
}

fn example(content: &Value) -> Option<&Value> {
    let first = content["examples"].as_object().and_then(|all| all.values().next());
    content.get("example").or_else(|| first?.get("value"))
}

/// The path with the examples of what stands in its gaps.
fn asked(path: &str, operation: &Value) -> Option<String> {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, said) = (parameter["name"].as_str().expect("a name"), &parameter["schema"]["example"]);
        if parameter["in"] == "path" {
            let example = parameter["example"].as_str().or(said.as_str())?;
            path = path.replace(&format!("{{{name}}}"), example);
        }
    }
    Some(path)
}

// S0-176
#[tokio::test]
async fn every_operation_has_examples_that_fit_what_is_documented() {
    let stage = Stage::new().await;
    let document = open(&stage, "/api-docs/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];
    let mut faults = Vec::new();
    for (name, operation) in operations(&document) {
        let (_, path) = name.split_once(' ').expect("a method and a path");
        if asked(path, operation).is_none() {
            faults.push(format!("{name}: no example of what stands in the path"));
        }
        for (place, content) in contents(&name, operation) {
            match example(content) {
                Some(example) => faults.extend(misfits(example, &content["schema"], schemas, &place)),
                None => faults.push(format!("{place}: no example; a field of it has none")),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

// S0-168
#[tokio::test]
async fn every_example_of_a_request_is_understood() {
    let stage = Stage::new().await;
    let admin = TestPerson::create(&stage.db, Role::Admin).await;
    let document = open(&stage, "/api-docs/openapi.json").await.json();
    let mut faults = Vec::new();
    for (name, operation) in operations(&document) {
        let (method, path) = name.split_once(' ').expect("a method and a path");
        let is_guarded = operation["security"].is_array();
        // Listening does not end, and who is nobody is asked for more than a body.
        if operation["operationId"] == "listenToEvents" || !is_guarded {
            continue;
        }
        let method: Method = method.to_uppercase().parse().expect("a method");
        let path = asked(path, operation).expect("examples of the path");
        let mut request = stage.api.request(method, &path);
        if is_for_partners(operation) {
            request = stage.partner.sign(request);
        } else {
            // Some requests end the session they come with.
            let mut conn = stage.db.pool().acquire().await.unwrap();
            let session = open_session(&mut conn, admin.id, SessionKind::Token).await.unwrap();
            request = request.bearer_auth(session.secret.expose());
        }
        if let Some(body) = example(&operation["requestBody"]["content"]["application/json"]) {
            request = request.json(body);
        }
        let answer = Answer::to(request).await;
        // What it is about may not be there, or not be in the state for it; the request itself is understood.
        if !matches!(answer.status, 200..=299 | 403 | 404 | 409) || answer.text().contains("\"FORBIDDEN\"") {
            faults.push(format!("{name}: {} {}", answer.status, answer.text()));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A file of the repository.
fn stored(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

// S0-176
#[tokio::test]
async fn the_partners_document_in_the_repository_is_the_one_that_is_served() {
    let stage = Stage::new().await;
    let served = open(&stage, "/api-docs/partner-api.yaml").await.text().to_owned();
    let path = stored("api-docs/partner-api.yaml");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, served).unwrap();
    } else {
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == served, "api-docs/partner-api.yaml is stale: UPDATE_DOCS=1 writes it anew");
    }
}

// S0-335, S0-336
#[test]
fn the_changelog_has_the_version_that_is_served_and_the_policy_names_how_partners_are_told() {
    let changes = std::fs::read_to_string(stored("api-docs/CHANGELOG.md")).unwrap();
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).expect("a version");
    assert!(newest.starts_with(env!("CARGO_PKG_VERSION")), "the newest entry is {newest}");
    let policy = std::fs::read_to_string(stored("api-docs/README.md")).unwrap();
    for told in ["## Deprecation", "`Deprecation`", "`Sunset`", "twelve months"] {
        assert!(policy.contains(told), "{told}");
    }
}
