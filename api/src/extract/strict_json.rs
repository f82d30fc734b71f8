//! JSON read strictly: valid UTF-8, one value, no key twice (parsers disagree about which one counts, which has been
//! used to smuggle values past checks). Nesting deeper than 128 is refused by the parser.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses `bytes`, or says where they stop making sense.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("must be UTF-8; the byte at offset {} is not", error.valid_up_to()))?;
    serde_json::from_str::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|error| format!("must be valid JSON: {error}"))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "key {:?} appears twice",
                    super::fields::shortened(&key)
                )));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ordinary_json_is_read_as_it_is() {
        let text = r#"{"a":[1,-2,3.5,null,true],"b":{"c":"é"}}"#;
        assert_eq!(parse(text.as_bytes()), Ok(json!({"a": [1, -2, 3.5, null, true], "b": {"c": "é"}})));
    }

    #[test]
    fn a_key_given_twice_is_refused_wherever_it_stands() {
        let error = parse(br#"{"a":{"url":1,"url":2}}"#).unwrap_err();
        assert!(error.contains("\"url\" appears twice"), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn broken_json_is_told_with_its_position() {
        assert!(parse(b"{\n  \"a\": }").unwrap_err().contains("line 2 column"));
        assert!(parse(b"").unwrap_err().contains("EOF"));
        assert!(parse(b"{} {}").unwrap_err().contains("trailing"));
    }

    #[test]
    fn broken_utf8_is_told_with_its_offset() {
        assert!(parse(b"{\"a\":\"\xff\"}").unwrap_err().contains("offset 6"));
    }

    #[test]
    fn nesting_without_end_is_refused_and_does_not_overflow_the_stack() {
        let deep = "[".repeat(500_000);
        assert!(parse(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }
}
