//! Whether a value is what a schema of the document says, as far as our schemas say anything.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::Value;

/// What does not fit, as place and reason: types, required properties, properties that are not documented, lists of values,
/// bounds, lengths, and the form of instants (in UTC, ending in `Z`).
pub fn misfits(value: &Value, schema: &Value, schemas: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    Check { schemas, found: &mut found }.value(value, schema, place);
    found
}

/// Fails with what does not fit.
pub fn assert_fits(value: &Value, schema: &Value, schemas: &Value, place: &str) {
    let found = misfits(value, schema, schemas, place);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

struct Check<'a> {
    schemas: &'a Value,
    found: &'a mut Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, value: &Value, schema: &Value, place: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/components/schemas/").expect("a schema");
            return self.value(value, &self.schemas[name], place);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &&Value| misfits(value, choice, self.schemas, place).is_empty();
            if !choices.iter().any(|choice| fits(&choice)) {
                let others = choices.iter().find(|choice| choice["type"] != "null").expect("a choice");
                self.value(value, others, place);
            }
            return;
        }
        // Whatever says nothing of itself may be anything.
        if !schema["type"].is_null() && !self.is_of_type(value, schema, place) {
            return;
        }
        self.text(value, schema, place);
        self.number(value, schema, place);
        let items = value.as_array().into_iter().flatten();
        items
            .enumerate()
            .for_each(|(index, item)| self.value(item, &schema["items"], &format!("{place}[{index}]")));
        let length = value.as_array().map(Vec::len).and_then(|length| u64::try_from(length).ok());
        self.within(length, schema, ["minItems", "maxItems"], place);
        self.object(value, schema, place);
    }

    fn is_of_type(&mut self, value: &Value, schema: &Value, place: &str) -> bool {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        let fits = types.iter().any(|of| of == kind || (of == "number" && kind == "integer"));
        if !fits {
            self.found.push(format!("{place} is {kind}, documented as {schema}"));
        }
        fits
    }

    fn text(&mut self, value: &Value, schema: &Value, place: &str) {
        let Some(text) = value.as_str() else { return };
        let listed = schema["enum"].as_array();
        if listed.is_some_and(|listed| !listed.contains(value)) {
            self.found.push(format!("{place} is none of {listed:?}: {text}"));
        }
        // Patterns of ours are mostly lists of words.
        let words = schema["pattern"].as_str().and_then(|all| all.strip_prefix("^(")?.strip_suffix(")$"));
        let is_list = |words: &&str| {
            words.chars().all(|letter| letter.is_ascii_alphanumeric() || "_|-".contains(letter))
        };
        if words.filter(is_list).is_some_and(|words| !words.split('|').any(|word| word == text)) {
            self.found.push(format!("{place} does not fit its pattern: {text}"));
        }
        if schema["format"] == "date-time"
            && !(text.ends_with('Z') && DateTime::parse_from_rfc3339(text).is_ok())
        {
            self.found.push(format!("{place} is no instant in UTC: {text}"));
        }
        let length = u64::try_from(text.chars().count()).ok();
        self.within(length, schema, ["minLength", "maxLength"], place);
    }

    fn number(&mut self, value: &Value, schema: &Value, place: &str) {
        let Some(number) = value.as_f64() else { return };
        let bound = |name: &str| schema[name].as_f64();
        if bound("minimum").is_some_and(|least| number < least)
            || bound("maximum").is_some_and(|most| number > most)
        {
            self.found.push(format!("{place} is out of bounds: {number}"));
        }
    }

    fn within(&mut self, length: Option<u64>, schema: &Value, [least, most]: [&str; 2], place: &str) {
        let Some(length) = length else { return };
        let [least, most] = [schema[least].as_u64(), schema[most].as_u64()];
        if least.is_some_and(|least| length < least) || most.is_some_and(|most| length > most) {
            self.found.push(format!("{place} has a length of {length}"));
        }
    }

    fn object(&mut self, value: &Value, schema: &Value, place: &str) {
        let Some(fields) = value.as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.found.push(format!("{place} lacks {name}"));
            }
        }
        let others = &schema["additionalProperties"];
        let properties: BTreeMap<&String, &Value> =
            schema["properties"].as_object().into_iter().flatten().collect();
        for (name, value) in fields {
            match properties.get(name) {
                Some(property) => self.value(value, property, &format!("{place}.{name}")),
                None if others.is_object() => self.value(value, others, &format!("{place}.{name}")),
                // An object of which nothing more is said may hold anything.
                None if properties.is_empty() => {}
                None => self.found.push(format!("{place}.{name} is not documented")),
            }
        }
    }
}
