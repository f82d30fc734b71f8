//! The platforms a creator's profile can live on.
//!
//! The lower-case name is the one form everywhere: on the wire, in the database and in logs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A social platform whose profiles Millpond knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// tiktok.com
    Tiktok,
    /// youtube.com
    Youtube,
    /// instagram.com
    Instagram,
    /// facebook.com
    Facebook,
}

impl Platform {
    /// Every platform, in the order they are listed to people.
    pub const ALL: [Self; 4] = [Self::Tiktok, Self::Youtube, Self::Instagram, Self::Facebook];

    /// The lower-case name used on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tiktok => "tiktok",
            Self::Youtube => "youtube",
            Self::Instagram => "instagram",
            Self::Facebook => "facebook",
        }
    }

    /// The name as the platform itself writes it, for sentences meant for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tiktok => "TikTok",
            Self::Youtube => "YouTube",
            Self::Instagram => "Instagram",
            Self::Facebook => "Facebook",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == text).ok_or(UnknownPlatform)
    }
}

/// The text names no platform. Only the exact lower-case names are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the platform must be one of tiktok, youtube, instagram, facebook")]
pub struct UnknownPlatform;

#[cfg(test)]
mod tests {
    use super::*;

    // S0-018
    #[test]
    fn every_platform_is_read_back_from_the_name_it_prints_and_serialises_to() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
            assert_eq!(serde_json::to_value(platform).unwrap(), platform.as_str());
            assert_eq!(serde_json::from_value::<Platform>(platform.as_str().into()).unwrap(), platform);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_accepted_ones() {
        for name in ["", "TikTok", "twitter", " tiktok"] {
            let error = name.parse::<Platform>().unwrap_err().to_string();
            assert!(Platform::ALL.iter().all(|platform| error.contains(platform.as_str())), "{error}");
        }
    }
}
