//! `GET /api/v1/partners/pool/search`: S0's FR-002.

use kernel::Platform;
use kernel::ids::InfluencerId;
use pool::Crawl;
use reqwest::Method;
use serde_json::Value;

use crate::routes::answer::Answer;
use crate::support::creators::{crawl, creators, set};
use crate::support::{TestApi, TestDb, TestPartner};

const SEARCH: &str = "/api/v1/partners/pool/search";

struct Scene {
    db: TestDb,
    api: TestApi,
    partner: TestPartner,
}

impl Scene {
    async fn of(crawls: impl IntoIterator<Item = Crawl>) -> (Self, Vec<InfluencerId>) {
        let db = TestDb::new().await;
        let ids = creators(&db, crawls).await;
        let api = TestApi::start(&db).await;
        let partner = TestPartner::create(&db, "techcombank").await;
        (Self { db, api, partner }, ids)
    }

    async fn search(&self, query: &str) -> Answer {
        let path = format!("{SEARCH}?{query}");
        Answer::to(self.api.request_as(&self.partner, Method::GET, &path)).await
    }

    async fn found(&self, query: &str) -> (Vec<String>, Value) {
        let body = self.search(query).await.expect(200);
        let names = body["data"].as_array().unwrap().iter();
        let names = names.map(|one| one["username"].as_str().unwrap().to_owned()).collect();
        (names, body["pagination"].clone())
    }

    async fn names(&self, query: &str) -> Vec<String> {
        self.found(query).await.0
    }
}

/// Six creators whose names say what they are.
fn six() -> Vec<Crawl> {
    let one = |username: &str, platform, followers, engagement, score| Crawl {
        platform,
        followers,
        engagement,
        score,
        ..crawl(username)
    };
    vec![
        one("tiktok_small", Platform::Tiktok, 9_999, 9.5, 20),
        one("tiktok_middle", Platform::Tiktok, 100_000, 3.0, 60),
        one("tiktok_large", Platform::Tiktok, 1_000_001, 1.25, 90),
        one("youtube_middle", Platform::Youtube, 500_000, 4.8, 60),
        one("instagram_large", Platform::Instagram, 1_000_000, 2.9999, 95),
        one("facebook_small", Platform::Facebook, 10_000, 0.0, 0),
    ]
}

// S0-050, S0-052, S0-277, S0-278
#[tokio::test]
async fn a_result_is_s0s_preview_and_holds_nothing_that_costs_quota() {
    let (scene, ids) = Scene::of([crawl("beauty_creator")]).await;
    set(&scene.db, ids[0], "category", Some("beauty")).await;
    let answer = scene.search("category=beauty&platform=tiktok&minFollowers=10000&minScore=60").await;
    let mut body = answer.expect(200);
    assert_eq!(body["data"][0]["id"], ids[0].to_string());
    body["data"][0]["id"] = "at_inf_…".into();
    insta::assert_json_snapshot!("preview", body);
    for hidden in ["example.com\"", "+84", "contact", "engagement", "vb_prof", "avg", "bio"] {
        assert!(!answer.text().contains(hidden), "{hidden}");
    }
    let quota = scene.api.request_as(&scene.partner, Method::GET, "/api/v1/partners/quota");
    assert_eq!(Answer::to(quota).await.expect(200)["quota"]["used"], 0, "a search costs none");
}

// S0-046, S0-047, S0-048, S0-279, S0-280, S0-281, S0-282, S0-283, S0-284
#[tokio::test]
async fn every_filter_holds_with_its_bounds_and_all_together() {
    let (scene, ids) = Scene::of(six()).await;
    set(&scene.db, ids[1], "category", Some("gaming")).await;
    let all = [
        "instagram_large",
        "tiktok_large",
        "youtube_middle",
        "tiktok_middle",
        "tiktok_small",
        "facebook_small",
    ];
    for (query, expected) in [
        ("", &all[..]),
        ("platform=tiktok", &["tiktok_large", "tiktok_middle", "tiktok_small"]),
        ("platform=TIKTOK&category=Gaming", &["tiktok_middle"]),
        ("category=beauty", &[]),
        ("minFollowers=100000&maxFollowers=1000000", &["instagram_large", "youtube_middle", "tiktok_middle"]),
        ("minFollowers=1000001", &["tiktok_large"]),
        ("maxFollowers=9999", &["tiktok_small"]),
        ("minEngagement=3.0", &["youtube_middle", "tiktok_middle", "tiktok_small"]),
        ("minEngagement=2.9999&maxEngagement=3", &["instagram_large", "tiktok_middle"]),
        ("maxEngagement=0", &["facebook_small"]),
        ("minScore=60", &all[..4]),
        ("minScore=60&minEngagement=3&maxFollowers=100000", &["tiktok_middle"]),
        ("sort=-followers&minFollowers=500000", &["tiktok_large", "instagram_large", "youtube_middle"]),
        ("sort=followers&limit=2", &["tiktok_small", "facebook_small"]),
        ("sort=-engagement&limit=2", &["tiktok_small", "youtube_middle"]),
        ("sort=engagement&limit=1", &["facebook_small"]),
        ("sort=score&limit=1", &["facebook_small"]),
    ] {
        assert_eq!(scene.names(query).await, expected, "{query}");
    }
}

// S0-046, S0-048
#[tokio::test]
async fn names_are_found_without_accents_with_slips_and_with_every_other_filter() {
    let named =
        |username: &str, name: &str, score| Crawl { display_name: name.to_owned(), score, ..crawl(username) };
    let (scene, ids) = Scene::of([
        named("huong.beauty", "Nguyễn Thị Hương", 50),
        named("dinhhung_vn", "Đinh Hùng", 90),
        named("gamingdaily", "Huong Nguyen Official", 80),
        named("nguyen", "Gia Bảo", 10),
    ])
    .await;
    for (query, expected) in [
        ("q=Nguy%E1%BB%85n%20Th%E1%BB%8B%20H%C6%B0%C6%A1ng", &["huong.beauty"][..]),
        ("q=nguyen%20huong", &["gamingdaily", "huong.beauty"]),
        ("q=HUONG%20nguyne", &["gamingdaily", "huong.beauty"]),
        ("q=nguyen", &["nguyen", "gamingdaily", "huong.beauty"]),
        ("q=nguyen&sort=-score", &["gamingdaily", "huong.beauty", "nguyen"]),
        ("q=nguyen&sort=score&limit=1", &["nguyen"]),
        ("q=nguyen&maxEngagement=1", &[]),
        ("q=nguyen&minScore=50&offset=1", &["huong.beauty"]),
        ("q=%C4%91inh", &["dinhhung_vn"]),
        ("q=dinhh%C3%B9ng", &["dinhhung_vn"]),
        ("q=beauty%20huong", &["huong.beauty"]),
        ("q=gamingdialy", &["gamingdaily"]),
        ("q=daily", &["gamingdaily"]),
        ("q=nobody", &[]),
    ] {
        assert_eq!(scene.names(query).await, expected, "{query}");
    }
    let (_, page) = scene.found("q=nguyen&limit=1").await;
    assert_eq!((&page["total"], &page["hasMore"]), (&Value::from(3), &Value::from(true)));
    let next = page["nextCursor"].as_str().unwrap();
    assert_eq!(scene.names(&format!("q=nguyen&cursor={next}")).await, ["gamingdaily", "huong.beauty"]);

    // The very next search knows of a new name, and of who may be seen.
    creators(&scene.db, [Crawl { username: "tuan".into(), ..named("nguyen", "Tuấn", 10) }]).await;
    set(&scene.db, ids[2], "visibility", Some("PRIVATE")).await;
    assert_eq!(scene.names("q=nguyen").await, ["huong.beauty"]);
    assert_eq!(scene.names("q=tuan").await, ["tuan"]);

    for hostile in [
        "%25_%25",
        "%27%20or%201%3D1--",
        "%22",
        "%00",
        "%01%02",
        "%F0%9F%8E%AE",
        "%5C",
        "%FF%FE",
        "%CC%81%CC%81",
        &"a".repeat(100),
        &"a%20".repeat(50),
        &"%C6%B0".repeat(100),
        &"%EF%B7%BA".repeat(100),
        &"z".repeat(101),
    ] {
        let answer = scene.search(&format!("q={hostile}")).await;
        assert!([200, 400].contains(&answer.status), "{hostile}: {}", answer.status);
    }
    scene.search(&format!("q={}", "z".repeat(101))).await.refusal(400, "VALIDATION_ERROR");
}

// S0-045, S0-113, S0-267
#[tokio::test]
async fn only_public_creators_are_found_and_the_very_next_search_knows() {
    let (scene, ids) = Scene::of([crawl("one"), crawl("two"), crawl("three")]).await;
    assert_eq!(scene.names("").await.len(), 3);
    let other = TestApi::start(&scene.db).await;
    let asked = async |api: &TestApi| {
        let answer = Answer::to(api.request_as(&scene.partner, Method::GET, SEARCH)).await;
        let body = answer.expect(200);
        (body["data"].as_array().unwrap().len(), body["pagination"]["total"].as_u64().unwrap())
    };
    assert_eq!(asked(&other).await, (3, 3));
    set(&scene.db, ids[0], "visibility", Some("PRIVATE")).await;
    set(&scene.db, ids[1], "deleted_at", Some("2026-01-01")).await;
    for api in [&scene.api, &other] {
        assert_eq!(asked(api).await, (1, 1));
    }
    set(&scene.db, ids[0], "visibility", Some("PUBLIC")).await;
    creators(&scene.db, [Crawl { score: 99, ..crawl("four") }]).await;
    for api in [&scene.api, &other] {
        assert_eq!(asked(api).await, (3, 3));
    }
    assert_eq!(scene.names("").await[0], "four");
    let renamed = creators(&scene.db, [Crawl { followers: 1, username: "uno".into(), ..crawl("one") }]).await;
    assert_eq!(renamed[0], ids[0]);
    assert_eq!(scene.names("maxFollowers=1").await, ["uno"]);
}

// S0-045, S0-113
#[tokio::test]
async fn a_change_that_commits_late_is_not_missed() {
    let (scene, ids) = Scene::of([crawl("one"), crawl("two")]).await;
    assert_eq!(scene.names("").await.len(), 2);
    let mut slow = db::begin(scene.db.pool()).await.unwrap();
    sqlx::query!("update pool_influencers set visibility = 'PRIVATE' where id = $1", ids[0].uuid())
        .execute(&mut *slow)
        .await
        .unwrap();
    // Later transactions commit first, and searches see them.
    set(&scene.db, ids[1], "visibility", Some("PRIVATE")).await;
    assert_eq!(scene.names("").await, ["one"]);
    set(&scene.db, ids[1], "visibility", Some("PUBLIC")).await;
    assert_eq!(scene.names("").await.len(), 2);
    slow.commit().await.unwrap();
    assert_eq!(scene.names("").await, ["two"]);
}

// S0-049, S0-285, S0-286
#[tokio::test]
async fn pages_by_offset_and_by_cursor_meet_every_match_once_and_agree_with_the_total() {
    let many = (0..95).map(|number| Crawl {
        score: i32::from(number % 7 == 0) * 10 + 50,
        followers: 1_000 + i64::from(number % 11),
        ..crawl(&format!("creator{number:02}"))
    });
    let (scene, _) = Scene::of(many).await;
    for sort in ["", "&sort=score", "&sort=-followers", "&sort=followers", "&sort=-engagement"] {
        let (mut by_offset, mut by_cursor, mut cursor) = (Vec::new(), Vec::new(), String::new());
        loop {
            let (names, page) = scene.found(&format!("limit=30&offset={}{sort}", by_offset.len())).await;
            assert_eq!((&page["total"], &page["limit"]), (&Value::from(95), &Value::from(30)));
            assert_eq!(page["offset"], by_offset.len());
            by_offset.extend(names);
            let (names, page) = scene.found(&format!("limit=30{cursor}{sort}")).await;
            by_cursor.extend(names);
            assert_eq!(by_offset, by_cursor, "{sort}");
            assert_eq!(page["hasMore"], by_cursor.len() < 95);
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        by_cursor.sort();
        by_cursor.dedup();
        assert_eq!(by_cursor.len(), 95, "{sort}");
    }
    let (names, page) = scene.found("offset=95").await;
    assert_eq!((names.len(), &page["hasMore"], &page["total"]), (0, &Value::from(false), &Value::from(95)));
}

// S0-277
#[tokio::test]
async fn every_documented_parameter_is_known_and_its_example_is_accepted() {
    let (scene, _) = Scene::of([]).await;
    let document = Answer::to(scene.api.request(Method::GET, "/api-docs/openapi.json")).await.expect(200);
    let parameters = document["paths"][SEARCH]["get"]["parameters"].as_array().unwrap().clone();
    assert_eq!(parameters.len(), 12);
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let body = scene.search(&format!("{name}=%01")).await.refusal(400, "VALIDATION_ERROR");
        assert_eq!(body["error"]["details"][0]["code"], "INVALID", "{name}");
        let example = match &parameter["example"] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        scene.search(&format!("{name}={example}")).await.expect(200);
    }
}

// S0-279, S0-284, S0-285, S0-286
#[tokio::test]
async fn every_wrong_parameter_is_told_at_once() {
    let (scene, _) = Scene::of([]).await;
    let query = "category=cars&platform=x&minFollowers=-1&maxFollowers=many&minEngagement=1e3&minScore=101&limit=0\
                 &offset=10001&sort=name&cursor=zzz&page=2&q=%20";
    let body = scene.search(query).await.refusal(400, "VALIDATION_ERROR");
    let faults = body["error"]["details"].as_array().unwrap().iter();
    let fields: Vec<&str> = faults.map(|fault| fault["field"].as_str().unwrap()).collect();
    assert_eq!(fields.len(), 12, "{fields:?}");
    for (query, field) in [
        ("minFollowers=2&maxFollowers=1", "minFollowers"),
        ("minEngagement=2&maxEngagement=1.9", "minEngagement"),
        ("limit=101", "limit"),
    ] {
        let body = scene.search(query).await.refusal(400, "VALIDATION_ERROR");
        assert_eq!(body["error"]["details"][0]["field"], field);
    }
}
