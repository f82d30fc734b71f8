//! Why a pasted text is no profile address, in sentences for the person who pasted it.

use super::TEXT_CHARS_MAX;
use crate::Platform;

/// Why a text is not the address of a profile. Each reason's text names the forms that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileUrlError {
    /// Nothing but white space, quotes or brackets.
    #[error("the profile URL is empty; {}", every_form())]
    Empty,
    /// Longer than any profile address.
    #[error("the profile URL is longer than {TEXT_CHARS_MAX} characters; {}", every_form())]
    TooLong,
    /// A line break, tab or other control character within the address, plain or percent-encoded.
    #[error("the profile URL holds a control character; {}", every_form())]
    ControlCharacter,
    /// No web address at all.
    #[error("this is not a web address; {}", every_form())]
    NotAnAddress,
    /// `@name` without a site.
    #[error("a handle alone does not say on which platform it is; {}", every_form())]
    HandleAlone,
    /// `javascript:`, `file:`, `mailto:` and the like.
    #[error("only http and https addresses lead to a profile, not `{scheme}:`; {}", every_form())]
    UnsupportedScheme {
        /// The scheme that was given, lower case.
        scheme: String,
    },
    /// `https://tiktok.com@elsewhere.example/`: what looks like the site is a user name.
    #[error("a profile URL has no user name or password before its host; {}", every_form())]
    UserInfo,
    /// `tiktok.com:8443`.
    #[error("a profile URL names no port; {}", every_form())]
    Port,
    /// A site Millpond does not know.
    #[error("`{host}` is not a supported site; {}", every_form())]
    UnsupportedSite {
        /// The host that was given.
        host: String,
    },
    /// A host that carries a platform's name but is not the platform's.
    #[error("`{host}` is not {}; {}", .resembles.title(), forms(*.resembles))]
    LookAlike {
        /// The host that was given.
        host: String,
        /// The platform whose name it carries.
        resembles: Platform,
    },
    /// A host of the platform on which no profiles are, such as its help pages.
    #[error("`{host}` holds no profiles; {}", forms(*.platform))]
    NoProfilesThere {
        /// The host that was given.
        host: String,
        /// The platform it belongs to.
        platform: Platform,
    },
    /// `%` not followed by two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the profile URL's percent-encoding is broken; {}", every_form())]
    PercentEncoding,
    /// The front page, or a path that stops before the name.
    #[error("the address names no profile; {}", forms(*.platform))]
    NoName {
        /// The platform it is on.
        platform: Platform,
    },
    /// A link whose target only the platform knows.
    #[error("short links do not say which profile they lead to: open it and paste the address it leads to; {}",
            forms(*.platform))]
    ShortLink {
        /// The platform it is on.
        platform: Platform,
    },
    /// A post, a video, a group, a login form or another page that is no profile.
    #[error("this leads to {what}, not to a profile; {}", forms(*.platform))]
    NotAProfile {
        /// The platform it is on.
        platform: Platform,
        /// What it leads to, with its article.
        what: &'static str,
    },
    /// TikTok's profiles are the only pages that begin with `@`.
    #[error("a TikTok profile's name begins with `@`; {}", forms(Platform::Tiktok))]
    MissingAt,
    /// A character the platform allows in no name.
    #[error("a name on {} cannot hold {character:?}; {}", .platform.title(), forms(*.platform))]
    NameCharacter {
        /// The platform it is on.
        platform: Platform,
        /// The first character that cannot stand in a name.
        character: char,
    },
    /// Shorter or longer than the platform's names.
    #[error("a name on {} has {chars_min} to {chars_max} characters, not {chars}; {}",
            .platform.title(), forms(*.platform))]
    NameLength {
        /// The platform it is on.
        platform: Platform,
        /// Fewest characters.
        chars_min: usize,
        /// Most characters.
        chars_max: usize,
        /// Characters found.
        chars: usize,
    },
    /// The characters are allowed, but not where they stand.
    #[error("a name on {} {rule}; {}", .platform.title(), forms(*.platform))]
    NameShape {
        /// The platform it is on.
        platform: Platform,
        /// The rule that was broken.
        rule: &'static str,
    },
    /// Not `UC` and 22 characters.
    #[error(
        "a YouTube channel id is `UC` and 22 letters, digits, `-` or `_`, upper and lower case as given; {}",
        forms(Platform::Youtube)
    )]
    ChannelId,
    /// Not a Facebook id.
    #[error("a Facebook profile id is a number of up to 20 digits; {}", forms(Platform::Facebook))]
    ProfileId,
}

fn forms(platform: Platform) -> &'static str {
    match platform {
        Platform::Tiktok => "accepted: tiktok.com/@name",
        Platform::Youtube => {
            "accepted: youtube.com/@name, youtube.com/channel/UC…, youtube.com/c/name, youtube.com/user/name"
        }
        Platform::Instagram => "accepted: instagram.com/name",
        Platform::Facebook => {
            "accepted: facebook.com/name, facebook.com/profile.php?id=…, facebook.com/people/Name/1000…, \
             facebook.com/pages/Name/1000…"
        }
    }
}

fn every_form() -> &'static str {
    "accepted: tiktok.com/@name, youtube.com/@name, youtube.com/channel/UC…, instagram.com/name, facebook.com/name, \
     facebook.com/profile.php?id=…"
}
