use super::super::{ProfileUrlError as E, *};

fn error_of(text: &str) -> E {
    match ProfileUrl::parse(text) {
        Ok(url) => panic!("{text:?} was read as {url:?}"),
        Err(error) => error,
    }
}

/// Each text is refused with an error whose sentence holds the given words and the accepted forms.
fn check(cases: &[(&str, &str)]) {
    for (text, words) in cases {
        let sentence = error_of(text).to_string();
        assert!(sentence.contains(words), "{text:?}: {sentence}");
        assert!(sentence.contains("accepted: ") && sentence.len() < 500, "{text:?}: {sentence}");
    }
}

#[test]
fn text_that_is_no_web_address_is_refused() {
    check(&[
        ("", "is empty"),
        (" \t\r\n ", "is empty"),
        ("<\"\">", "is empty"),
        ("hello", "not a web address"),
        ("mrbeast official", "not a web address"),
        ("https://", "not a web address"),
        ("https://?q=tiktok.com/@x", "not a web address"),
        ("tiktok.com/@a b", "not a web address"),
        ("https:\\\\tiktok.com\\@khaby", "not a web address"),
        ("https://tiktok%2ecom/@khaby", "not a web address"),
        ("@mrbeast", "handle alone"),
        ("@first.last/", "handle alone"),
        ("javascript:alert(1)", "not `javascript:`"),
        ("JavaScript://tiktok.com/@khaby", "not `javascript:`"),
        ("file:///etc/passwd", "not `file:`"),
        ("ftp://tiktok.com/@khaby", "not `ftp:`"),
        ("mailto:me@tiktok.com", "not `mailto:`"),
        ("data:text/html,x", "not `data:`"),
    ]);
}

#[test]
fn the_longest_text_is_2048_characters_of_any_script() {
    for filler in ["x", "é", "한", "😀"] {
        let text = |chars: usize| {
            let start = "tiktok.com/@khaby?";
            format!("{start}{}", filler.repeat(chars - start.len()))
        };
        assert!(ProfileUrl::parse(&text(TEXT_CHARS_MAX)).is_ok(), "{filler}");
        assert_eq!(error_of(&text(TEXT_CHARS_MAX + 1)), E::TooLong, "{filler}");
    }
    assert_eq!(error_of(&" ".repeat(1_000_000)), E::TooLong);
}

#[test]
fn control_characters_are_refused_plain_and_encoded() {
    for text in [
        "tiktok.com/@kh\naby",
        "tik\ttok.com/@khaby",
        "\u{7}tiktok.com/@khaby",
        "tiktok.com/@khaby%00",
        "instagram.com/nat%0Ageo",
    ] {
        assert_eq!(error_of(text), E::ControlCharacter, "{text:?}");
    }
}

#[test]
fn broken_percent_encoding_is_refused() {
    for text in [
        "tiktok.com/@kh%",
        "tiktok.com/@kh%2",
        "tiktok.com/@%zzab",
        "tiktok.com/@kh%%41",
        "tiktok.com/@%ff%fe",
        "youtube.com/@%C3",
    ] {
        assert_eq!(error_of(text), E::PercentEncoding, "{text:?}");
    }
}

#[test]
fn hosts_that_are_not_what_they_seem_are_refused() {
    for text in [
        "https://tiktok.com@evil.com/@khaby",
        "tiktok.com@evil.com/..",
        "https://tiktok.com:x@evil.com/@khaby",
        "https://@tiktok.com/@khaby",
        "https://user:pass@www.instagram.com/natgeo",
    ] {
        assert_eq!(error_of(text), E::UserInfo, "{text:?}");
    }
    for text in [
        "tiktok.com:443/@khaby",
        "https://www.tiktok.com:8443/@khaby",
        "http://facebook.com:80/nba",
        "tiktok.com:/@khaby",
    ] {
        assert_eq!(error_of(text), E::Port, "{text:?}");
    }
    check(&[
        ("https://tiktok.com.evil.io/@khaby", "`tiktok.com.evil.io` is not TikTok"),
        ("https://eviltiktok.com/@khaby", "is not TikTok"),
        ("instagram.co/natgeo", "is not Instagram"),
        ("youtube.com.vn/@mrbeast", "is not YouTube"),
        ("facebook-login.com/nba", "is not Facebook"),
        ("instagarm.com/natgeo", "not a supported site"),
        ("tıktok.com/@khaby", "not a supported site"),
        ("x.com/nasa", "not a supported site"),
        ("https://www.twitch.tv/ninja", "not a supported site"),
        ("https://127.0.0.1/@khaby", "not a supported site"),
        ("https://[::1]:80/@khaby", "not a supported site"),
        ("https://evil.io/https://tiktok.com/@khaby", "not a supported site"),
        ("https://evil.io?tiktok.com/@khaby", "not a supported site"),
        ("https://studio.youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA", "holds no profiles"),
        ("https://l.facebook.com/l.php?u=x", "holds no profiles"),
        ("https://www.m.tiktok.com/@khaby", "holds no profiles"),
    ]);
}

#[test]
fn short_links_are_refused_because_only_the_platform_knows_their_target() {
    check(&[
        ("https://vm.tiktok.com/ZMhvqPq1a/", "short links"),
        ("vt.tiktok.com/ZSabc123", "short links"),
        ("https://www.tiktok.com/t/ZTRabc/", "short links"),
        ("https://fb.me/abc", "short links"),
        ("https://fb.watch/abc/", "short links"),
    ]);
}

#[test]
fn posts_videos_and_other_content_are_refused_by_what_they_are() {
    check(&[
        ("https://youtu.be/dQw4w9WgXcQ", "a video"),
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ", "a video"),
        ("youtube.com/shorts/abc", "a video"),
        ("youtube.com/live/abc", "a video"),
        ("youtube.com/embed/abc", "a video"),
        ("youtube.com/playlist?list=PL1", "a playlist"),
        ("youtube.com/hashtag/fun", "a hashtag"),
        ("youtube.com/post/Ugkx1", "a post"),
        ("youtube.com/clip/Ugkx1", "a clip"),
        ("youtube.com/@MrBeast/shorts/abc", "a video"),
        ("https://www.tiktok.com/@khaby.lame/video/7137423965982592302", "a video"),
        ("https://www.tiktok.com/@khaby.lame/photo/7137423965982592302", "a photo post"),
        ("https://m.tiktok.com/v/7137423965982592302.html", "a video"),
        ("tiktok.com/tag/fun", "a hashtag"),
        ("tiktok.com/music/x-1", "a sound"),
        ("https://www.instagram.com/p/Cabc123/", "a post"),
        ("https://www.instagram.com/natgeo/p/Cabc123/", "a post"),
        ("https://www.instagram.com/reel/Cabc123/", "a reel"),
        ("https://www.instagram.com/natgeo/reel/Cabc123/", "a reel"),
        ("https://www.instagram.com/stories/natgeo/1/", "a story"),
        ("https://www.instagram.com/explore/tags/fun/", "hashtag"),
        ("https://www.facebook.com/nba/posts/pfbid02", "a post"),
        ("https://www.facebook.com/nba/videos/123/", "a video"),
        ("https://www.facebook.com/nba/photos/a.1/2", "a photo"),
        ("https://www.facebook.com/permalink.php?story_fbid=1&id=2", "a post"),
        ("https://www.facebook.com/story.php?story_fbid=1&id=2", "a story"),
        ("https://www.facebook.com/photo/?fbid=1", "a photo"),
        ("https://www.facebook.com/photo.php?fbid=1", "a photo"),
        ("https://www.facebook.com/watch/?v=1", "a video"),
        ("https://www.facebook.com/reel/1", "a reel"),
        ("https://www.facebook.com/groups/rust", "a group"),
        ("https://www.facebook.com/events/1", "an event"),
        ("https://www.facebook.com/marketplace/item/1", "marketplace"),
        ("https://www.facebook.com/share/p/abc/", "a shared link"),
        ("https://www.facebook.com/sharer/sharer.php?u=x", "a shared link"),
        ("https://www.facebook.com/hashtag/fun", "a hashtag"),
    ]);
}

#[test]
fn the_sites_own_pages_are_refused_in_any_case() {
    check(&[
        ("tiktok.com/foryou", "TikTok itself"),
        ("tiktok.com/login", "a login form"),
        ("youtube.com/Feed/subscriptions", "YouTube itself"),
        ("music.youtube.com/browse/UC1", "YouTube itself"),
        ("youtube.com/some/where", "YouTube itself"),
        ("youtube.com/results?search_query=x", "search results"),
        ("instagram.com/accounts/login/?next=/natgeo/", "a login form"),
        ("instagram.com/@explore", "hashtag"),
        ("instagram.com/DIRECT/inbox", "Instagram itself"),
        ("facebook.com/login.php?next=x", "a login form"),
        ("facebook.com/help", "Facebook itself"),
        ("facebook.com/pg/groups/x", "a group"),
        ("facebook.com/unheard.of.php", "Facebook itself"),
    ]);
}

#[test]
fn an_address_without_a_name_says_so() {
    for text in [
        "tiktok.com",
        "https://www.tiktok.com/",
        "tiktok.com/@",
        "tiktok.com/@/",
        "youtube.com",
        "youtube.com/@",
        "youtube.com/c/",
        "youtube.com/channel",
        "youtube.com/user",
        "instagram.com",
        "instagram.com/@",
        "instagram.com/_u",
        "facebook.com",
        "fb.com/?id=4",
        "facebook.com/profile.php",
        "facebook.com/people/",
        "facebook.com/people/Name",
    ] {
        assert!(matches!(error_of(text), E::NoName { .. }), "{text:?}: {:?}", error_of(text));
    }
    assert_eq!(error_of("tiktok.com/khaby.lame"), E::MissingAt);
}

#[test]
fn names_the_platform_could_not_have_given_are_refused() {
    let long = |site: &str, chars: usize| format!("{site}{}", "x".repeat(chars));
    check(&[
        ("tiktok.com/@kha-by", "cannot hold '-'"),
        ("tiktok.com/@@khaby", "cannot hold '@'"),
        ("tiktok.com/@khaby&lang=en", "cannot hold '&'"),
        ("tiktok.com/@khaby%2540", "cannot hold '%'"),
        ("tiktok.com/@khaby.", "period"),
        ("tiktok.com/@k", "2 to 24 characters, not 1"),
        (&long("tiktok.com/@", 25), "2 to 24 characters, not 25"),
        ("youtube.com/@ab", "3 to 30 characters, not 2"),
        (&long("youtube.com/@", 31), "3 to 30 characters, not 31"),
        ("youtube.com/@...", "a letter or a digit"),
        ("youtube.com/@\u{301}abc", "combining mark"),
        ("youtube.com/@a\u{202e}bc", "cannot hold '\\u{202e}'"),
        ("youtube.com/@mr😀beast", "cannot hold '😀'"),
        ("youtube.com/user/näme", "cannot hold 'ä'"),
        ("youtube.com/channel/UCshort", "channel id"),
        ("youtube.com/channel/ucX6OQ3DkcsbYNE6H8uQQuVA", "channel id"),
        ("youtube.com/channel/@MrBeast", "channel id"),
        ("instagram.com/nat-geo", "cannot hold '-'"),
        ("instagram.com/natgéo", "cannot hold 'é'"),
        ("instagram.com/.natgeo", "periods"),
        ("instagram.com/nat..geo", "periods"),
        (&long("instagram.com/", 31), "1 to 30 characters, not 31"),
        ("facebook.com/na_me", "cannot hold '_'"),
        ("facebook.com/cafe-24", "cannot hold '-'"),
        ("facebook.com/x", "2 to 50 characters, not 1"),
        (&long("facebook.com/", 51), "2 to 50 characters, not 51"),
        ("facebook.com/....", "a letter or a digit"),
        ("facebook.com/profile.php?id=", "number"),
        ("facebook.com/profile.php?id=abc", "number"),
        ("facebook.com/profile.php?id=-1", "number"),
        ("facebook.com/profile.php?id=007", "number"),
        ("facebook.com/profile.php?id=123456789012345678901", "number"),
        ("facebook.com/people/Name/pfbid02", "number"),
        ("facebook.com/pages/Name", "number"),
    ]);
}
