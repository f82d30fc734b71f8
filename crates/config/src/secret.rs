//! Values that must never be shown: they mask themselves in `Debug` and when serialised, and give the real text
//! only to code that asks for it by name.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "***";

/// A secret text, such as a token. Shows as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// The address of a database. Shows with its password masked.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Wraps an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address with its password. Do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The address without its password: good enough to recognise the server by.
    pub fn masked(&self) -> String {
        mask_database_url(&self.0)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

/// Masks the password where PostgreSQL's clients accept one: before the `@`, or as a query parameter. A text
/// that is no address is masked whole, because nobody knows where its password stands.
pub(crate) fn mask_database_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    if url.cannot_be_a_base() {
        return MASK.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if url.query_pairs().any(|(name, _)| is_secret_parameter(&name)) {
        let masked: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let value = if is_secret_parameter(&name) { MASK.to_owned() } else { value.into_owned() };
                (name.into_owned(), value)
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.into()
}

fn is_secret_parameter(name: &str) -> bool {
    name.to_ascii_lowercase().contains("password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_as_stars() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_value(&secret).unwrap(), serde_json::json!("***"));
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_database_address_hides_its_password_wherever_it_stands() {
        assert_eq!(mask_database_url("postgres://me:hunter2@db/x"), "postgres://me:***@db/x");
        assert_eq!(mask_database_url("postgres://me@db/x"), "postgres://me@db/x");
        let socket = mask_database_url("postgres:///x?host=/tmp&password=hunter2&sslpassword=hunter3");
        assert!(!socket.contains("hunter"), "{socket}");
        assert!(socket.contains("host=%2Ftmp"), "{socket}");
        assert_eq!(mask_database_url("me:hunter2@db"), "***");
        assert_eq!(mask_database_url("host=db password=hunter2"), "***");
    }
}
