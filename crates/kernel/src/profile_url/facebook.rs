//! Facebook: `/name`, `/profile.php?id=…`, `/people/Name/1000…`, `/pages/Name/1000…` and titles that end in the id.

use super::{ProfileUrlError, address::Address, name::Name, name::Rules};
use crate::Platform;

const PLATFORM: Platform = Platform::Facebook;

/// Facebook's help: letters, digits and periods. New names have five or more, but older ones of two are in use.
const HANDLE: Rules =
    Rules { platform: PLATFORM, chars_min: 2, chars_max: 50, every_script: false, marks: "." };

const ID_DIGITS_MAX: usize = 20;
/// Digits after a title's last hyphen are the page's id only if there are this many: `Cafe-24` is no id.
const TRAILING_ID_DIGITS_MIN: usize = 8;

pub(super) fn name(address: &Address) -> Result<Name, ProfileUrlError> {
    let missing = || ProfileUrlError::NoName { platform: PLATFORM };
    let segments: Vec<&str> = address.segments.iter().map(String::as_str).collect();
    let Some((first, rest)) = segments.split_first() else { return Err(missing()) };
    match (first.to_lowercase().as_str(), rest) {
        ("profile.php", _) => id(address.id.as_deref().ok_or_else(missing)?),
        ("people", [_title, number, tail @ ..]) => after(tail, id(number)?),
        ("pages", ["category", _category, title, tail @ ..]) => after(tail, id(trailing_id(title))?),
        ("pages", [_title, number, tail @ ..]) if starts_with_digit(number) => after(tail, id(number)?),
        ("pages" | "p", [title, tail @ ..]) => after(tail, id(trailing_id(title))?),
        ("people" | "pages" | "p" | "pg", []) | ("people", _) => Err(missing()),
        ("pg", [handle, tail @ ..]) => named(handle, tail),
        _ => named(first, rest),
    }
}

fn named(segment: &str, tail: &[&str]) -> Result<Name, ProfileUrlError> {
    let text = segment.strip_prefix('@').unwrap_or(segment);
    if let Some(what) = page(&text.to_lowercase()) {
        return Err(not_a_profile(what));
    }
    let digits = trailing_id(text);
    let name =
        if is_digits(text) || digits != text && digits.len() >= TRAILING_ID_DIGITS_MIN && is_digits(digits) {
            id(digits)?
        } else {
            let handle = HANDLE.check(text)?;
            if handle.to_ascii_lowercase().ends_with(".php") {
                return Err(not_a_profile(OWN_PAGE));
            }
            if !handle.contains(|c: char| c.is_ascii_alphanumeric()) {
                return Err(HANDLE.shape("holds a letter or a digit"));
            }
            Name::Handle(handle)
        };
    after(tail, name)
}

/// What follows the last hyphen of `Some-Title-1000…`.
fn trailing_id(title: &str) -> &str {
    title.rsplit('-').next().unwrap_or(title)
}

fn id(text: &str) -> Result<Name, ProfileUrlError> {
    let fits = is_digits(text) && text.len() <= ID_DIGITS_MAX && !text.starts_with('0');
    if fits { Ok(Name::Id(text.to_owned())) } else { Err(ProfileUrlError::ProfileId) }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn not_a_profile(what: &'static str) -> ProfileUrlError {
    ProfileUrlError::NotAProfile { platform: PLATFORM, what }
}

/// A tab (`/about`, `/photos`, `/reels`) is one word; one of its items is not the profile any more.
fn after(tail: &[&str], name: Name) -> Result<Name, ProfileUrlError> {
    match (tail.first().map(|word| word.to_lowercase()).as_deref(), tail.len()) {
        (Some("posts"), 2..) | (Some("permalink" | "post" | "permalink.php"), _) => {
            Err(not_a_profile("a post"))
        }
        (Some("videos" | "live_videos"), 2..) | (Some("video"), _) => Err(not_a_profile("a video")),
        (Some("photos"), 2..) | (Some("photo"), _) => Err(not_a_profile("a photo")),
        (Some("reels"), 2..) | (Some("reel"), _) => Err(not_a_profile("a reel")),
        (Some("events"), 2..) => Err(not_a_profile("an event")),
        (Some("stories"), _) => Err(not_a_profile("a story")),
        _ => Ok(name),
    }
}

const OWN_PAGE: &str = "a page of Facebook itself";

/// What the first part of a path leads to when it is one of Facebook's own words.
fn page(word: &str) -> Option<&'static str> {
    Some(match word {
        "posts" | "permalink.php" | "permalink" | "notes" => "a post",
        "story.php" | "stories" => "a story",
        "watch" | "video" | "videos" | "video.php" | "live" => "a video",
        "reel" | "reels" => "a reel",
        "photo" | "photos" | "photo.php" | "media" => "a photo",
        "groups" => "a group",
        "events" => "an event",
        "marketplace" | "commerce" => "the marketplace",
        "hashtag" => "a hashtag",
        "search" | "public" => "search results",
        "share" | "share.php" | "sharer" | "sharer.php" | "l.php" | "dialog" | "flx" => "a shared link",
        "login" | "login.php" | "logout.php" | "reg" | "r.php" | "recover" | "checkpoint" | "signup" => {
            "a login form"
        }
        "about" | "ads" | "ajax" | "bookmarks" | "business" | "careers" | "directory" | "find-friends"
        | "friends" | "fundraisers" | "games" | "gaming" | "help" | "home" | "home.php" | "index.php"
        | "jobs" | "legal" | "me" | "messages" | "notifications" | "offers" | "people" | "pages"
        | "places" | "plugins" | "policies" | "policy.php" | "privacy" | "profile.php" | "saved"
        | "settings" | "terms" | "terms.php" | "tr" => OWN_PAGE,
        _ => return None,
    })
}
