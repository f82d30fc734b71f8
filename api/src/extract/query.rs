//! Query strings, read as strictly as bodies: unknown and repeated parameters are refused, because a misspelt filter
//! must not silently match everything.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::{Map, Value};

use super::fields::{Fields, FromFields, shortened};
use crate::error::{ApiError, Fault};

/// The request's query, read.
pub struct Query<T>(pub T);

impl<S: Sync, T: FromFields> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn read<T: FromFields>(query: &str) -> Result<T, ApiError> {
    let mut values = Map::new();
    let mut faults = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let repeated = values.insert(name.to_string(), Value::from(value.into_owned())).is_some();
        if repeated {
            faults.push(Fault::new(shortened(&name), "REPEATED", "must be given once"));
        }
    }
    Fields::new("parameter", values, faults).finish(T::read)
}

#[cfg(test)]
mod tests {
    use super::super::fields::{number_in, text};
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Page {
        limit: Option<u32>,
        cursor: Option<String>,
    }

    impl FromFields for Page {
        fn read(fields: &mut Fields) -> Option<Self> {
            let limit = fields.optional("limit", |value| number_in(value, 1..=100));
            let cursor = fields.optional("cursor", |value| text(value).map(str::to_owned));
            Some(Self { limit, cursor })
        }
    }

    #[test]
    fn parameters_are_decoded_and_read() {
        let page = read::<Page>("limit=20&cursor=a%2Bb+c").unwrap();
        assert_eq!(page, Page { limit: Some(20), cursor: Some("a+b c".into()) });
        assert_eq!(read::<Page>("").unwrap(), Page { limit: None, cursor: None });
    }

    #[test]
    fn unknown_repeated_and_wrong_parameters_are_told_at_once() {
        let Err(ApiError::Validation(faults)) = read::<Page>("limit=0&lmit=5&cursor=a&cursor=b") else {
            panic!("must be refused")
        };
        let told: Vec<_> = faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        assert_eq!(told, [("cursor", "REPEATED"), ("limit", "INVALID"), ("lmit", "UNKNOWN")]);
    }
}
