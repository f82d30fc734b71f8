//! The name in a profile's address, and the rules names obey.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::ProfileUrlError;
use crate::Platform;

/// What an address calls its profile.
#[derive(Clone)]
pub(super) enum Name {
    /// The name the profile shows, without `@`.
    Handle(String),
    /// YouTube's id of a channel; its case matters.
    Channel(String),
    /// YouTube's custom URL, `/c/name`, also written without the `c`.
    Custom(String),
    /// YouTube's oldest form, `/user/name`.
    User(String),
    /// Facebook's number of a profile or page.
    Id(String),
}

/// All that a URL's path may hold as it is; the rest is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Name {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Handle(text)
            | Self::Channel(text)
            | Self::Custom(text)
            | Self::User(text)
            | Self::Id(text) => text,
        }
    }

    pub(super) fn lookup_key(&self, platform: Platform) -> String {
        match self {
            // Facebook reads `john.doe` and `johndoe` as one name.
            Self::Handle(text) if platform == Platform::Facebook => {
                format!("@{}", folded(&text.replace('.', "")))
            }
            Self::Handle(text) => format!("@{}", folded(text)),
            Self::Channel(id) => format!("channel/{id}"),
            Self::Custom(text) => format!("c/{}", folded(text)),
            Self::User(text) => format!("user/{}", folded(text)),
            Self::Id(id) => format!("id/{id}"),
        }
    }

    pub(super) fn canonical(&self, platform: Platform) -> String {
        let text = utf8_percent_encode(self.text(), ENCODED);
        match (self, platform) {
            (Self::Handle(_), Platform::Tiktok) => format!("https://www.tiktok.com/@{text}"),
            (Self::Handle(_), Platform::Youtube) => format!("https://www.youtube.com/@{text}"),
            (Self::Handle(_), Platform::Instagram) => format!("https://www.instagram.com/{text}/"),
            (Self::Handle(_), Platform::Facebook) => format!("https://www.facebook.com/{text}"),
            (Self::Channel(_), _) => format!("https://www.youtube.com/channel/{text}"),
            (Self::Custom(_), _) => format!("https://www.youtube.com/c/{text}"),
            (Self::User(_), _) => format!("https://www.youtube.com/user/{text}"),
            (Self::Id(_), _) => format!("https://www.facebook.com/profile.php?id={text}"),
        }
    }
}

/// Lower case, composed again, because lower case can decompose (`İ` becomes `i` and a dot).
fn folded(text: &str) -> String {
    text.to_lowercase().nfc().collect()
}

/// Which characters a platform's names may hold, and how many.
pub(super) struct Rules {
    pub(super) platform: Platform,
    pub(super) chars_min: usize,
    pub(super) chars_max: usize,
    /// Letters and digits of every script, or a–z and 0–9 only.
    pub(super) every_script: bool,
    /// What a name may hold beside letters and digits.
    pub(super) marks: &'static str,
}

impl Rules {
    /// The name, if it obeys the rules. `text` is in Unicode's composed form.
    pub(super) fn check(&self, text: &str) -> Result<String, ProfileUrlError> {
        let platform = self.platform;
        if text.is_empty() {
            return Err(ProfileUrlError::NoName { platform });
        }
        if let Some(character) = text.chars().find(|c| !self.allows(*c)) {
            return Err(ProfileUrlError::NameCharacter { platform, character });
        }
        let (chars, chars_min, chars_max) = (text.chars().count(), self.chars_min, self.chars_max);
        if !(chars_min..=chars_max).contains(&chars) {
            return Err(ProfileUrlError::NameLength { platform, chars_min, chars_max, chars });
        }
        if text.starts_with(is_combining_mark) {
            return Err(self.shape("cannot begin with a combining mark"));
        }
        Ok(text.to_owned())
    }

    /// The error for a name that breaks one of the platform's own rules.
    pub(super) fn shape(&self, rule: &'static str) -> ProfileUrlError {
        ProfileUrlError::NameShape { platform: self.platform, rule }
    }

    fn allows(&self, c: char) -> bool {
        // Thai, Hindi and others write vowels as combining marks.
        let letter =
            c.is_ascii_alphanumeric() || self.every_script && (c.is_alphanumeric() || is_combining_mark(c));
        letter || self.marks.contains(c)
    }
}
