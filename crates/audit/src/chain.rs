//! Links, and the head of the chain.

use std::{fmt, str::FromStr};

use kernel::sealing::{Keyring, SealError};

use crate::stored::{Stored, put};

/// What links are made for.
const LINK: &str = "audit.chain";
/// What notes of the head are made for.
const HEAD: &str = "audit.head";

/// The last link of the chain: it stands for all that was sealed up to it. Its text, `SEQ:LINK`, is not secret, and worth
/// keeping elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its number; the first is 1.
    pub seq: i64,
    /// It.
    pub link: String,
}

/// The text is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected SEQ:LINK, as `audit verify` shows it")]
pub struct NotAHead;

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.link)
    }
}

impl FromStr for Head {
    type Err = NotAHead;

    fn from_str(text: &str) -> Result<Self, NotAHead> {
        let (seq, link) = text.trim().split_once(':').ok_or(NotAHead)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(NotAHead)?;
        match link.split_once(':') {
            Some((key, hex)) if !key.is_empty() && !hex.is_empty() => Ok(Self { seq, link: link.to_owned() }),
            _ => Err(NotAHead),
        }
    }
}

impl Head {
    /// The tag of the note that says where the chain ends.
    pub(crate) fn tag(&self, keyring: &Keyring) -> String {
        keyring.tag(HEAD, self.to_string().as_bytes())
    }

    /// Whether its link says that it was made under this key.
    pub(crate) fn is_under(&self, key_id: &str) -> bool {
        self.link.split_once(':').is_some_and(|(made_under, _)| made_under == key_id)
    }

    /// Whether a note's tag is that of this head.
    ///
    /// # Errors
    /// As [`Keyring::check_tag`].
    pub(crate) fn check(&self, keyring: &Keyring, tag: &str) -> Result<bool, SealError> {
        keyring.check_tag(HEAD, self.to_string().as_bytes(), tag)
    }
}

/// The link of an entry under the current key.
pub(crate) fn link(keyring: &Keyring, seq: i64, before: &str, entry: &Stored) -> String {
    keyring.tag(LINK, &bytes(seq, before, entry))
}

/// The same under every key, the current first.
pub(crate) fn links(keyring: &Keyring, seq: i64, before: &str, entry: &Stored) -> Vec<String> {
    keyring.tags(LINK, &bytes(seq, before, entry))
}

/// Whether a link is that of this entry.
///
/// # Errors
/// As [`Keyring::check_tag`].
pub(crate) fn check(
    keyring: &Keyring,
    seq: i64,
    before: &str,
    entry: &Stored,
    link: &str,
) -> Result<bool, SealError> {
    keyring.check_tag(LINK, &bytes(seq, before, entry), link)
}

fn bytes(seq: i64, before: &str, entry: &Stored) -> Vec<u8> {
    let mut bytes = seq.to_be_bytes().to_vec();
    put(&mut bytes, before.as_bytes());
    bytes.extend(entry.sealed_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = Head { seq: 12, link: "k1:0a0b".to_owned() };
        assert_eq!(head.to_string().parse(), Ok(head));
        for text in ["", "12", "12:", "12:k1", "12:k1:", ":k1:aa", "0:k1:aa", "-1:k1:aa", "x:k1:aa"] {
            assert_eq!(text.parse::<Head>(), Err(NotAHead), "{text}");
        }
    }
}
