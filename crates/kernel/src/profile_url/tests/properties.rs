use proptest::prelude::*;

use super::super::*;

/// Text that often is an address: pieces of addresses and noise in any order.
fn address_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "https://", "http:", "//", "/", "@", "?", "#", "%", "%2F", "%40", "%C3%A9", "%00", ":", ".", "..", "-", "_", "·",
            "www.", "m.", "vm.", "vi-vn.", "tiktok.com/", "tiktok.com/@", "youtube.com/", "youtube.com/@", "youtube.com/c/",
            "youtube.com/user/", "youtube.com/channel/UC", "X6OQ3DkcsbYNE6H8uQQuVA", "instagram.com/", "facebook.com/", "fb.com/",
            "profile.php?id=", "people/", "pages/", "category/", "p/", "pg/", "100044123456789", "_u/", "videos", "reels",
            "\u{301}", "İ", "ẞ", "Σ", "한", "สวัสดี", "😀", "\u{202e}", "\u{0}", "\\", "<", ">", "\"", " ", "xn--", "[::1]",
        ]).prop_map(str::to_owned),
        2 => "[a-zA-Z0-9._-]{1,12}",
        1 => "\\PC{0,6}",
        1 => ".{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Addresses that are profiles, most of the time.
fn profile_like() -> impl Strategy<Value = String> {
    let site = prop::sample::select(vec![
        "tiktok.com/@",
        "https://m.tiktok.com/@",
        "youtube.com/@",
        "youtube.com/c/",
        "youtube.com/user/",
        "youtube.com/",
        "youtube.com/channel/UC",
        "instagram.com/",
        "facebook.com/",
        "facebook.com/profile.php?id=",
        "facebook.com/people/x/",
        "facebook.com/Some-Title-",
    ]);
    let name = prop_oneof![
        "[a-zA-Z0-9._]{1,24}",
        "[A-Za-z0-9_-]{22}",
        "[1-9][0-9]{0,18}",
        "[\\p{L}\\p{M}\\p{N}]{1,12}"
    ];
    (site, name).prop_map(|(site, name)| format!("{site}{name}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = ProfileUrl::parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn the_canonical_url_reads_back_to_the_same_profile(text in prop_oneof![address_like(), profile_like()]) {
        match ProfileUrl::parse(&text) {
            Ok(url) => {
                let again = ProfileUrl::parse(url.canonical())
                    .unwrap_or_else(|error| panic!("{text:?} → {}: {error}", url.canonical()));
                prop_assert_eq!(again.platform(), url.platform());
                prop_assert_eq!(again.handle(), url.handle());
                prop_assert_eq!(again.lookup_key(), url.lookup_key());
                prop_assert_eq!(again.canonical(), url.canonical());
                prop_assert!(url.canonical().is_ascii() && !url.handle().starts_with('@'));
            }
            Err(error) => prop_assert!(error.to_string().contains("accepted: ")),
        }
    }

    #[test]
    fn case_host_prefix_query_and_wrapping_do_not_change_the_profile(
        handle in "[a-z][a-z0-9]{5,20}",
        site in prop::sample::select(vec!["tiktok.com/@", "youtube.com/@", "instagram.com/", "facebook.com/"]),
        prefix in prop::sample::select(vec!["", "www.", "m.", "mobile.", "web.", "http://", "https://www.", "//m."]),
        tail in prop::sample::select(vec!["", "/", "//", "/about", "?a=1&b=%zz", "#x", "/?q=@y/video/1"]),
        (open, close) in prop::sample::select(vec![("", ""), ("<", ">"), ("\"", "\""), (" ", "\n"), ("“", "”")]),
    ) {
        // A word of the site itself, such as `explore`, is no name.
        let Ok(plain) = ProfileUrl::parse(&format!("{site}{handle}")) else { return Ok(()) };
        let upper = format!("{open}{prefix}{}{}{tail}{close}", site.to_uppercase(), handle.to_uppercase());
        prop_assert_eq!(&ProfileUrl::parse(&upper).map_err(|error| TestCaseError::fail(format!("{upper:?}: {error}")))?, &plain);
        prop_assert_eq!(plain.lookup_key(), format!("@{handle}"));
    }
}
