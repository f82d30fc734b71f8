//! `/api/v1/admin/partners`: S0's FR-008 and FR-010 as admins meet them.

use identity::Role;
use partners::{NewPartner, SubscriptionTier};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::{TestApi, TestDb, TestPartner, TestPerson, eventually};

const PARTNERS: &str = "/api/v1/admin/partners";

struct Scene {
    db: TestDb,
    api: TestApi,
    admin: TestPerson,
}

impl Scene {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let api = TestApi::start(&db).await;
        let admin = TestPerson::create(&db, Role::Admin).await;
        Self { db, api, admin }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.admin.sign(self.api.request(method, &format!("{PARTNERS}{path}")));
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::to(request).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    async fn names(&self, query: &str) -> Vec<String> {
        let body = self.ask(Method::GET, query, None).await.expect(200);
        let codes = body["data"].as_array().unwrap().iter();
        codes.map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    }

    /// The status of a partner's look at its own quota.
    async fn calls(&self, code: &str, key: &str) -> u16 {
        let request = self.api.request(Method::GET, "/api/v1/partners/quota");
        Answer::to(request.header("X-Partner-ID", code).header("X-API-Key", key)).await.status
    }
}

// S0-100, S0-180, S0-181, S0-183, S0-305, S0-306, S0-358, S0-100, S0-108, S0-180, S0-181, S0-183, S0-305, S0-306
#[tokio::test]
async fn a_partner_is_made_with_its_credentials_and_may_call_at_once() {
    let scene = Scene::new().await;
    let body = scene
        .post(
            "",
            json!({
                "name": " Techcombank ", "code": "techcombank", "contactName": "Nguyễn Thị Lan",
                "contactEmail": "Lan@Example.com", "contactPhone": "+84 24 3944 6368", "tier": "PREMIUM",
                "startDate": "2026-01-01T00:00:00Z", "endDate": "2126-01-01T00:00:00Z", "autoRenew": true,
            }),
        )
        .await
        .expect(201);
    let made = &body["data"];
    let key = made["apiKey"].as_str().unwrap();
    assert_eq!(scene.calls("techcombank", key).await, 200);
    let mut shown = scene.ask(Method::GET, "/techcombank", None).await.expect(200);
    assert!(!shown.to_string().contains(key), "the key is shown once");
    assert_eq!(shown["data"]["partner"]["id"], made["partner"]["id"]);
    assert!(shown["data"]["keys"][0]["lastUsedAt"].is_string());
    let page = &mut shown["data"];
    assert_eq!(page["usageHistory"].as_array().unwrap().len(), 30);
    page["usageHistory"] = "…".into();
    for path in ["id", "createdAt", "lastApiCallAt"] {
        page["partner"][path] = "…".into();
    }
    (page["partner"]["subscription"]["daysRemaining"], page["partner"]["quota"]["resetsAt"]) =
        ("…".into(), "…".into());
    for field in ["id", "prefix", "createdAt", "lastUsedAt"] {
        page["keys"][0][field] = "…".into();
    }
    insta::assert_json_snapshot!("page", shown);

    let stored = sqlx::query_scalar!(
        r#"select coalesce(string_agg(to_jsonb(p)::text, ''), '') || (
               select coalesce(string_agg(to_jsonb(a)::text, ''), '') from audit_log a) as "all!"
           from partners p"#
    )
    .fetch_one(scene.db.pool())
    .await
    .unwrap();
    for secret in ["lan@example.com", "Nguyễn", "3944", key] {
        assert!(!stored.contains(secret), "{secret} lies in clear");
    }
}

// S0-109, S0-168, S0-109
#[tokio::test]
async fn every_wrong_field_of_a_new_partner_is_told_at_once_and_a_taken_code_names_its_holder() {
    let scene = Scene::new().await;
    let body = scene
        .post("", json!({
            "name": "", "code": "No_Code", "contactEmail": "nobody", "contactPhone": "call me", "rateLimit": 0,
            "tier": "gold", "endDate": "tomorrow", "extra": 1,
        }))
        .await
        .refusal(400, "VALIDATION_ERROR");
    let faults = body["error"]["details"].as_array().unwrap().iter();
    let mut fields: Vec<&str> = faults.map(|fault| fault["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["contactEmail", "endDate", "extra", "rateLimit", "tier"]);
    let body = scene
        .post(
            "",
            json!({
                "name": "", "code": "No_Code", "contactPhone": "call me", "endDate": "2020-01-01T00:00:00Z",
            }),
        )
        .await
        .refusal(400, "VALIDATION_ERROR");
    let faults = body["error"]["details"].as_array().unwrap().iter();
    let fields: Vec<&str> = faults.map(|fault| fault["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["code", "name", "contactPhone", "endDate"]);

    let new = json!({ "name": "Techcombank", "code": "techcombank" });
    scene.post("", new.clone()).await.expect(201);
    let taken = scene.post("", new).await.refusal(409, "CONFLICT");
    assert!(taken["error"]["message"].as_str().unwrap().contains("ptn_"), "{taken}");
}

// S0-099, S0-184..=S0-186, S0-304, S0-099, S0-107, S0-184, S0-185, S0-186, S0-304
#[tokio::test]
async fn partners_are_found_by_status_tier_and_name_in_any_order_and_as_a_safe_csv() {
    let scene = Scene::new().await;
    for (code, name, tier) in [
        ("techcombank", "Techcombank", SubscriptionTier::Premium),
        ("vinfast", "=Vinfast", SubscriptionTier::Free),
        ("ambassador", "Ambassador", SubscriptionTier::Enterprise),
    ] {
        TestPartner::create_with(&scene.db, NewPartner::of(code, name, tier)).await;
    }
    scene.patch("/vinfast", json!({ "isActive": false })).await.expect(200);
    scene.patch("/ambassador/subscription", json!({ "status": "suspended" })).await.expect(200);
    for (query, expected) in [
        ("", &["ambassador", "techcombank", "vinfast"][..]),
        ("?sort=-name", &["techcombank", "ambassador", "vinfast"]),
        ("?sort=quota.limit", &["ambassador", "vinfast", "techcombank"]),
        ("?status=inactive", &["vinfast"]),
        ("?status=active", &["techcombank"]),
        ("?status=suspended", &["ambassador"]),
        ("?tier=free", &["vinfast"]),
        ("?q=TECH", &["techcombank"]),
        ("?q=nobody", &[]),
        ("?limit=1&sort=code", &["ambassador"]),
    ] {
        assert_eq!(scene.names(query).await, expected, "{query}");
    }
    let csv = scene.ask(Method::GET, "?format=csv", None).await;
    assert_eq!(csv.status, 200);
    assert!(csv.text().contains(",'=Vinfast,"), "{}", csv.text());
    let body = scene.ask(Method::GET, "?status=gone&tier=gold", None).await.refusal(400, "VALIDATION_ERROR");
    assert_eq!(body["error"]["details"].as_array().unwrap().len(), 2);
}

// S0-101, S0-103, S0-104, S0-307, S0-101, S0-103, S0-104, S0-307
#[tokio::test]
async fn a_deactivated_partner_is_refused_until_it_is_activated_again() {
    let scene = Scene::new().await;
    let partner = TestPartner::create(&scene.db, "techcombank").await;
    assert_eq!(scene.calls("techcombank", &partner.key).await, 200);
    for (is_active, status) in [(false, 403), (true, 200)] {
        let path = format!("/{}", partner.id);
        let body =
            scene.patch(&path, json!({ "isActive": is_active, "rateLimit": 200_000 })).await.expect(200);
        assert_eq!(
            (&body["data"]["isActive"], &body["data"]["rateLimit"]),
            (&json!(is_active), &json!(200_000))
        );
        eventually("it is so everywhere", async || scene.calls("techcombank", &partner.key).await == status)
            .await;
    }
    scene.patch("/nobody", json!({ "isActive": false })).await.refusal(404, "NOT_FOUND");
    let wrong = scene.patch("/techcombank", json!({ "rateLimit": 0, "name": "", "isActive": "no" })).await;
    assert_eq!(wrong.refusal(400, "VALIDATION_ERROR")["error"]["details"].as_array().unwrap().len(), 2);
}

// S0-037, S0-038, S0-105, S0-308, S0-105, S0-308
#[tokio::test]
async fn keys_are_added_rotated_with_an_overlap_expire_and_are_revoked() {
    let scene = Scene::new().await;
    let partner = TestPartner::create(&scene.db, "techcombank").await;
    let soon = kernel::clock::now() + chrono::TimeDelta::seconds(2);
    let added =
        scene.post("/techcombank/keys", json!({ "name": "staging", "expiresAt": soon })).await.expect(201);
    let short = added["data"]["apiKey"].as_str().unwrap().to_owned();
    assert_eq!(scene.calls("techcombank", &short).await, 200);
    eventually("it expires", async || scene.calls("techcombank", &short).await == 401).await;
    assert_eq!(scene.calls("techcombank", &partner.key).await, 200);

    let rotated =
        scene.post("/techcombank/regenerate-key", json!({ "overlapSeconds": 3600 })).await.expect(200);
    let (new, id) = (&rotated["data"]["apiKey"], &rotated["data"]["id"]);
    assert_eq!(scene.calls("techcombank", new.as_str().unwrap()).await, 200);
    assert_eq!(scene.calls("techcombank", &partner.key).await, 200, "the old one works on for a while");
    scene.post("/techcombank/revoke-key", json!({ "keyId": id })).await.expect(200);
    eventually("it is revoked", async || scene.calls("techcombank", new.as_str().unwrap()).await == 401)
        .await;

    let cut = scene.post("/techcombank/regenerate-key", json!({})).await.expect(200);
    eventually("the old one ends", async || scene.calls("techcombank", &partner.key).await == 401).await;
    assert_eq!(scene.calls("techcombank", cut["data"]["apiKey"].as_str().unwrap()).await, 200);

    let past = json!({ "name": "", "expiresAt": "2020-01-01T00:00:00Z" });
    let faults = scene.post("/techcombank/keys", past).await.refusal(400, "VALIDATION_ERROR");
    assert_eq!(faults["error"]["details"].as_array().unwrap().len(), 2);
    scene
        .post("/techcombank/regenerate-key", json!({ "overlapSeconds": 86_401 }))
        .await
        .refusal(400, "VALIDATION_ERROR");
    let other = TestPartner::create(&scene.db, "vinfast").await;
    let foreign = json!({ "keyId": other.key_id(&scene.db).await });
    scene.post("/techcombank/revoke-key", foreign).await.refusal(404, "NOT_FOUND");
    assert_eq!(scene.calls("vinfast", &other.key).await, 200);
}

// S0-102, S0-118..=S0-120, S0-309, S0-102, S0-118, S0-119, S0-120, S0-309
#[tokio::test]
async fn a_subscription_changes_its_tier_period_and_quota_by_hand_with_a_reason() {
    let scene = Scene::new().await;
    let partner = TestPartner::create_with(
        &scene.db,
        NewPartner {
            rate_limit_per_minute: 100_000,
            ..NewPartner::of("techcombank", "Techcombank", SubscriptionTier::Free)
        },
    )
    .await;
    let changed =
        async |body: Value| scene.patch("/techcombank/subscription", body).await.expect(200)["data"].clone();
    let body =
        changed(json!({ "tier": "basic", "endDate": "2126-01-01T00:00:00Z", "autoRenew": true })).await;
    assert_eq!((&body["subscription"]["tier"], &body["quota"]["limit"]), (&json!("basic"), &json!(50)));
    assert_eq!(body["subscription"]["endDate"], "2126-01-01T00:00:00.000Z");

    let deal = json!({ "monthlyQuota": 75, "usedThisMonth": 70, "reason": "a deal" });
    let body = changed(deal).await;
    assert_eq!((&body["quota"]["used"], &body["quota"]["remaining"]), (&json!(70), &json!(5)));
    let own =
        Answer::to(scene.api.request_as(&partner, Method::GET, "/api/v1/partners/quota")).await.expect(200);
    assert_eq!(own["quota"]["used"], 70);
    let body = changed(json!({ "autoRenew": false, "endDate": null })).await;
    assert_eq!((&body["quota"]["limit"], &body["subscription"]["endDate"]), (&json!(75), &Value::Null));
    let body = changed(json!({ "tier": "premium" })).await;
    assert_eq!(
        (&body["quota"]["limit"], &body["quota"]["used"]),
        (&json!(200), &json!(70)),
        "a new tier, its quota"
    );

    changed(json!({ "status": "suspended" })).await;
    eventually("it is suspended", async || scene.calls("techcombank", &partner.key).await == 403).await;
    changed(json!({ "status": "active" })).await;
    eventually("it is in force", async || scene.calls("techcombank", &partner.key).await == 200).await;

    // One that has expired comes back with another end.
    sqlx::query!("update partner_subscriptions set status = 'expired'")
        .execute(scene.db.pool())
        .await
        .unwrap();
    let body = changed(json!({ "autoRenew": true })).await;
    assert_eq!(body["subscription"]["status"], "expired");
    let body = changed(json!({ "endDate": "2126-01-01T00:00:00Z" })).await;
    assert_eq!(body["subscription"]["status"], "active");

    for (body, field) in [
        (json!({ "monthlyQuota": 10 }), "reason"),
        (json!({ "usedThisMonth": 1 }), "reason"),
        (json!({ "endDate": "2020-01-01T00:00:00Z" }), "endDate"),
        (json!({ "status": "expired" }), "status"),
        (json!({ "tier": null }), "tier"),
    ] {
        let refused = scene.patch("/techcombank/subscription", body).await.refusal(400, "VALIDATION_ERROR");
        assert_eq!(refused["error"]["details"][0]["field"], field);
    }
}
