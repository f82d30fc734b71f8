//! Instagram: `instagram.com/name`, also pasted with `@`.

use super::{ProfileUrlError, address::Address, name::Name, name::Rules};
use crate::Platform;

const PLATFORM: Platform = Platform::Instagram;

/// Instagram's sign-up form: up to 30 letters, digits, periods and underscores.
const HANDLE: Rules =
    Rules { platform: PLATFORM, chars_min: 1, chars_max: 30, every_script: false, marks: "._" };

pub(super) fn name(address: &Address) -> Result<Name, ProfileUrlError> {
    let not_a_profile = |what| ProfileUrlError::NotAProfile { platform: PLATFORM, what };
    // `/_u/name` is the link that opens the app.
    let segments = match address.segments.split_first() {
        Some((first, rest)) if first == "_u" => rest,
        _ => &address.segments,
    };
    let Some((first, rest)) = segments.split_first() else {
        return Err(ProfileUrlError::NoName { platform: PLATFORM });
    };
    let handle = first.strip_prefix('@').unwrap_or(first);
    if let Some(what) = page(&handle.to_lowercase()) {
        return Err(not_a_profile(what));
    }
    let handle = HANDLE.check(handle)?;
    if handle.starts_with('.') || handle.ends_with('.') || handle.contains("..") {
        return Err(HANDLE.shape("has periods only between other characters"));
    }
    match (rest.first().map(|word| word.to_lowercase()).as_deref(), rest.len()) {
        (Some("p"), _) => Err(not_a_profile("a post")),
        (Some("reel" | "tv"), _) | (Some("reels"), 2..) => Err(not_a_profile("a reel")),
        (Some("guide"), _) | (Some("guides"), 2..) => Err(not_a_profile("a guide")),
        (Some("stories"), _) => Err(not_a_profile("a story")),
        _ => Ok(Name::Handle(handle)),
    }
}

/// What the first part of a path leads to when it is one of Instagram's own words.
fn page(word: &str) -> Option<&'static str> {
    Some(match word {
        "p" => "a post",
        "reel" | "reels" | "tv" => "a reel",
        "stories" | "s" => "a story",
        "explore" | "tags" => "a search or hashtag",
        "share" => "a shared link",
        "accounts" | "challenge" | "login" | "oauth" | "signup" => "a login form",
        "about" | "api" | "developer" | "developers" | "direct" | "directory" | "emails" | "graphql"
        | "legal" | "lite" | "locations" | "nametag" | "popular" | "privacy" | "session" | "terms"
        | "topics" | "web" | "your_activity" => "a page of Instagram itself",
        _ => return None,
    })
}
