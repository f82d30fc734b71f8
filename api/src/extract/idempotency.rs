//! `Idempotency-Key`: repeats of a POST whose answer was lost.

use axum::extract::FromRequestParts;
use db::Connection;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use kernel::ids::TenantId;
use partners::idempotency::{self, Claim, Effect, IdempotencyKey};
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// The header.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says on a response that it repeats an earlier one.
pub static IDEMPOTENT_REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

/// The key of this request, if the caller gave one, and what it will be compared by.
#[derive(Clone, Debug)]
pub struct Idempotency {
    key: Option<IdempotencyKey>,
    method: Method,
    path: String,
}

impl Idempotency {
    /// What this request with this body made before; none when it is new, and then whatever it makes is to be
    /// [kept](Idempotency::keep) in the same transaction. Without a key every request is new.
    ///
    /// # Errors
    /// 409 while it is being carried out, 422 when another request used the key.
    pub async fn earlier(
        &self,
        conn: &mut Connection,
        tenant: TenantId,
        body: &[u8],
    ) -> Result<Option<Effect>, ApiError> {
        let Some(key) = &self.key else { return Ok(None) };
        match idempotency::claim(conn, tenant, key, &self.fingerprint(body)).await? {
            Claim::New => Ok(None),
            Claim::Replay(effect) => Ok(Some(effect)),
            Claim::KeyReused => Err(ApiError::IdempotencyKeyReused),
            Claim::InFlight => {
                Err(ApiError::Conflict("a request with this Idempotency-Key is being carried out".into()))
            }
        }
    }

    /// Remembers what this request with this body made, if it has a key.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn keep(
        &self,
        conn: &mut Connection,
        tenant: TenantId,
        body: &[u8],
        effect: Effect,
    ) -> Result<(), ApiError> {
        if let Some(key) = &self.key {
            idempotency::store(conn, tenant, key, &self.fingerprint(body), effect).await?;
        }
        Ok(())
    }

    /// SHA-256 of method, path and body. Lengths separate the parts, so that no two requests share one by moving
    /// bytes between them.
    fn fingerprint(&self, body: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.method.as_str().as_bytes(), self.path.as_bytes(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

impl<S: Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(&IDEMPOTENCY_KEY).iter();
        let key = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(valid(value)?),
            (Some(_), Some(_)) => return Err(refused("must be given once")),
        };
        Ok(Self { key, method: parts.method.clone(), path: parts.uri.path().to_owned() })
    }
}

fn valid(value: &HeaderValue) -> Result<IdempotencyKey, ApiError> {
    let key = value.to_str().ok().and_then(|text| text.parse().ok());
    key.ok_or_else(|| refused("must be 1 to 255 visible ASCII characters, without spaces"))
}

fn refused(message: &str) -> ApiError {
    ApiError::invalid("Idempotency-Key", "INVALID", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Idempotency {
        Idempotency { key: "k".parse().ok(), method: Method::POST, path: path.into() }
    }

    #[test]
    fn the_fingerprint_knows_method_path_and_body_apart() {
        let first = request("/a").fingerprint(b"b");
        assert_eq!(first, request("/a").fingerprint(b"b"));
        assert_ne!(first, request("/a").fingerprint(b"c"));
        assert_ne!(first, request("/ab").fingerprint(b""));
        assert_ne!(first, Idempotency { method: Method::PUT, ..request("/a") }.fingerprint(b"b"));
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(valid(&HeaderValue::from_static("8e03978e-40d5-43dd-bc93-6894a57f9324")).is_ok());
        assert!(valid(&HeaderValue::from_static("")).is_err());
        assert!(valid(&HeaderValue::from_static("a b")).is_err());
        assert!(valid(&HeaderValue::from_bytes("ключ".as_bytes()).unwrap()).is_err());
    }
}
