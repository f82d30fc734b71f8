//! Secrets that whoever holds them is let in by: of sessions, and of permits to choose a password.
//!
//! A secret is a prefix and 43 random letters and digits (256 bits). The prefix lets secret scanners find leaked ones.
//! What is stored is the SHA-256: there is nothing to guess, so no slow hash is needed on every request.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

/// log2(62⁴³) is just over 256.
const RANDOM_CHARS: usize = 43;

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A browser's session.
    Cookie,
    /// A program's session.
    Token,
    /// A permit to choose a password.
    Permit,
}

impl SecretKind {
    /// What its secrets begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Cookie => "mps_",
            Self::Token => "mpt_",
            Self::Permit => "mpr_",
        }
    }
}

/// A text that has the form of a secret. Whose it is, only the database knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one.
    #[must_use]
    pub fn generate(kind: SecretKind) -> Self {
        Self(format!("{}{}", kind.prefix(), Alphanumeric.sample_string(&mut rand::rng(), RANDOM_CHARS)))
    }

    /// Reads one of a kind; another kind's is none.
    #[must_use]
    pub fn parse(kind: SecretKind, text: &str) -> Option<Self> {
        let random = text.strip_prefix(kind.prefix())?;
        let fits = random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned()))
    }

    /// The secret itself. Do not log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Secret({}…)", &self.0[..4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_as_its_own_kind_alone() {
        let secret = Secret::generate(SecretKind::Token);
        assert_eq!(Secret::parse(SecretKind::Token, secret.expose()), Some(secret.clone()));
        assert_eq!(Secret::parse(SecretKind::Cookie, secret.expose()), None);
        assert_eq!(format!("{secret:?}"), "Secret(mpt_…)");
        for wrong in ["", "mpt_", "mpt_é", &format!("{}x", secret.expose())] {
            assert_eq!(Secret::parse(SecretKind::Token, wrong), None, "{wrong}");
        }
    }
}
