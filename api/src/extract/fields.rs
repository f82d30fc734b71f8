//! A reader of named values that collects every fault before it complains.
//!
//! Bodies and query strings are both read through it: a handler's input says what each field must be
//! ([`Fields::required`], [`Fields::optional`]), and [`Fields::finish`] refuses what is missing, wrong and unknown
//! in one answer.

use serde_json::{Map, Value};

use crate::error::{ApiError, Fault};

/// Longer names are cut when echoed.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// What is wrong with one value; the reader knows the field's name.
#[derive(Debug, Eq, PartialEq)]
pub struct Problem {
    code: &'static str,
    message: String,
}

impl Problem {
    /// The value has another JSON type.
    pub fn wrong_type(expected: &str) -> Self {
        Self { code: "WRONG_TYPE", message: format!("must be {expected}") }
    }

    /// The type fits, the value does not. The message completes "this field …".
    pub fn invalid(message: impl ToString) -> Self {
        Self { code: "INVALID", message: message.to_string() }
    }
}

/// Input read by name.
pub trait FromFields: Sized {
    /// Reads every field it knows; `None` if one that it cannot do without is missing or wrong.
    fn read(fields: &mut Fields) -> Option<Self>;
}

/// Named values not read yet, and the faults found so far.
#[derive(Debug)]
pub struct Fields {
    noun: &'static str,
    values: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The values of a body (`noun` "field") or a query ("parameter").
    pub(super) fn new(noun: &'static str, values: Map<String, Value>, faults: Vec<Fault>) -> Self {
        Self { noun, values, faults }
    }

    /// A value that must be there. `None` means that a fault was noted.
    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, Problem>) -> Option<T> {
        match self.values.remove(name) {
            Some(value) => self.keep(name, read(&value)),
            None => {
                self.faults.push(Fault::new(name, "REQUIRED", "is required"));
                None
            }
        }
    }

    /// A value that may be missing; `null` counts as missing.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, Problem>) -> Option<T> {
        match self.values.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.keep(name, read(&value)),
        }
    }

    /// A value that may be missing, and may be `null` with a meaning of its own.
    pub fn given<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Result<T, Problem>) -> Option<T> {
        let value = self.values.remove(name)?;
        self.keep(name, read(&value))
    }

    /// An object within a body that says what a query string would: its numbers are read as if they were written there.
    pub fn nested<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let values = self.optional(name, |value| {
            value.as_object().cloned().ok_or_else(|| Problem::wrong_type("an object"))
        })?;
        let written = |value: Value| if value.is_number() { value.to_string().into() } else { value };
        let values = values.into_iter().map(|(name, value)| (name, written(value))).collect();
        match Self::new(self.noun, values, Vec::new()).finish(read) {
            Ok(value) => Some(value),
            Err(ApiError::Validation(faults)) => {
                let inner = faults.into_iter();
                self.faults
                    .extend(inner.map(|fault| Fault { field: format!("{name}.{}", fault.field), ..fault }));
                None
            }
            // Nothing else is wrong with values.
            Err(_) => None,
        }
    }

    /// The values of these names that are there, as they were given.
    pub fn given_of(&self, names: &[&str]) -> Map<String, Value> {
        let given = self.values.iter().filter(|(name, _)| names.contains(&name.as_str()));
        given.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Notes a fault of values that do not go together.
    pub fn fault(&mut self, name: &str, code: &'static str, message: &str) {
        self.faults.push(Fault::new(name, code, message));
    }

    /// Reads all of it, or tells all that is wrong with it. `read` returns `None` only after a fault was noted.
    pub fn finish<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, ApiError> {
        let read = read(&mut self);
        let unknown = std::mem::take(&mut self.values);
        let message = format!("is not a known {}", self.noun);
        let unknown = unknown.keys().map(|name| Fault::new(shortened(name), "UNKNOWN", message.as_str()));
        self.faults.extend(unknown);
        match read {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(ApiError::Validation(self.faults)),
        }
    }

    fn keep<T>(&mut self, name: &str, read: Result<T, Problem>) -> Option<T> {
        read.map_err(|problem| self.faults.push(Fault::new(name, problem.code, problem.message))).ok()
    }
}

/// A string.
pub fn text(value: &Value) -> Result<&str, Problem> {
    value.as_str().ok_or_else(|| Problem::wrong_type("a string"))
}

/// A whole number within bounds, written in a query string.
pub fn number_in(value: &Value, bounds: std::ops::RangeInclusive<u32>) -> Result<u32, Problem> {
    let digits = text(value)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse::<u32>().ok()).flatten();
    number.filter(|number| bounds.contains(number)).ok_or_else(|| {
        Problem::invalid(format!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
    })
}

/// A whole number within bounds, in a body.
pub fn whole_in(value: &Value, bounds: std::ops::RangeInclusive<u32>) -> Result<u32, Problem> {
    let number = value.as_u64().ok_or_else(|| Problem::wrong_type("a whole number"))?;
    let number = u32::try_from(number).ok().filter(|number| bounds.contains(number));
    let message = format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
    number.ok_or_else(|| Problem::invalid(message))
}

/// True or false, in a body.
pub fn flag(value: &Value) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| Problem::wrong_type("true or false"))
}

/// An instant in RFC 3339.
pub fn instant(value: &Value) -> Result<chrono::DateTime<chrono::Utc>, Problem> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text(value)?);
    parsed
        .map(|instant| instant.to_utc())
        .map_err(|_| Problem::invalid("must be an RFC 3339 instant such as 2026-01-31T08:30:00Z"))
}

/// A name as it may be echoed.
pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Sample {
        name: String,
        count: Option<u32>,
    }

    impl FromFields for Sample {
        fn read(fields: &mut Fields) -> Option<Self> {
            let name = fields.required("name", |value| text(value).map(str::to_owned));
            let count = fields.optional("count", |value| number_in(value, 1..=10));
            Some(Self { name: name?, count })
        }
    }

    fn read(value: Value) -> Result<Sample, Vec<(String, &'static str)>> {
        let Value::Object(values) = value else { panic!("an object") };
        Fields::new("field", values, Vec::new()).finish(Sample::read).map_err(|error| match error {
            ApiError::Validation(faults) => {
                faults.into_iter().map(|fault| (fault.field, fault.code)).collect()
            }
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_fits_is_read() {
        assert_eq!(read(json!({"name": "a"})), Ok(Sample { name: "a".into(), count: None }));
        assert_eq!(
            read(json!({"name": "a", "count": "10"})),
            Ok(Sample { name: "a".into(), count: Some(10) })
        );
        assert_eq!(read(json!({"name": "a", "count": null})), Ok(Sample { name: "a".into(), count: None }));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let faults = read(json!({"count": "11", "nmae": "typo", "zzz": 1})).unwrap_err();
        let expected = [("name", "REQUIRED"), ("count", "INVALID"), ("nmae", "UNKNOWN"), ("zzz", "UNKNOWN")];
        assert_eq!(faults, expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn a_required_null_has_the_wrong_type() {
        assert_eq!(read(json!({"name": null})).unwrap_err(), [("name".to_owned(), "WRONG_TYPE")]);
    }

    #[test]
    fn a_wrong_optional_value_is_refused_although_the_field_may_be_missing() {
        assert_eq!(read(json!({"name": "a", "count": "+3"})).unwrap_err(), [("count".to_owned(), "INVALID")]);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let shown = shortened(&"é".repeat(1_000));
        assert_eq!(shown.chars().count(), NAME_CHARS_SHOWN_MAX + 1);
    }
}
