//! TikTok: `tiktok.com/@name`; everything else there is a video, a short link or a page of the site.

use super::{ProfileUrlError, address::Address, name::Name, name::Rules};
use crate::Platform;

const PLATFORM: Platform = Platform::Tiktok;

/// TikTok's help: letters, digits, underscores and periods, 2 to 24 of them, no period at the end.
const HANDLE: Rules =
    Rules { platform: PLATFORM, chars_min: 2, chars_max: 24, every_script: true, marks: "_." };

pub(super) fn name(address: &Address) -> Result<Name, ProfileUrlError> {
    let not_a_profile = |what| ProfileUrlError::NotAProfile { platform: PLATFORM, what };
    let Some((first, rest)) = address.segments.split_first() else {
        return Err(ProfileUrlError::NoName { platform: PLATFORM });
    };
    let Some(handle) = first.strip_prefix('@') else {
        let short_host = matches!(address.prefix.as_str(), "vm" | "vt");
        return Err(match page(&first.to_lowercase()) {
            _ if short_host => ProfileUrlError::ShortLink { platform: PLATFORM },
            Some(SHORT_LINK) => ProfileUrlError::ShortLink { platform: PLATFORM },
            Some(what) => not_a_profile(what),
            None => ProfileUrlError::MissingAt,
        });
    };
    let handle = HANDLE.check(handle)?;
    if handle.ends_with('.') {
        return Err(HANDLE.shape("cannot end with a period"));
    }
    if !handle.contains(char::is_alphanumeric) && !handle.contains('_') {
        return Err(HANDLE.shape("holds a letter, a digit or an underscore"));
    }
    match rest.first().map(|word| word.to_lowercase()).as_deref() {
        Some("video") => Err(not_a_profile("a video")),
        Some("photo" | "note") => Err(not_a_profile("a photo post")),
        Some("playlist" | "collection") => Err(not_a_profile("a playlist")),
        Some("story" | "stories") => Err(not_a_profile("a story")),
        _ => Ok(Name::Handle(handle)),
    }
}

const SHORT_LINK: &str = "a short link";

/// What the first part of a path leads to when it is one of TikTok's own words.
fn page(word: &str) -> Option<&'static str> {
    Some(match word {
        "t" => SHORT_LINK,
        "v" | "video" | "embed" | "player" => "a video",
        "tag" | "hashtag" => "a hashtag",
        "music" | "sound" => "a sound",
        "share" => "a shared link",
        "login" | "signup" | "logout" => "a login form",
        "about"
        | "business"
        | "channel"
        | "community-guidelines"
        | "creators"
        | "discover"
        | "download"
        | "effect"
        | "explore"
        | "following"
        | "foryou"
        | "friends"
        | "inbox"
        | "legal"
        | "live"
        | "messages"
        | "place"
        | "question"
        | "search"
        | "setting"
        | "shop"
        | "sticker"
        | "topics"
        | "trending"
        | "upload" => "a page of TikTok itself",
        _ => return None,
    })
}
