//! API keys: their form, and how a presented one is compared with a stored hash.
//!
//! A key is `mpk_`, 43 random letters and digits (256 bits), and 6 more that are a checksum of those. The prefix
//! lets secret scanners find leaked keys; the checksum lets typing errors and garbage be refused without asking the
//! database. What is stored is the SHA-256 of the whole key: with 256 random bits there is nothing to guess, so no
//! slow hash is needed on every request.

use std::fmt;
use std::str::FromStr;

use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with.
pub const KEY_PREFIX: &str = "mpk_";
/// log2(62⁴³) is just over 256.
const RANDOM_CHARS: usize = 43;
/// 62⁶ is more than 2³².
const CHECKSUM_CHARS: usize = 6;
const KEY_CHARS: usize = KEY_PREFIX.len() + RANDOM_CHARS + CHECKSUM_CHARS;
/// Enough to tell a partner's keys apart; leaves over 200 bits unknown.
const SHOWN_CHARS: usize = KEY_PREFIX.len() + 8;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A text that has the form of an API key. Whose it is, if anybody's, only the database knows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The text is no API key of ours, whatever the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: `{KEY_PREFIX}` and {} letters and digits with a matching checksum are expected", RANDOM_CHARS + CHECKSUM_CHARS)]
pub struct NotAnApiKey;

impl ApiKey {
    /// A new key with its hash to store and the prefix it may be recognised by. The key is shown once and never
    /// stored.
    pub fn generate() -> (Self, [u8; 32], String) {
        let random = Alphanumeric.sample_string(&mut rand::rng(), RANDOM_CHARS);
        let key = Self(format!("{KEY_PREFIX}{random}{}", checksum(&random)));
        let (hash, prefix) = (key.hash(), key.prefix().to_owned());
        (key, hash, prefix)
    }

    /// The key itself. Do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The part that may be shown.
    pub fn prefix(&self) -> &str {
        &self.0[..SHOWN_CHARS]
    }
}

impl FromStr for ApiKey {
    type Err = NotAnApiKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_prefix(KEY_PREFIX).ok_or(NotAnApiKey)?;
        if text.len() != KEY_CHARS || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(NotAnApiKey);
        }
        let (random, given) = body.split_at(RANDOM_CHARS);
        if checksum(random) == given { Ok(Self(text.to_owned())) } else { Err(NotAnApiKey) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ApiKey({}…)", self.prefix())
    }
}

/// Whether two hashes are the same, in a time that does not depend on where they differ.
pub fn same_hash(left: &[u8], right: &[u8; 32]) -> bool {
    left.ct_eq(right.as_slice()).into()
}

fn checksum(random: &str) -> String {
    let mut rest = crc32fast::hash(random.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // S0-036, S0-181, S0-196
    #[test]
    fn a_new_key_parses_and_hashes_to_what_was_stored() {
        let (key, hash, prefix) = ApiKey::generate();
        assert_eq!(key.expose().len(), KEY_CHARS);
        let parsed: ApiKey = key.expose().parse().unwrap();
        assert_eq!(parsed.hash(), hash);
        assert!(key.expose().starts_with(&prefix));
        assert!(same_hash(&hash, &parsed.hash()));
        assert_ne!(ApiKey::generate().0, key);
    }

    #[test]
    fn any_single_changed_character_is_noticed() {
        let (key, ..) = ApiKey::generate();
        for index in 0..KEY_CHARS {
            let mut bytes = key.expose().as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(changed.parse::<ApiKey>(), Err(NotAnApiKey), "{changed}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let (key, ..) = ApiKey::generate();
        let longer = format!("{}0", key.expose());
        let upper = key.expose().to_uppercase();
        let spaced = format!(" {}", key.expose());
        let multibyte = format!("mpk_{}", "é".repeat(30));
        for text in ["", "mpk_", "hello", &longer, &key.expose()[1..], &upper, &spaced, &multibyte] {
            assert_eq!(text.parse::<ApiKey>(), Err(NotAnApiKey), "{text}");
        }
    }

    #[test]
    fn a_checksum_is_always_six_digits() {
        assert_eq!(checksum(""), "000000");
        assert_eq!(checksum("123456789").len(), CHECKSUM_CHARS);
        // CRC-32 of "123456789" is 0xCBF43926, the polynomial's published check value.
        let number = checksum("123456789").bytes().fold(0_u64, |number, digit| {
            number * 62 + BASE62.iter().position(|known| *known == digit).unwrap() as u64
        });
        assert_eq!(number, 0xCBF4_3926);
    }

    #[test]
    fn debug_output_hides_the_key() {
        let (key, ..) = ApiKey::generate();
        assert!(!format!("{key:?}").contains(&key.expose()[SHOWN_CHARS..]));
    }

    #[test]
    fn hashes_are_compared_whole() {
        assert!(!same_hash(&[0; 31], &[0; 32]));
        assert!(!same_hash(&[], &[0; 32]));
        assert!(same_hash(&[0; 32], &[0; 32]));
    }
}
