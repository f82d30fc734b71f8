//! The address of a creator's profile, read from whatever people paste.
//!
//! Guarantees: two spellings of one name on one platform give the same [`ProfileUrl::lookup_key`], whatever the
//! scheme, host prefix, case, encoding, tab or query string they came with; the canonical URL reads back to the same
//! key; reading takes time linear in the text, which has at most [`TEXT_CHARS_MAX`] characters, and never panics.
//! Names of different kinds (handle, channel id, custom URL, user name) stay different keys even when the platform
//! leads them to one profile: only the platform knows that.
//!
//! On failure: everything that is not a profile's own address is refused with a reason and the accepted forms;
//! nothing is guessed. Nothing is looked up, so an accepted address may still lead to no profile.

mod address;
mod error;
mod facebook;
mod instagram;
mod name;
mod tiktok;
mod youtube;

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use self::{address::Address, name::Name};
use crate::Platform;

pub use self::error::ProfileUrlError;

/// Longest text that is read, in characters.
pub const TEXT_CHARS_MAX: usize = 2_048;

/// The address of one profile on one platform. Equal when platform and lookup key are; serialised as its canonical URL.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileUrl {
    platform: Platform,
    name: Name,
    lookup_key: String,
    canonical: String,
}

impl ProfileUrl {
    /// Reads a pasted address.
    pub fn parse(text: &str) -> Result<Self, ProfileUrlError> {
        let address = Address::of(text)?;
        let name = match address.platform {
            Platform::Tiktok => tiktok::name(&address)?,
            Platform::Youtube => youtube::name(&address)?,
            Platform::Instagram => instagram::name(&address)?,
            Platform::Facebook => facebook::name(&address)?,
        };
        let platform = address.platform;
        Ok(Self {
            platform,
            lookup_key: name.lookup_key(platform),
            canonical: name.canonical(platform),
            name,
        })
    }

    /// Where the profile lives.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// What a person calls the profile, in the case it was written: the name without `@`, or the platform's id.
    pub fn handle(&self) -> &str {
        self.name.text()
    }

    /// What identifies the profile on its platform: `@name`, `channel/UC…`, `c/name`, `user/name` or `id/…`. Lower
    /// case but for channel ids, whose case matters.
    pub fn lookup_key(&self) -> &str {
        &self.lookup_key
    }

    /// The https URL of the profile, with the name in the case it was written.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }
}

impl PartialEq for ProfileUrl {
    fn eq(&self, other: &Self) -> bool {
        self.platform == other.platform && self.lookup_key == other.lookup_key
    }
}

impl Eq for ProfileUrl {}

impl Hash for ProfileUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.platform.hash(state);
        self.lookup_key.hash(state);
    }
}

impl fmt::Display for ProfileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.canonical)
    }
}

impl fmt::Debug for ProfileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProfileUrl({}:{})", self.platform, self.lookup_key)
    }
}

impl FromStr for ProfileUrl {
    type Err = ProfileUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ProfileUrl {
    type Error = ProfileUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ProfileUrl> for String {
    fn from(url: ProfileUrl) -> Self {
        url.canonical
    }
}

#[cfg(test)]
mod tests;
