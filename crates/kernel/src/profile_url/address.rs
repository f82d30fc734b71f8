//! From pasted text to a platform and the decoded parts of a path: everything the four platforms have in common.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use unicode_normalization::UnicodeNormalization;
use url::{Host, Url};

use super::{ProfileUrlError, TEXT_CHARS_MAX};
use crate::Platform;

/// A host in an error is cut to this many characters.
const HOST_CHARS_MAX: usize = 100;

/// A web address on one of the platforms, before that platform's rules are applied.
pub(super) struct Address {
    pub(super) platform: Platform,
    /// What stands before the platform's domain: empty, `www`, `m`, `vm`, …
    pub(super) prefix: String,
    /// The path's parts: decoded, in Unicode's composed form, without empty ones.
    pub(super) segments: Vec<String>,
    /// The query's first `id`, decoded.
    pub(super) id: Option<String>,
}

impl Address {
    pub(super) fn of(text: &str) -> Result<Self, ProfileUrlError> {
        let text = unwrapped(text)?;
        let rest = without_scheme(text)?;
        check_authority(rest)?;
        let url = Url::parse(&format!("https://{rest}")).map_err(|_| ProfileUrlError::NotAnAddress)?;
        let (platform, prefix) = platform_of(&url)?;
        let segments = segments(url.path())?;
        let id = url.query_pairs().find(|(key, _)| key == "id").map(|(_, value)| value.into_owned());
        Ok(Self { platform, prefix, segments, id })
    }
}

/// The text without what a copy brings along: white space, invisible marks, quotes, angle brackets, a list's comma.
fn unwrapped(text: &str) -> Result<&str, ProfileUrlError> {
    // No character has more than four bytes, so this bounds the counting too.
    if text.len() > TEXT_CHARS_MAX * 4 || text.chars().count() > TEXT_CHARS_MAX {
        return Err(ProfileUrlError::TooLong);
    }
    let quote = |c: char| matches!(c, '<' | '>' | '"' | '\'' | '`' | '“' | '”' | '„' | '‘' | '’' | '«' | '»');
    let around = |c: char| c.is_whitespace() || is_invisible(c) || quote(c);
    let text = text.trim_start_matches(around).trim_end_matches(|c| around(c) || matches!(c, ',' | ';'));
    if text.is_empty() {
        return Err(ProfileUrlError::Empty);
    }
    // Url::parse would silently drop tabs and line breaks and take a backslash for a slash.
    if text.chars().any(char::is_control) {
        return Err(ProfileUrlError::ControlCharacter);
    }
    if text.chars().any(|c| c.is_whitespace() || c == '\\') {
        return Err(ProfileUrlError::NotAnAddress);
    }
    Ok(text)
}

/// Marks without a width that messengers and word processors put around addresses.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What follows `https://`, `http://` or `//`, or the whole text when it has no scheme.
fn without_scheme(text: &str) -> Result<&str, ProfileUrlError> {
    if text.starts_with('@') {
        return Err(ProfileUrlError::HandleAlone);
    }
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) && !is_host_with_port(scheme, rest) => {
            if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
                let scheme = scheme.chars().take(HOST_CHARS_MAX).collect::<String>().to_ascii_lowercase();
                return Err(ProfileUrlError::UnsupportedScheme { scheme });
            }
            rest
        }
        _ => text,
    };
    Ok(rest.trim_start_matches('/'))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// `tiktok.com:443/…` has the form of a scheme, too.
fn is_host_with_port(scheme: &str, rest: &str) -> bool {
    !rest.starts_with("//") && (scheme.contains('.') || rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Refuses what would make the host another than the one a reader sees. `rest` begins at the host.
fn check_authority(rest: &str) -> Result<(), ProfileUrlError> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(ProfileUrlError::UserInfo);
    }
    // An IPv6 address is no port; it is refused as a site below.
    if authority.contains(':') && !authority.starts_with('[') {
        return Err(ProfileUrlError::Port);
    }
    if authority.contains('%') {
        return Err(ProfileUrlError::NotAnAddress);
    }
    Ok(())
}

/// The platform a host belongs to and what stands before its domain.
fn platform_of(url: &Url) -> Result<(Platform, String), ProfileUrlError> {
    let host = match url.host() {
        Some(Host::Domain(domain)) => domain.strip_suffix('.').unwrap_or(domain),
        Some(address) => return Err(ProfileUrlError::UnsupportedSite { host: address.to_string() }),
        None => return Err(ProfileUrlError::NotAnAddress),
    };
    if !host.contains('.') {
        return Err(ProfileUrlError::NotAnAddress);
    }
    let shown = || host.chars().take(HOST_CHARS_MAX).collect::<String>();
    let short_link = |platform| Err(ProfileUrlError::ShortLink { platform });
    match host {
        "youtu.be" | "www.youtu.be" => {
            return Err(ProfileUrlError::NotAProfile {
                platform: Platform::Youtube,
                what: "a video (youtu.be)",
            });
        }
        "fb.me" | "fb.watch" | "www.fb.me" => return short_link(Platform::Facebook),
        "ig.me" | "instagr.am" => return short_link(Platform::Instagram),
        _ => {}
    }
    for (domain, platform) in DOMAINS {
        let Some(prefix) = host.strip_suffix(domain) else { continue };
        match prefix.strip_suffix('.') {
            None if prefix.is_empty() => return Ok((platform, String::new())),
            Some(prefix) if leads_to_profiles(platform, prefix) => return Ok((platform, prefix.to_owned())),
            Some(_) => return Err(ProfileUrlError::NoProfilesThere { host: shown(), platform }),
            None => {}
        }
    }
    match Platform::ALL.into_iter().find(|platform| host.contains(platform.as_str())) {
        Some(resembles) => Err(ProfileUrlError::LookAlike { host: shown(), resembles }),
        None => Err(ProfileUrlError::UnsupportedSite { host: shown() }),
    }
}

const DOMAINS: [(&str, Platform); 5] = [
    ("tiktok.com", Platform::Tiktok),
    ("youtube.com", Platform::Youtube),
    ("instagram.com", Platform::Instagram),
    ("facebook.com", Platform::Facebook),
    ("fb.com", Platform::Facebook),
];

fn leads_to_profiles(platform: Platform, prefix: &str) -> bool {
    match (platform, prefix) {
        (_, "www" | "m" | "mobile" | "web") => true,
        (Platform::Tiktok, "vm" | "vt") => true,
        (Platform::Youtube, "music") => true,
        (Platform::Facebook, "mbasic" | "touch" | "free") => true,
        (Platform::Facebook, locale) => is_locale(locale),
        _ => false,
    }
}

/// Facebook's hosts by language, such as `vi-vn.facebook.com`.
fn is_locale(prefix: &str) -> bool {
    let bytes = prefix.as_bytes();
    bytes.len() == 5
        && bytes[2] == b'-'
        && bytes.iter().enumerate().all(|(i, b)| i == 2 || b.is_ascii_lowercase())
}

/// Decodes before it splits, so that an encoded slash counts as one, as the platforms' own servers have it.
fn segments(path: &str) -> Result<Vec<String>, ProfileUrlError> {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
            return Err(ProfileUrlError::PercentEncoding);
        }
    }
    let path: Cow<'_, str> =
        percent_decode_str(path).decode_utf8().map_err(|_| ProfileUrlError::PercentEncoding)?;
    if path.chars().any(char::is_control) {
        return Err(ProfileUrlError::ControlCharacter);
    }
    let composed: String = path.nfc().collect();
    Ok(composed.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect())
}
