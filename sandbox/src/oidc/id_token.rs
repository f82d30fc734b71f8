//! ID tokens, right ones and wrong ones, and the keys that sign them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::grants::Grant;

const LIFE_S: i64 = 300;

/// What is wrong with an ID token, each an attack or a mistake that a client must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WrongIdToken {
    /// Signed by another key under the known key's id.
    Signature,
    /// Signed by a key that the provider does not show.
    UnknownKey,
    /// Not signed, and said to be so.
    Unsigned,
    /// Signed by HMAC with the public key, which everybody knows, as its secret.
    Symmetric,
    /// The claims were changed after they had been signed.
    Tampered,
    Issuer,
    Audience,
    /// The client is one of two audiences.
    TwoAudiences,
    /// It was given out for another party.
    AuthorizedParty,
    Expired,
    /// It was made an hour ago and is still good.
    Old,
    Nonce,
    NoNonce,
    /// It is no token at all.
    Garbage,
    /// There is none.
    Missing,
}

/// What an ID token says.
pub(super) struct About<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) grant: &'a Grant,
}

/// The provider's one key.
pub(super) struct Signer(Mutex<Current>);

struct Current {
    number: u32,
    key: EcdsaKeyPair,
}

impl Default for Signer {
    fn default() -> Self {
        Self(Mutex::new(Current { number: 1, key: new_key() }))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.current().id()).finish_non_exhaustive()
    }
}

impl Signer {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rotate(&self) {
        let mut current = self.current();
        *current = Current { number: current.number + 1, key: new_key() };
    }

    /// The key as the world sees it (RFC 7517).
    pub(super) fn public_keys(&self) -> Value {
        let current = self.current();
        let (x, y) = current.point();
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": current.id(), "x": x, "y": y}]})
    }

    /// A token about somebody, right but for what shall be wrong with it.
    pub(super) fn id_token(
        &self,
        about: &About<'_>,
        wrong: Option<WrongIdToken>,
        now: DateTime<Utc>,
    ) -> Option<String> {
        use WrongIdToken as Wrong;
        let current = self.current();
        let claims = claims(about, wrong, now.timestamp());
        Some(match wrong {
            Some(Wrong::Missing) => return None,
            Some(Wrong::Garbage) => "no.token.at-all".to_owned(),
            Some(Wrong::Signature) => signed(&new_key(), &current.id(), &claims),
            Some(Wrong::UnknownKey) => signed(&new_key(), "unknown", &claims),
            Some(Wrong::Unsigned) => format!("{}.", body(&json!({"alg": "none", "typ": "JWT"}), &claims)),
            Some(Wrong::Symmetric) => {
                let body = body(&json!({"alg": "HS256", "typ": "JWT", "kid": current.id()}), &claims);
                let secret = hmac::Key::new(hmac::HMAC_SHA256, current.key.public_key().as_ref());
                format!("{body}.{}", packed(hmac::sign(&secret, body.as_bytes()).as_ref()))
            }
            Some(Wrong::Tampered) => {
                let good = signed(&current.key, &current.id(), &claims);
                let mut other = claims;
                other["email"] = json!("admin@example.com");
                let parts: Vec<&str> = good.split('.').collect();
                format!("{}.{}.{}", parts[0], packed(other.to_string().as_bytes()), parts[2])
            }
            _ => signed(&current.key, &current.id(), &claims),
        })
    }
}

impl Current {
    fn id(&self) -> String {
        format!("sandbox-{}", self.number)
    }

    fn point(&self) -> (String, String) {
        // Uncompressed: one byte that says so, then both coordinates.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        (packed(x), packed(y))
    }
}

fn claims(about: &About<'_>, wrong: Option<WrongIdToken>, now: i64) -> Value {
    use WrongIdToken as Wrong;
    let mut claims = about.grant.person.claims();
    claims["iss"] = json!(about.issuer);
    claims["aud"] = json!(about.client);
    claims["iat"] = json!(now);
    claims["exp"] = json!(now + LIFE_S);
    if let Some(nonce) = &about.grant.nonce {
        claims["nonce"] = json!(nonce);
    }
    match wrong {
        Some(Wrong::Issuer) => claims["iss"] = json!("https://evil.example"),
        Some(Wrong::Audience) => claims["aud"] = json!("somebody-else"),
        Some(Wrong::TwoAudiences) => claims["aud"] = json!([about.client, "somebody-else"]),
        Some(Wrong::AuthorizedParty) => claims["azp"] = json!("somebody-else"),
        Some(Wrong::Expired) => {
            claims["iat"] = json!(now - 2 * LIFE_S);
            claims["exp"] = json!(now - LIFE_S);
        }
        Some(Wrong::Old) => claims["iat"] = json!(now - 3_600),
        Some(Wrong::Nonce) => claims["nonce"] = json!("another-nonce"),
        Some(Wrong::NoNonce) => claims["nonce"] = Value::Null,
        _ => {}
    }
    claims
}

fn signed(key: &EcdsaKeyPair, key_id: &str, claims: &Value) -> String {
    let body = body(&json!({"alg": "ES256", "typ": "JWT", "kid": key_id}), claims);
    let signature = key.sign(&SystemRandom::new(), body.as_bytes());
    let signature = signature.as_ref().map(AsRef::as_ref).unwrap_or_default();
    format!("{body}.{}", packed(signature))
}

fn body(header: &Value, claims: &Value) -> String {
    format!("{}.{}", packed(header.to_string().as_bytes()), packed(claims.to_string().as_bytes()))
}

fn packed(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("the system gives random bytes");
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key that was just made")
}
