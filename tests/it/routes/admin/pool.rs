//! `/api/v1/admin/pool`: S0's FR-009, and the list that it needs.

use identity::Role;
use kernel::Platform;
use kernel::ids::InfluencerId;
use pool::Crawl;
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::creators::{crawl, creators, set};
use crate::support::{TestApi, TestDb, TestPartner, TestPerson};

const LIST: &str = "/api/v1/admin/pool/influencers";
const BULK: &str = "/api/v1/admin/pool/bulk-visibility";
const SEARCH: &str = "/api/v1/partners/pool/search";

struct Scene {
    db: TestDb,
    api: TestApi,
    admin: TestPerson,
    partner: TestPartner,
    ids: Vec<InfluencerId>,
}

impl Scene {
    async fn of(crawls: impl IntoIterator<Item = Crawl>) -> Self {
        let db = TestDb::new().await;
        let ids = creators(&db, crawls).await;
        Self {
            api: TestApi::start(&db).await,
            admin: TestPerson::create(&db, Role::Admin).await,
            partner: TestPartner::create(&db, "techcombank").await,
            db,
            ids,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::to(self.admin.sign(self.api.request(Method::GET, path))).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::to(self.admin.sign(self.api.request(Method::PATCH, path)).json(&body)).await
    }

    async fn listed(&self, query: &str) -> Vec<String> {
        names(&self.get(&format!("{LIST}?{query}")).await.expect(200))
    }

    /// Whom a partner finds through one of the API's processes.
    async fn found(&self, api: &TestApi) -> Vec<String> {
        names(&Answer::to(api.request_as(&self.partner, Method::GET, SEARCH)).await.expect(200))
    }

    /// The status of a partner's request for one of them.
    async fn requested(&self, id: InfluencerId) -> u16 {
        let request = self.api.request_as(&self.partner, Method::POST, "/api/v1/partners/pool/request");
        Answer::to(request.json(&json!({ "influencerIds": [id] }))).await.status
    }

    /// What the audit log holds of changes of visibility, the oldest first.
    async fn audited(&self) -> Vec<(String, String, Value, Value)> {
        let rows = sqlx::query!(
            r#"select target, actor, before as "before!: Value", after as "after!: Value"
               from audit_log where action like 'pool.set_visibilit%' order by at, id"#
        );
        let rows = rows.fetch_all(self.db.pool()).await.unwrap();
        rows.into_iter().map(|row| (row.target, row.actor, row.before, row.after)).collect()
    }
}

fn names(body: &Value) -> Vec<String> {
    let data = body["data"].as_array().unwrap().iter();
    data.map(|one| one["username"].as_str().unwrap().to_owned()).collect()
}

fn three() -> [Crawl; 3] {
    [
        Crawl { score: 90, platform: Platform::Youtube, ..crawl("one") },
        Crawl { score: 50, followers: 5, display_name: "=Đặng Lân".to_owned(), ..crawl("two") },
        Crawl { score: 70, followers: 2_000_000, ..crawl("three") },
    ]
}

// S0-014, S0-045, S0-064, S0-112, S0-113, S0-116, S0-313
#[tokio::test]
async fn whoever_is_made_private_is_gone_for_partners_at_once_and_it_is_on_the_record() {
    let scene = Scene::of(three()).await;
    let other = TestApi::start(&scene.db).await;
    assert_eq!(scene.found(&other).await, ["one", "three", "two"]);
    let path = format!("{LIST}/{}", scene.ids[0]);
    for (visibility, expected, requested) in
        [("PRIVATE", &["three", "two"][..], 404), ("public", &["one", "three", "two"], 200)]
    {
        let body = scene.patch(&path, json!({ "visibility": visibility })).await.expect(200);
        assert_eq!(body["data"]["visibility"], visibility.to_uppercase());
        for api in [&scene.api, &other] {
            assert_eq!(scene.found(api).await, expected);
        }
        assert_eq!(scene.requested(scene.ids[0]).await, requested);
    }
    let (target, actor) = (scene.ids[0].to_string(), scene.admin.id.to_string());
    let entry = |before: &str, after: &str| {
        (target.clone(), actor.clone(), json!({ "visibility": before }), json!({ "visibility": after }))
    };
    assert_eq!(scene.audited().await, [entry("PUBLIC", "PRIVATE"), entry("PRIVATE", "PUBLIC")]);

    set(&scene.db, scene.ids[1], "deleted_at", Some("2026-01-01")).await;
    let removed = format!("{LIST}/{}", scene.ids[1]);
    scene.patch(&removed, json!({ "visibility": "PRIVATE" })).await.refusal(404, "NOT_FOUND");
    for body in [json!({}), json!({ "visibility": "SECRET" }), json!({ "visibility": "PUBLIC", "score": 1 })]
    {
        scene.patch(&path, body).await.refusal(400, "VALIDATION_ERROR");
    }
    let wrong = format!("{LIST}/ptn_01jd8x4xkre9a8y9tbn2p5q3mw");
    scene.patch(&wrong, json!({ "visibility": "PUBLIC" })).await.refusal(400, "VALIDATION_ERROR");
    assert_eq!(scene.audited().await.len(), 2, "what was refused changed nothing");
}

// S0-114, S0-116, S0-317
#[tokio::test]
async fn many_who_are_named_change_at_once_and_whoever_is_not_there_is_told() {
    let scene = Scene::of(three()).await;
    set(&scene.db, scene.ids[1], "visibility", Some("PRIVATE")).await;
    let unknown = InfluencerId::new();
    let mut named = scene.ids.clone();
    named.extend([scene.ids[0], unknown]);
    let list = named.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let preview = scene.get(&format!("{BULK}?visibility=PRIVATE&influencerIds={list}")).await.expect(200);
    let preview = &preview["data"];
    assert_eq!((&preview["changing"], &preview["unchanged"]), (&json!(2), &json!(1)));
    assert_eq!(preview["failed"], json!([{ "id": unknown, "error": "NOT_FOUND" }]));
    assert_eq!(preview["samples"].as_array().unwrap().len(), 2);
    assert_eq!(scene.found(&scene.api).await.len(), 2, "a preview changes nothing");

    let body = json!({ "visibility": "PRIVATE", "influencerIds": named });
    let done = scene.patch(BULK, body).await.expect(200);
    let failed = json!([{ "id": unknown, "error": "NOT_FOUND" }]);
    assert_eq!(done["data"], json!({ "updated": 2, "unchanged": 1, "failed": failed }));
    assert!(scene.found(&scene.api).await.is_empty());
    let mut changed = [scene.ids[0], scene.ids[2]];
    changed.sort_by_key(|id| id.uuid());
    let (target, _, before, after) = scene.audited().await.remove(0);
    assert_eq!(target, "pool");
    assert_eq!(before, json!({ "visibility": "PUBLIC", "influencerIds": changed }));
    assert_eq!(after, json!({ "visibility": "PRIVATE", "updated": 2 }));

    for (body, field) in [
        (json!({ "visibility": "PUBLIC" }), "influencerIds"),
        (json!({ "visibility": "PUBLIC", "influencerIds": [] }), "influencerIds"),
        (json!({ "visibility": "PUBLIC", "influencerIds": vec![unknown; 1_001] }), "influencerIds"),
        (json!({ "visibility": "PUBLIC", "influencerIds": ["x"] }), "influencerIds"),
        (json!({ "visibility": "PUBLIC", "filter": { "minScore": 60 } }), "confirmation"),
        (
            json!({ "visibility": "PUBLIC", "filter": { "minscore": 60 }, "confirmation": "x" }),
            "filter.minscore",
        ),
    ] {
        let refused = scene.patch(BULK, body).await.refusal(400, "VALIDATION_ERROR");
        assert_eq!(refused["error"]["details"][0]["field"], field);
    }
}

// S0-114, S0-116
#[tokio::test]
async fn what_a_filter_meets_changes_only_as_it_was_previewed() {
    let scene = Scene::of(three()).await;
    let path = format!("{BULK}?visibility=PRIVATE&minScore=60&maxFollowers=300000");
    let preview = scene.get(&path).await.expect(200)["data"].clone();
    assert_eq!((&preview["changing"], &preview["samples"][0]["username"]), (&json!(1), &json!("one")));
    let wish = json!({
        "visibility": preview["visibility"], "filter": preview["filter"], "confirmation": preview["confirmation"]
    });
    // Meanwhile another one comes to meet the filter.
    creators(&scene.db, [Crawl { score: 60, ..crawl("two") }]).await;
    sqlx::query!("update pool_influencers set followers = 9").execute(scene.db.pool()).await.unwrap();
    scene.patch(BULK, wish.clone()).await.refusal(409, "CONFLICT");
    assert_eq!((scene.found(&scene.api).await.len(), scene.audited().await.len()), (3, 0));

    let preview = scene.get(&path).await.expect(200)["data"].clone();
    assert_eq!(preview["changing"], 3);
    let mut wish = wish;
    wish["confirmation"] = preview["confirmation"].clone();
    wish["filter"]["minScore"] = 60.into();
    assert_eq!(scene.patch(BULK, wish.clone()).await.expect(200)["data"]["updated"], 3);
    assert!(scene.found(&scene.api).await.is_empty());
    // The confirmation is for that change, not for doing it again.
    scene.patch(BULK, wish).await.refusal(409, "CONFLICT");
}

// S0-115, S0-127, S0-130, S0-132, S0-310
#[tokio::test]
async fn the_pool_is_listed_with_private_ones_by_every_filter_in_every_order_and_as_a_safe_csv() {
    let scene = Scene::of(three()).await;
    set(&scene.db, scene.ids[0], "visibility", Some("PRIVATE")).await;
    set(&scene.db, scene.ids[1], "category", Some("food")).await;
    set(&scene.db, scene.ids[2], "sync_status", Some("PAUSED")).await;
    creators(&scene.db, [crawl("gone")]).await;
    sqlx::query!("update pool_influencers set deleted_at = now() where username = 'gone'")
        .execute(scene.db.pool())
        .await
        .unwrap();
    let newest = ["three", "two", "one"];
    for (query, expected) in [
        ("", &newest[..]),
        ("visibility=PRIVATE", &["one"]),
        ("visibility=public", &["three", "two"]),
        ("platform=youtube", &["one"]),
        ("category=food", &["two"]),
        ("syncStatus=PAUSED", &["three"]),
        ("syncStatus=active&visibility=PUBLIC", &["two"]),
        ("tier=vip", &["three"]),
        ("tier=standard", &["two"]),
        ("q=dang%20lan", &["two"]),
        ("q=tree&visibility=PRIVATE", &[]),
        ("minFollowers=6&minScore=80", &["one"]),
        ("sort=-score", &["one", "three", "two"]),
        ("sort=followers", &["two", "one", "three"]),
        ("sort=createdAt&limit=1", &["one"]),
    ] {
        assert_eq!(scene.listed(query).await, expected, "{query}");
    }
    let first = scene.get(&format!("{LIST}?limit=2")).await.expect(200);
    let cursor = first["pagination"]["nextCursor"].as_str().unwrap();
    assert_eq!(scene.listed(&format!("limit=2&cursor={cursor}")).await, ["one"]);

    let text = scene.get(&format!("{LIST}?format=csv")).await;
    assert_eq!((text.status, text.text().lines().count()), (200, 4));
    assert!(text.text().contains(",'=Đặng Lân,"), "{}", text.text());
    for answer in [&text, &scene.get(LIST).await] {
        for hidden in ["example.com\"", "@example.com", "+84", "contact", "bio"] {
            assert!(!answer.text().contains(hidden), "{hidden}");
        }
    }
    let query = "visibility=x&tier=gold&syncStatus=x&platform=x&q=%20&extra=1&format=x";
    let body = scene.get(&format!("{LIST}?{query}")).await.refusal(400, "VALIDATION_ERROR");
    assert_eq!(body["error"]["details"].as_array().unwrap().len(), 7);
    scene.get(&format!("{LIST}?sort=username")).await.refusal(400, "VALIDATION_ERROR");
}
