//! An example of what every operation takes and answers, composed from those of the fields.
//!
//! A field says its example where it is declared; what is missing only when nothing is known of it (`null`, an instant, a
//! flag, one of a list) is supplied here. Whatever else has no example leaves its operation without one, which
//! `tests/it/routes/docs/examples.rs` finds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::{as_json, operations};

/// Schemas do not nest deeper than this; one that refers to itself ends here.
const DEPTH_MAX: usize = 16;

/// What stands in a path's gap, by what stands before it.
const IN_PATHS: &[(&str, &str)] = &[
    ("/all/", "ses_01jd8x4xkre9a8y9tbn2p5q3mw"),
    ("/influencers/", "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw"),
    ("/jobs/", "job_01jd8x4xkre9a8y9tbn2p5q3mw"),
    ("/limits/", "meter.calls"),
    ("/partners/", "techcombank"),
    ("/queues/", "enrich"),
    ("/schedules/", "maintenance.prune_jobs"),
    ("/tenants/", "techcombank"),
    ("/users/", "usr_01jd8x4xkre9a8y9tbn2p5q3mw"),
    ("/workers/", "01937a82-7678-7292-8fe6-9a588556c3b4"),
];

/// Gives every operation its examples, but where it has them already.
pub(super) fn add_examples(api: &mut OpenApi) {
    let schemas = Schemas::of(api);
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                inline(parameter).into_iter().for_each(|parameter| add_to_parameter(path, parameter));
            }
            for content in contents(operation) {
                if content.example.is_none() && content.examples.is_empty() {
                    let schema = as_json(serde_json::to_value(&content.schema));
                    content.example = schemas.example(&schema, 0);
                }
            }
        }
    }
}

/// The JSON that an operation takes, and what it answers when all went well.
fn contents(operation: &mut Operation) -> Vec<&mut Content> {
    let taken = operation.request_body.iter_mut().filter_map(inline).flat_map(|body| json(&mut body.content));
    let answers = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
    let answers = answers.filter_map(|(_, response)| inline(response));
    taken.chain(answers.flat_map(|response| json(&mut response.content))).collect()
}

fn json<'a>(
    contents: impl IntoIterator<Item = (&'a String, &'a mut RefOr<Content>)>,
) -> impl Iterator<Item = &'a mut Content> {
    contents
        .into_iter()
        .filter(|(kind, _)| kind.as_str() == "application/json")
        .filter_map(|(_, content)| inline(content))
}

/// What stands here, and not elsewhere.
fn inline<T>(part: &mut RefOr<T>) -> Option<&mut T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn add_to_parameter(path: &str, parameter: &mut Parameter) {
    let said = as_json(serde_json::to_value(&*parameter));
    let is_said =
        ["/example", "/schema/example", "/schema/examples"].iter().any(|at| said.pointer(at).is_some());
    if parameter.parameter_in != ParameterIn::Path || is_said {
        return;
    }
    let before = path.split('{').next().unwrap_or_default();
    let known = IN_PATHS.iter().find(|(end, _)| before.ends_with(end));
    if let Some((_, example)) = known {
        let builder = ParameterBuilder::from(std::mem::take(parameter));
        *parameter = builder.example(Some(json!(example))).build();
    }
}

/// The document's schemas, by name.
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    fn of(api: &OpenApi) -> Self {
        let schemas = api.components.iter().flat_map(|components| &components.schemas);
        Self(schemas.map(|(name, schema)| (name.clone(), as_json(serde_json::to_value(schema)))).collect())
    }

    /// A value that fits, if what is said of it is enough to make one.
    fn example(&self, schema: &Value, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        let of = |schema: &Value| self.example(schema, depth + 1);
        if let Some(said) = schema.get("example").or_else(|| schema.get("examples")?.get(0)) {
            return Some(said.clone());
        }
        if let Some(name) = schema["$ref"].as_str() {
            return of(self.0.get(name.rsplit('/').next()?)?);
        }
        if let Some(first) = schema["enum"].get(0).or_else(|| schema.get("const")) {
            return Some(first.clone());
        }
        if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            let of_null = choices.iter().find(|choice| choice["type"] == "null");
            let mut others = choices.iter().filter(|choice| choice["type"] != "null");
            return others.find_map(of).or_else(|| of_null.map(|_| Value::Null));
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut whole = Map::new();
            for part in parts {
                whole.extend(of(part)?.as_object()?.clone());
            }
            return Some(whole.into());
        }
        self.of_type(schema, depth)
    }

    fn of_type(&self, schema: &Value, depth: usize) -> Option<Value> {
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        // Whatever says nothing of itself may be anything.
        let Some(kind) = kinds.iter().copied().find(|kind| *kind != "null") else { return Some(json!({})) };
        let made = match kind {
            "object" => self.object(schema, depth),
            "array" => self.example(&schema["items"], depth + 1).map(|item| json!([item])),
            "boolean" => Some(json!(true)),
            _ => match schema["format"].as_str() {
                Some("date-time") => Some(json!("2026-01-31T17:00:00Z")),
                Some("date") => Some(json!("2026-01-31")),
                Some("uuid") => Some(json!("01937a82-7678-7292-8fe6-9a588556c3b4")),
                _ => None,
            },
        };
        made.or_else(|| kinds.contains(&"null").then_some(Value::Null))
    }

    fn object(&self, schema: &Value, depth: usize) -> Option<Value> {
        let required = schema["required"].as_array();
        let is_required = |name: &String| required.is_some_and(|all| all.iter().any(|one| one == name));
        let mut object = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            match self.example(property, depth + 1) {
                Some(value) => _ = object.insert(name.clone(), value),
                None if is_required(name) => return None,
                None => {}
            }
        }
        Some(object.into())
    }
}
