//! Signatures of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`.
//!
//! The id stays the same over all attempts, so that a receiver can tell a repetition; the timestamp is the
//! attempt's, so that a recorded request cannot be played again later.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header with the delivery's id.
pub const HEADER_ID: &str = "webhook-id";
/// The header with the attempt's time in seconds since 1970.
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signature.
pub const HEADER_SIGNATURE: &str = "webhook-signature";

const PREFIX: &str = "whsec_";
const GENERATED_BYTES: usize = 32;
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// What a receiver and we share to sign and verify. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a text is not a signing secret. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin as secrets do.
    #[error("a webhook secret begins with {PREFIX}")]
    Prefix,
    /// What follows is not base64.
    #[error("after {PREFIX}, a webhook secret is base64")]
    Base64,
    /// Too short to be safe, or too long.
    #[error("a webhook secret has {BYTES_MIN} to {BYTES_MAX} bytes, not {0}")]
    Length(usize),
}

/// The three headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// For [`HEADER_ID`].
    pub id: String,
    /// For [`HEADER_TIMESTAMP`].
    pub timestamp: String,
    /// For [`HEADER_SIGNATURE`].
    pub signature: String,
}

impl Signed {
    /// Header names with their values.
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [(HEADER_ID, &self.id), (HEADER_TIMESTAMP, &self.timestamp), (HEADER_SIGNATURE, &self.signature)]
    }
}

impl Secret {
    /// A new secret from the system's random source.
    pub fn generate() -> Self {
        Self(rand::random::<[u8; GENERATED_BYTES]>().to_vec())
    }

    /// Reads the form that [`Secret::to_text`] writes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        match bytes.len() {
            BYTES_MIN..=BYTES_MAX => Ok(Self(bytes)),
            length => Err(SecretError::Length(length)),
        }
    }

    /// The secret in the form receivers configure: `whsec_` and base64. Shown to its owner once, else sealed.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// Signs `body`, sent at `at` as the delivery `id`.
    pub fn sign(&self, id: &str, at: DateTime<Utc>, body: &[u8]) -> Signed {
        let timestamp = at.timestamp().to_string();
        let mut mac = self.mac();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        Signed { id: id.to_owned(), timestamp, signature }
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[allow(clippy::expect_used)]
        Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(whsec_…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(signed: &Signed) -> http::HeaderMap {
        signed
            .headers()
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_reference_library_verifies_what_we_sign() {
        for body in [b"{}".as_slice(), b"", "{\"name\":\"Trần Thị Bưởi\"}".as_bytes()] {
            let secret = Secret::generate();
            let signed = secret.sign("dlv_01jd0000000000000000000000", kernel::clock::now(), body);
            let oracle = standardwebhooks::Webhook::new(&secret.to_text()).unwrap();
            oracle.verify(body, &headers(&signed)).unwrap();
        }
    }

    #[test]
    fn a_changed_body_id_time_or_secret_does_not_verify() {
        let secret = Secret::generate();
        let oracle = standardwebhooks::Webhook::new(&secret.to_text()).unwrap();
        let now = kernel::clock::now();
        let signed = secret.sign("dlv_1", now, b"body");
        assert!(oracle.verify(b"other", &headers(&signed)).is_err());
        assert!(oracle.verify(b"body", &headers(&Signed { id: "dlv_2".into(), ..signed.clone() })).is_err());
        let later = (now.timestamp() + 1).to_string();
        assert!(oracle.verify(b"body", &headers(&Signed { timestamp: later, ..signed.clone() })).is_err());
        let stranger = standardwebhooks::Webhook::new(&Secret::generate().to_text()).unwrap();
        assert!(stranger.verify(b"body", &headers(&signed)).is_err());
    }

    #[test]
    fn the_specifications_own_example_gives_its_signature() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#);
        assert_eq!(signed.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_survives_its_text_form_and_its_debug_form_hides_it() {
        let secret = Secret::generate();
        let text = secret.to_text();
        assert_eq!(Secret::parse(&text).unwrap(), secret);
        assert_ne!(Secret::generate(), secret);
        assert!(!format!("{secret:?}").contains(&text[6..12]));
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        let of = |length: usize| Secret::parse(&format!("{PREFIX}{}", STANDARD.encode(vec![7; length])));
        assert_eq!(Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Err(SecretError::Prefix));
        assert_eq!(Secret::parse("whsec_not base64"), Err(SecretError::Base64));
        assert_eq!(of(23), Err(SecretError::Length(23)));
        assert_eq!(of(65), Err(SecretError::Length(65)));
        assert!(of(24).is_ok() && of(64).is_ok());
    }
}
