//! Keyed tags: proof that whoever wrote a text had the keys, and digests of personal data that nobody without the keys
//! can find the data for by trying.
//!
//! A tag is HMAC-SHA-256 (RFC 2104) under a key of its own for each purpose, which is made of an encryption key by the
//! same function: what is said for one purpose proves nothing for another. Its text is `keyid:hex`.
//!
//! Guarantees: tags of one ring, purpose and message are equal; every key of the ring checks, the first makes. Comparing
//! takes as long whatever the difference.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Keyring, NamedKey, SealError};

const TAG_BYTES: usize = 32;

impl Keyring {
    /// The tag of a message under the current key, as `keyid:hex`.
    pub fn tag(&self, purpose: &str, message: &[u8]) -> String {
        let named = self.current();
        let bytes = tagging(named, purpose, message).finalize().into_bytes();
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        format!("{}:{hex}", named.id)
    }

    /// Whether a text is the tag of this message for this purpose under any key of the ring.
    ///
    /// # Errors
    /// [`SealError::Malformed`] when it is no tag, [`SealError::UnknownKey`] when the key that made it is not in the ring.
    pub fn check_tag(&self, purpose: &str, message: &[u8], tag: &str) -> Result<bool, SealError> {
        let (key_id, hex) = tag.split_once(':').ok_or(SealError::Malformed)?;
        let bytes = from_hex(hex).ok_or(SealError::Malformed)?;
        let unknown = || SealError::UnknownKey { key_id: key_id.to_owned() };
        let named = self.keys.iter().find(|named| named.id == key_id).ok_or_else(unknown)?;
        Ok(tagging(named, purpose, message).verify_slice(&bytes).is_ok())
    }

    /// The tags of a message under every key of the ring, the current first: to look one up that was made before a
    /// rotation.
    pub fn tags(&self, purpose: &str, message: &[u8]) -> Vec<String> {
        let ring = |named: &NamedKey| {
            Self { keys: vec![NamedKey { id: named.id.clone(), key: named.key }] }.tag(purpose, message)
        };
        self.keys.iter().map(ring).collect()
    }
}

fn tagging(named: &NamedKey, purpose: &str, message: &[u8]) -> Hmac<Sha256> {
    let of_key = keyed(&named.key).chain_update(purpose.as_bytes()).finalize().into_bytes();
    keyed(&of_key).chain_update(message)
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn from_hex(text: &str) -> Option<[u8; TAG_BYTES]> {
    if text.len() != 2 * TAG_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; TAG_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_fits_its_message_and_purpose_alone() {
        let ring = Keyring::generate();
        let tag = ring.tag("audit", b"one");
        assert_eq!(tag, ring.tag("audit", b"one"));
        assert_eq!(ring.check_tag("audit", b"one", &tag), Ok(true));
        assert_eq!(ring.check_tag("audit", b"two", &tag), Ok(false));
        assert_eq!(ring.check_tag("other", b"one", &tag), Ok(false));
    }

    #[test]
    fn tags_of_before_a_rotation_are_checked_and_found() {
        let old = Keyring::generate();
        let tag = old.tag("audit", b"one");
        let new = old.rotated();
        assert_eq!(new.check_tag("audit", b"one", &tag), Ok(true));
        assert_ne!(new.tag("audit", b"one"), tag);
        assert_eq!(new.tags("audit", b"one"), [new.tag("audit", b"one"), tag.clone()]);
        assert!(matches!(
            Keyring::generate().check_tag("audit", b"one", &tag),
            Err(SealError::UnknownKey { .. })
        ));
    }

    #[test]
    fn what_is_no_tag_is_told_apart_from_a_wrong_one() {
        let ring = Keyring::generate();
        let long = format!("{}0", ring.tag("audit", b"one"));
        for text in ["", "abc", "k:zz", long.as_str()] {
            assert_eq!(ring.check_tag("audit", b"one", text), Err(SealError::Malformed), "{text}");
        }
    }
}
