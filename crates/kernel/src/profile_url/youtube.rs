//! YouTube: `/@name`, `/channel/UC…`, `/c/name`, `/user/name`, and `/name` as the old short form of `/c/name`.

use super::{ProfileUrlError, address::Address, name::Name, name::Rules};
use crate::Platform;

const PLATFORM: Platform = Platform::Youtube;

/// YouTube's help: 3 to 30 letters and digits of any script, `_`, `-`, `.` and the middle dot.
const HANDLE: Rules =
    Rules { platform: PLATFORM, chars_min: 3, chars_max: 30, every_script: true, marks: "_-.·" };

/// The same for scripts in which one character is a syllable or a word: they may be shorter.
const HANDLE_OF_OTHER_SCRIPT: Rules = Rules { chars_min: 1, ..HANDLE };

/// Custom URLs are no longer given out; the old ones were made from channel titles.
const CUSTOM: Rules =
    Rules { platform: PLATFORM, chars_min: 1, chars_max: 100, every_script: true, marks: "_-.·" };

/// User names are no longer given out, either.
const USER: Rules =
    Rules { platform: PLATFORM, chars_min: 1, chars_max: 60, every_script: false, marks: "_-." };

pub(super) fn name(address: &Address) -> Result<Name, ProfileUrlError> {
    let missing = ProfileUrlError::NoName { platform: PLATFORM };
    let Some((first, rest)) = address.segments.split_first() else { return Err(missing) };
    let named = rest.first().map(String::as_str).ok_or(missing);
    if let Some(handle) = first.strip_prefix('@') {
        check_tab(rest)?;
        let rules = if handle.is_ascii() { HANDLE } else { HANDLE_OF_OTHER_SCRIPT };
        return Ok(Name::Handle(with_a_letter(&rules, handle)?));
    }
    let word = first.to_lowercase();
    match word.as_str() {
        "channel" => {
            let id = channel_id(named?)?;
            check_tab(&rest[1..])?;
            Ok(Name::Channel(id))
        }
        "c" => {
            let name = with_a_letter(&CUSTOM, named?)?;
            check_tab(&rest[1..])?;
            Ok(Name::Custom(name))
        }
        "user" => {
            let name = with_a_letter(&USER, named?)?;
            check_tab(&rest[1..])?;
            Ok(Name::User(name))
        }
        word => {
            if let Some(what) = page(word) {
                return Err(ProfileUrlError::NotAProfile { platform: PLATFORM, what });
            }
            let name = with_a_letter(&CUSTOM, first)?;
            check_tab(rest)?;
            // Without a marker before it, a word is a name only if what follows is a channel's tab.
            if rest.len() > 1 || rest.iter().any(|tab| !TABS.contains(&tab.to_lowercase().as_str())) {
                return Err(ProfileUrlError::NotAProfile { platform: PLATFORM, what: OWN_PAGE });
            }
            Ok(Name::Custom(name))
        }
    }
}

const OWN_PAGE: &str = "a page of YouTube itself";

const TABS: [&str; 15] = [
    "about",
    "channels",
    "community",
    "courses",
    "featured",
    "join",
    "live",
    "membership",
    "playlists",
    "podcasts",
    "posts",
    "releases",
    "shorts",
    "streams",
    "videos",
];

fn with_a_letter(rules: &Rules, text: &str) -> Result<String, ProfileUrlError> {
    let name = rules.check(text)?;
    if name.contains(char::is_alphanumeric) {
        Ok(name)
    } else {
        Err(rules.shape("holds a letter or a digit"))
    }
}

fn channel_id(text: &str) -> Result<String, ProfileUrlError> {
    let fits = text.len() == 24
        && text.starts_with("UC")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if fits { Ok(text.to_owned()) } else { Err(ProfileUrlError::ChannelId) }
}

/// A tab (`/videos`, `/shorts`, `/about`) is one word; one of its items is not the profile any more.
fn check_tab(rest: &[String]) -> Result<(), ProfileUrlError> {
    let what = match (rest.first().map(|word| word.to_lowercase()).as_deref(), rest.len()) {
        (Some("videos" | "shorts" | "streams" | "live"), 2..) => "a video",
        (Some("watch" | "video"), _) => "a video",
        (Some("playlists"), 2..) | (Some("playlist"), _) => "a playlist",
        (Some("community" | "posts"), 2..) | (Some("post"), _) => "a post",
        _ => return Ok(()),
    };
    Err(ProfileUrlError::NotAProfile { platform: PLATFORM, what })
}

/// What the first part of a path leads to when it is one of YouTube's own words.
fn page(word: &str) -> Option<&'static str> {
    Some(match word {
        "watch" | "watch_popup" | "v" | "e" | "embed" | "video" | "shorts" | "live" | "get_video" => {
            "a video"
        }
        "clip" => "a clip",
        "playlist" | "playlists" | "view_play_list" | "show" => "a playlist",
        "post" | "posts" | "community" => "a post",
        "hashtag" => "a hashtag",
        "results" | "search" => "search results",
        "signin" | "login" | "logout" | "signup" | "accounts" | "account" => "a login form",
        "redirect" | "attribution_link" | "share" => "a shared link",
        "about"
        | "ads"
        | "browse"
        | "channels"
        | "creators"
        | "explore"
        | "feed"
        | "gaming"
        | "howyoutubeworks"
        | "intl"
        | "jobs"
        | "kids"
        | "learning"
        | "movies"
        | "music"
        | "new"
        | "news"
        | "oembed"
        | "paid_memberships"
        | "podcasts"
        | "premium"
        | "profile"
        | "reporthistory"
        | "s"
        | "shopping"
        | "source"
        | "sports"
        | "storefront"
        | "subscription_center"
        | "supported_browsers"
        | "t"
        | "trending"
        | "tv"
        | "upload"
        | "yt" => OWN_PAGE,
        _ => return None,
    })
}
