use super::super::*;

/// Text, platform, handle, lookup key, canonical URL.
type Case = (&'static str, Platform, &'static str, &'static str, &'static str);

fn check(cases: &[Case]) {
    for &(text, platform, handle, lookup_key, canonical) in cases {
        let url = ProfileUrl::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let read = (url.platform(), url.handle(), url.lookup_key(), url.canonical());
        assert_eq!(read, (platform, handle, lookup_key, canonical), "{text:?}");
    }
}

fn check_same(platform: Platform, lookup_key: &str, texts: &[&str]) {
    for text in texts {
        let url = ProfileUrl::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((url.platform(), url.lookup_key()), (platform, lookup_key), "{text:?}");
    }
}

#[test]
fn every_kind_of_name_has_its_own_key_and_canonical_url() {
    const UC: &str = "UCX6OQ3DkcsbYNE6H8uQQuVA";
    check(&[
        (
            "tiktok.com/@Khaby.Lame",
            Platform::Tiktok,
            "Khaby.Lame",
            "@khaby.lame",
            "https://www.tiktok.com/@Khaby.Lame",
        ),
        (
            "youtube.com/@MrBeast",
            Platform::Youtube,
            "MrBeast",
            "@mrbeast",
            "https://www.youtube.com/@MrBeast",
        ),
        (
            "youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA",
            Platform::Youtube,
            UC,
            "channel/UCX6OQ3DkcsbYNE6H8uQQuVA",
            "https://www.youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA",
        ),
        ("youtube.com/c/MKBHD", Platform::Youtube, "MKBHD", "c/mkbhd", "https://www.youtube.com/c/MKBHD"),
        ("youtube.com/MKBHD", Platform::Youtube, "MKBHD", "c/mkbhd", "https://www.youtube.com/c/MKBHD"),
        (
            "youtube.com/user/PewDiePie",
            Platform::Youtube,
            "PewDiePie",
            "user/pewdiepie",
            "https://www.youtube.com/user/PewDiePie",
        ),
        (
            "instagram.com/NatGeo",
            Platform::Instagram,
            "NatGeo",
            "@natgeo",
            "https://www.instagram.com/NatGeo/",
        ),
        (
            "facebook.com/Cristiano",
            Platform::Facebook,
            "Cristiano",
            "@cristiano",
            "https://www.facebook.com/Cristiano",
        ),
        (
            "facebook.com/profile.php?id=100044",
            Platform::Facebook,
            "100044",
            "id/100044",
            "https://www.facebook.com/profile.php?id=100044",
        ),
    ]);
}

#[test]
fn tiktok_profiles_are_read_in_every_form_people_paste() {
    check_same(
        Platform::Tiktok,
        "@khaby.lame",
        &[
            "tiktok.com/@khaby.lame",
            "http://tiktok.com/@khaby.lame",
            "HTTPS://WWW.TIKTOK.COM/@KHABY.LAME",
            "//www.tiktok.com/@khaby.lame",
            "https:/www.tiktok.com/@khaby.lame",
            "https://www.tiktok.com//@khaby.lame//",
            "https://m.tiktok.com/@khaby.lame/",
            "https://vm.tiktok.com/@khaby.lame",
            "https://vt.tiktok.com/@khaby.lame/",
            "https://mobile.tiktok.com/@khaby.lame",
            "https://web.tiktok.com/@khaby.lame",
            "https://www.tiktok.com./@khaby.lame",
            "https://www.tiktok.com/@khaby.lame?lang=en&is_from_webapp=1#top",
            "https://www.tiktok.com/@khaby.lame/live",
            "https://www.tiktok.com/%40khaby%2Elame",
            "https://www.tiktok.com/%2F@khaby.lame%2F",
            "  <https://www.tiktok.com/@khaby.lame>\n",
            "\"https://www.tiktok.com/@khaby.lame\"",
            "‘tiktok.com/@khaby.lame’",
            "\u{feff}tiktok.com/@khaby.lame\u{200b}",
            "\u{a0}tiktok.com/@khaby.lame,",
        ],
    );
}

#[test]
fn youtube_handles_are_read_with_every_tab_and_host() {
    check_same(
        Platform::Youtube,
        "@mrbeast",
        &[
            "youtube.com/@MrBeast",
            "www.youtube.com/@mrbeast/videos",
            "https://m.youtube.com/@MrBeast/shorts",
            "https://music.youtube.com/@MrBeast",
            "https://youtube.com/@MRBEAST/about?si=abc",
            "https://www.youtube.com/@MrBeast/playlists?view=1",
            "https://www.youtube.com/@MrBeast/featured/",
            "https://www.youtube.com/%40MrBeast",
        ],
    );
    check_same(
        Platform::Youtube,
        "user/pewdiepie",
        &["youtube.com/user/PewDiePie/videos", "m.youtube.com/USER/pewdiepie"],
    );
    check_same(
        Platform::Youtube,
        "c/mkbhd",
        &["youtube.com/c/mkbhd/about", "youtube.com/MKBHD/videos", "youtube.com/mkbhd?x=1"],
    );
}

#[test]
fn channel_ids_keep_their_case() {
    let upper = ProfileUrl::parse("youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA/videos").unwrap();
    let lower = ProfileUrl::parse("youtube.com/channel/UCx6oq3dkcsbyne6h8uqquva").unwrap();
    assert_ne!(upper, lower);
    assert_eq!(upper.lookup_key(), "channel/UCX6OQ3DkcsbYNE6H8uQQuVA");
}

#[test]
fn instagram_profiles_are_read_in_every_form_people_paste() {
    check_same(
        Platform::Instagram,
        "@natgeo",
        &[
            "instagram.com/natgeo",
            "https://www.instagram.com/@natgeo",
            "https://instagram.com/NatGeo/?igsh=MzRlODBiNWFlZA==",
            "https://www.instagram.com/natgeo/reels/",
            "https://www.instagram.com/natgeo/tagged/",
            "https://m.instagram.com/natgeo#",
            "https://instagram.com/_u/natgeo",
        ],
    );
    check_same(Platform::Instagram, "@_the.rock_1", &["instagram.com/_The.Rock_1"]);
}

#[test]
fn facebook_names_ignore_case_and_periods() {
    check_same(
        Platform::Facebook,
        "@johndoe",
        &[
            "facebook.com/john.doe",
            "https://www.facebook.com/JohnDoe/about",
            "https://m.facebook.com/john.doe/photos/?ref=page",
            "https://mbasic.facebook.com/john.doe",
            "https://web.facebook.com/john.doe?_rdc=1&_rdr",
            "https://vi-vn.facebook.com/john.doe/",
            "fb.com/@john.doe",
            "https://www.fb.com/john.doe/reels/",
            "https://www.facebook.com/pg/john.doe/posts/",
        ],
    );
    assert_eq!(
        ProfileUrl::parse("facebook.com/john.doe").unwrap().canonical(),
        "https://www.facebook.com/john.doe"
    );
}

#[test]
fn facebook_ids_are_read_wherever_they_stand() {
    check_same(
        Platform::Facebook,
        "id/100044123456789",
        &[
            "facebook.com/profile.php?id=100044123456789",
            "https://m.facebook.com/profile.php/?sk=about&id=100044123456789&lst=1",
            "https://www.facebook.com/PROFILE.PHP?id=%31%30%30044123456789",
            "https://www.facebook.com/people/Nguy%E1%BB%85n-An/100044123456789/",
            "https://www.facebook.com/pages/Some-Bakery/100044123456789?sk=info",
            "https://www.facebook.com/pages/category/Bakery/Some-Bakery-100044123456789/",
            "https://www.facebook.com/p/Some-Bakery-100044123456789/",
            "https://www.facebook.com/Some-Bakery-100044123456789/",
            "https://www.facebook.com/Tiệm-Bánh-100044123456789/about",
            "fb.com/100044123456789",
        ],
    );
}

#[test]
fn handles_of_every_script_are_one_name_composed_decomposed_or_encoded() {
    check_same(
        Platform::Youtube,
        "@cà-phê",
        &[
            "youtube.com/@cà-phê",
            "youtube.com/@CÀ-PHÊ",
            "youtube.com/@ca\u{300}-phe\u{302}",
            "youtube.com/@c%C3%A0-ph%C3%AA",
            "youtube.com/@ca%CC%80-phe%CC%82",
        ],
    );
    check(&[
        (
            "youtube.com/@한국",
            Platform::Youtube,
            "한국",
            "@한국",
            "https://www.youtube.com/@%ED%95%9C%EA%B5%AD",
        ),
        (
            "youtube.com/@สวัสดี",
            Platform::Youtube,
            "สวัสดี",
            "@สวัสดี",
            "https://www.youtube.com/@%E0%B8%AA%E0%B8%A7%E0%B8%B1%E0%B8%AA%E0%B8%94%E0%B8%B5",
        ),
    ]);
}

#[test]
fn the_case_a_name_was_written_in_is_shown_but_does_not_make_another_profile() {
    let (shout, whisper) = (
        ProfileUrl::parse("instagram.com/NATGEO").unwrap(),
        ProfileUrl::parse("instagram.com/natgeo").unwrap(),
    );
    assert_eq!(shout, whisper);
    assert_eq!((shout.handle(), whisper.handle()), ("NATGEO", "natgeo"));
    assert_eq!(std::collections::HashSet::from([shout, whisper]).len(), 1);
}

#[test]
fn one_name_on_two_platforms_is_two_profiles() {
    assert_ne!(
        ProfileUrl::parse("instagram.com/natgeo").unwrap(),
        ProfileUrl::parse("facebook.com/natgeo").unwrap()
    );
}

#[test]
fn in_json_a_profile_is_its_canonical_url_and_is_read_from_any_form() {
    let url: ProfileUrl = serde_json::from_str("\" M.TIKTOK.COM/@Khaby.Lame \"").unwrap();
    assert_eq!(serde_json::to_value(&url).unwrap(), "https://www.tiktok.com/@Khaby.Lame");
    let error = serde_json::from_str::<ProfileUrl>("\"https://youtu.be/x\"").unwrap_err().to_string();
    assert!(error.contains("not to a profile"), "{error}");
}
