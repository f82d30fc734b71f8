//! Sealing of what may not lie readable in the database: contact details, vendor tokens, signing secrets.
//!
//! AES-256-GCM with a random 96-bit nonce. The associated data names table, column, owner and row, so bytes copied
//! into another row, column or tenant do not open there. A sealed value is
//!
//! ```text
//! version (1 byte, =1) | length of key id (1 byte) | key id | nonce (12 bytes) | ciphertext and tag
//! ```
//!
//! Guarantees: a value opens only unchanged, in its own place, with the key that sealed it; the first key of the ring
//! seals, every key opens, so rotation is adding a key in front and resealing at leisure. One key seals at most 2³²
//! values (random nonces); rotate long before. Debug output and errors hold no key and no plaintext.
//!
//! On failure: opening says whether the bytes are no sealed value, the key is not known, or the value was refused;
//! a refusal never says which part did not fit.

mod tag;

use std::fmt;

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, Generate, Key, KeyInit, Nonce, Payload},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use uuid::Uuid;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;
const KEY_ID_CHARS_MAX: usize = 32;
/// Longest ring accepted; it is read from a file or a setting, never from a partner.
const KEYS_MAX: usize = 64;

/// Where a sealed value belongs. The same four must be given to open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext {
    /// The table's name.
    pub table: &'static str,
    /// The column's name.
    pub column: &'static str,
    /// Whose row it is: the tenant, or nil where rows have no owner.
    pub owner: Uuid,
    /// The row's id.
    pub row: Uuid,
}

/// Why a value did not open, or a ring could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bytes are too short, or of another version of the format.
    #[error("these bytes are not a sealed value")]
    Malformed,
    /// The value was sealed with a key that is not in the ring.
    #[error("the value was sealed with the key `{key_id}`, which is not among the known keys")]
    UnknownKey {
        /// The key id written in the value.
        key_id: String,
    },
    /// The value was changed, moved to another place, or sealed with another key of the same id.
    #[error("the sealed value does not belong here or was changed")]
    Refused,
    /// The text holds no key.
    #[error("no encryption key is given; expected lines of the form `keyid:base64key`")]
    NoKeys,
    /// The text holds too many keys.
    #[error("more than {KEYS_MAX} encryption keys are given")]
    TooManyKeys,
    /// A line is not `keyid:base64key`. The line itself is never repeated.
    #[error("encryption key {entry}: {fault}")]
    BadKey {
        /// Which entry of the ring, counted from 1, comments left out.
        entry: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
}

struct NamedKey {
    id: String,
    key: Key<Aes256Gcm>,
}

/// The keys that seal and open. The first is current: it seals.
pub struct Keyring {
    /// Never empty; ids are unique.
    keys: Vec<NamedKey>,
}

impl Keyring {
    /// A ring of one fresh key from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system cannot give random bytes; nothing secret can be made then.
    pub fn generate() -> Self {
        Self { keys: vec![NamedKey::generate()] }
    }

    /// This ring with a fresh key in front, so that new values are sealed with it and the old ones still open.
    ///
    /// # Panics
    /// As [`Keyring::generate`].
    pub fn rotated(&self) -> Self {
        let old = self.keys.iter().map(|named| NamedKey { id: named.id.clone(), key: named.key });
        Self { keys: std::iter::once(NamedKey::generate()).chain(old).collect() }
    }

    /// Reads `keyid:base64key` entries, one a line or separated by commas (for an environment variable); empty lines
    /// and lines that begin with `#` are skipped. A key id has 1–32 characters of a–z, 0–9, `-`, `_`.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let entries = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
        let mut keys: Vec<NamedKey> = Vec::new();
        for (index, entry) in entries.enumerate() {
            if index == KEYS_MAX {
                return Err(SealError::TooManyKeys);
            }
            let bad = |fault| SealError::BadKey { entry: index + 1, fault };
            let named = NamedKey::parse(entry).map_err(bad)?;
            if keys.iter().any(|known| known.id == named.id) {
                return Err(bad("its key id is already taken by another key"));
            }
            keys.push(named);
        }
        if keys.is_empty() { Err(SealError::NoKeys) } else { Ok(Self { keys }) }
    }

    /// The text [`Keyring::parse`] reads, current key first. It is the secret itself: write it only to a file that
    /// nobody else can read.
    pub fn to_text(&self) -> String {
        let line = |named: &NamedKey| format!("{}:{}\n", named.id, BASE64_STANDARD.encode(named.key));
        self.keys.iter().map(line).collect()
    }

    /// The id of the key that seals new values.
    pub fn current_key_id(&self) -> &str {
        &self.current().id
    }

    /// Seals `plaintext` for one place with the current key. Sealing twice gives different bytes.
    ///
    /// # Panics
    /// When the operating system cannot give random bytes, or for a plaintext beyond AES-GCM's 64 GiB.
    pub fn seal(&self, plaintext: &[u8], context: &SealContext) -> Vec<u8> {
        let named = self.current();
        let nonce = Nonce::<Aes256Gcm>::generate();
        let aad = associated_data(&named.id, context);
        let ciphertext = Aes256Gcm::new(&named.key)
            .encrypt(&nonce, Payload { msg: plaintext, aad: &aad })
            .expect("AES-GCM only refuses more than 64 GiB");
        let mut sealed = Vec::with_capacity(2 + named.id.len() + NONCE_BYTES + ciphertext.len());
        sealed.extend([VERSION, named.id_len()]);
        sealed.extend(named.id.as_bytes());
        sealed.extend(nonce);
        sealed.extend(ciphertext);
        sealed
    }

    /// Opens what [`Keyring::seal`] made for the same place, with whichever key of the ring sealed it.
    pub fn open(&self, sealed: &[u8], context: &SealContext) -> Result<Vec<u8>, SealError> {
        let parts = Parts::of(sealed).ok_or(SealError::Malformed)?;
        let unknown = || SealError::UnknownKey { key_id: parts.key_id.to_owned() };
        let named = self.keys.iter().find(|named| named.id == parts.key_id).ok_or_else(unknown)?;
        let aad = associated_data(parts.key_id, context);
        Aes256Gcm::new(&named.key)
            .decrypt(&Nonce::<Aes256Gcm>::from(*parts.nonce), Payload { msg: parts.ciphertext, aad: &aad })
            .map_err(|_| SealError::Refused)
    }

    /// Whether the value opens with an older key, so that a rotation has to seal it again.
    pub fn is_outdated(&self, sealed: &[u8]) -> Result<bool, SealError> {
        Ok(Parts::of(sealed).ok_or(SealError::Malformed)?.key_id != self.current_key_id())
    }

    fn current(&self) -> &NamedKey {
        // Every constructor puts at least one key in.
        &self.keys[0]
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|named| named.id.as_str()).collect();
        f.debug_struct("Keyring").field("key_ids", &ids).finish_non_exhaustive()
    }
}

impl NamedKey {
    fn generate() -> Self {
        let id = format!("k-{:012x}", Uuid::now_v7().as_u128() & 0xffff_ffff_ffff);
        Self { id, key: Key::<Aes256Gcm>::generate() }
    }

    fn parse(entry: &str) -> Result<Self, &'static str> {
        let (id, key) = entry.split_once(':').ok_or("expected `keyid:base64key`")?;
        let (id, key) = (id.trim(), key.trim());
        if !is_key_id(id.as_bytes()) {
            return Err("a key id has 1 to 32 characters of a-z, 0-9, `-` and `_`");
        }
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| "the key is not base64")?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| "the key must be 32 bytes long")?;
        Ok(Self { id: id.to_owned(), key: key.into() })
    }

    fn id_len(&self) -> u8 {
        u8::try_from(self.id.len()).expect("a key id has at most 32 characters")
    }
}

fn is_key_id(id: &[u8]) -> bool {
    let allowed = |c: &u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=KEY_ID_CHARS_MAX).contains(&id.len()) && id.iter().all(allowed)
}

struct Parts<'a> {
    key_id: &'a str,
    nonce: &'a [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let [VERSION, id_len, rest @ ..] = sealed else { return None };
        let (id, rest) = rest.split_at_checked(usize::from(*id_len))?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let key_id = std::str::from_utf8(id).ok().filter(|id| is_key_id(id.as_bytes()))?;
        Some(Self { key_id, nonce, ciphertext })
    }
}

/// Each text is preceded by its length, so that no two places share one encoding.
fn associated_data(key_id: &str, context: &SealContext) -> Vec<u8> {
    let mut data = vec![VERSION];
    for text in [key_id, context.table, context.column] {
        data.extend((text.len() as u64).to_be_bytes());
        data.extend(text.as_bytes());
    }
    data.extend(context.owner.as_bytes());
    data.extend(context.row.as_bytes());
    data
}

#[cfg(test)]
mod tests;
