//! What partners are told by mail and by event: a welcome, what was changed, lines of their quota, messages.

use identity::Role;
use jobs::email::SendEmail;
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::creators::{crawl, creators};
use crate::support::{MailStage, TestPerson};

const PARTNERS: &str = "/api/v1/admin/partners";
const LAN: &str = "lan@example.com";

struct Scene {
    stage: MailStage,
    admin: TestPerson,
}

impl Scene {
    async fn new() -> Self {
        let stage = MailStage::set().await;
        let admin = TestPerson::create(&stage.kit.db, Role::Admin).await;
        Self { stage, admin }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let path = format!("{PARTNERS}{path}");
        Answer::to(self.admin.sign(self.stage.api.request(method, &path)).json(&body)).await
    }

    async fn create(&self, body: Value) -> Value {
        self.ask(Method::POST, "", body).await.expect(201)["data"].clone()
    }

    async fn reveal(&self, code: &str) -> Answer {
        let request = self.stage.api.request(Method::POST, "/api/v1/welcome/key");
        Answer::to(request.json(&json!({ "code": code }))).await
    }

    async fn mail(&self) -> Vec<(String, String)> {
        self.stage.mail(LAN).await
    }
}

fn techcombank() -> Value {
    json!({ "name": "Techcombank", "code": "techcombank", "contactEmail": LAN })
}

fn code_in(text: &str) -> String {
    let (_, code) = text.split_once("/welcome#").unwrap_or_else(|| panic!("no link in {text}"));
    code.split_whitespace().next().unwrap().to_owned()
}

// S0-100, S0-182
#[tokio::test]
async fn a_new_partner_is_welcomed_by_a_mail_whose_link_shows_its_key_once_and_never_holds_it() {
    let scene = Scene::new().await;
    let made = scene.create(techcombank()).await;
    assert_eq!(made["isWelcomed"], true);
    let mail = scene.mail().await;
    let (subject, text) = &mail[0];
    let key = made["apiKey"].as_str().unwrap();
    assert!(subject == "Welcome to Millpond" && text.contains("techcombank") && text.contains("/api-docs/"));
    assert!(!text.contains(key), "keys do not lie in mailboxes");
    let code = code_in(text);
    for wrong in ["", "mpo_", &format!("{code}x"), &"é".repeat(10_000)] {
        assert_eq!(scene.reveal(wrong).await.faults()[0].0, "code");
    }
    let shown = scene.reveal(&code).await;
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let shown = &shown.expect(200)["data"];
    assert_eq!(shown, &json!({ "partnerId": "techcombank", "apiKey": key }));
    assert_eq!(scene.reveal(&code).await.faults()[0].0, "code");
    let page = Answer::to(scene.stage.api.request(Method::GET, "/welcome")).await;
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));

    // Without an address the admin is told that nobody was.
    let silent = scene.create(json!({ "name": "Vinfast", "code": "vinfast" })).await;
    assert_eq!(silent["isWelcomed"], false);
    let stored = sqlx::query_scalar!("select count(*) from partner_key_reveals");
    assert_eq!(stored.fetch_one(scene.stage.kit.db.pool()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_welcome_links_to_no_key_that_was_revoked_or_waited_for_more_than_seven_days() {
    let scene = Scene::new().await;
    let mut codes = Vec::new();
    for code in ["revoked", "late"] {
        scene.create(json!({ "name": code, "code": code, "contactEmail": LAN })).await;
        codes.push(code_in(&scene.mail().await[0].1));
    }
    scene.ask(Method::POST, "/revoked/regenerate-key", json!({})).await.expect(200);
    assert_eq!(scene.reveal(&codes[0]).await.faults()[0].0, "code");
    scene.stage.kit.clock.advance(jobs::partners::CODE_LIFE).await;
    assert_eq!(scene.reveal(&codes[1]).await.faults()[0].0, "code");
}

// S0-102, S0-118, S0-119, S0-120, S0-122, S0-211, S0-212
#[tokio::test]
async fn a_partner_is_told_of_changes_that_it_can_see_and_they_are_kept_with_their_reasons() {
    let scene = Scene::new().await;
    scene.create(techcombank()).await;
    scene.mail().await;
    let path = "/techcombank/subscription";
    let change = json!({
        "tier": "premium", "endDate": "2126-01-01T00:00:00Z", "monthlyQuota": 75, "usedThisMonth": 5,
        "reason": "a deal with Lan",
    });
    scene.ask(Method::PATCH, path, change).await.expect(200);
    let mail = scene.mail().await;
    assert_eq!(mail.len(), 1, "{mail:?}");
    let expected =
        "premium, until 2126-01-01 00:00 UTC, with 75 influencers a month, 5 of them used. It is active.";
    assert!(mail[0].1.contains(expected), "{}", mail[0].1);
    // Nothing that it could see.
    scene.ask(Method::PATCH, path, json!({ "tier": "premium" })).await.expect(200);
    assert!(scene.mail().await.is_empty());
    scene.ask(Method::PATCH, path, json!({ "status": "suspended" })).await.expect(200);
    assert!(scene.mail().await[0].1.contains("It is suspended."));

    let events = scene.stage.events().await;
    let types: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(types, ["subscription.updated", "subscription.updated"]);
    assert_eq!((&events[0].1["monthlyQuota"], &events[0].1["usedThisMonth"]), (&json!(75), &json!(5)));

    let read = async |query: &str| {
        let path = format!("{PARTNERS}/techcombank/subscription/history{query}");
        Answer::to(scene.admin.sign(scene.stage.api.request(Method::GET, &path))).await
    };
    let history = read("").await.expect(200);
    let told: Vec<(&str, &Value)> = history["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["action"].as_str().unwrap(), &one["reason"]))
        .collect();
    let deal = &json!("a deal with Lan");
    assert_eq!(
        told,
        [
            ("partners.change_subscription", &Value::Null),
            ("partners.change_subscription", &Value::Null),
            ("partners.set_quota_used", deal),
            ("partners.change_subscription", deal),
        ]
    );
    let first = &history["data"][3];
    assert_eq!((&first["before"]["tier"], &first["after"]["tier"]), (&json!("free"), &json!("premium")));
    let page = read("?limit=3").await.expect(200);
    let cursor = page["pagination"]["nextCursor"].as_str().unwrap();
    let rest = read(&format!("?limit=3&cursor={cursor}")).await.expect(200);
    assert_eq!(rest["data"], json!([first]));
    assert_eq!(read("?sort=by").await.faults()[0].0, "sort");
    let log: Option<String> = sqlx::query_scalar("select string_agg(to_jsonb(a)::text, '') from audit_log a")
        .fetch_one(scene.stage.kit.db.pool())
        .await
        .unwrap();
    assert!(!log.unwrap().contains("Lan"), "the log cannot be erased, so it names nobody");
}

// S0-073, S0-074
#[tokio::test]
async fn lines_of_the_quota_are_told_once_a_month_and_again_when_a_raised_limit_is_reached() {
    let scene = Scene::new().await;
    let made = scene.create(techcombank()).await;
    scene.mail().await;
    let ids = creators(&scene.stage.kit.db, (0..12).map(|number| crawl(&format!("creator{number}")))).await;
    let request = async |ids: &[kernel::ids::InfluencerId]| {
        let request = scene.stage.api.request(Method::POST, "/api/v1/partners/pool/request");
        let request = request.header("X-Partner-ID", "techcombank");
        let request = request.header("X-API-Key", made["apiKey"].as_str().unwrap());
        Answer::to(request.json(&json!({ "influencerIds": ids }))).await.expect(200)
    };
    let subjects = async || scene.mail().await.into_iter().map(|(subject, _)| subject).collect::<Vec<_>>();
    request(&ids[..7]).await;
    assert!(subjects().await.is_empty());
    request(&ids[7..10]).await;
    let both = ["10 of 10 influencers are used", "All 10 influencers are used"];
    let mut told = subjects().await;
    told.sort();
    assert_eq!(told, both);
    let raise = json!({ "monthlyQuota": 12, "reason": "a deal" });
    scene.ask(Method::PATCH, "/techcombank/subscription", raise).await.expect(200);
    subjects().await;
    // 80% of 12 were reached before, so only the other line is crossed anew.
    request(&ids[10..]).await;
    assert_eq!(subjects().await, ["All 12 influencers are used"]);
    let types: Vec<String> = scene.stage.events().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(types, ["quota.warning", "quota.exhausted", "subscription.updated", "quota.exhausted"]);
}

// S0-121
#[tokio::test]
async fn an_admin_writes_to_a_partner() {
    let scene = Scene::new().await;
    scene.create(techcombank()).await;
    scene.create(json!({ "name": "Vinfast", "code": "vinfast" })).await;
    scene.mail().await;
    let text = json!({ "subject": " Bảo trì ", "message": "Chủ nhật\ntừ 01:00" });
    let told = scene.ask(Method::POST, "/techcombank/notifications", text.clone()).await.expect(202);
    assert_eq!(told["data"]["isMailed"], true);
    let mail = scene.mail().await;
    assert_eq!((mail[0].0.as_str(), mail[0].1.trim_end()), ("Bảo trì", "Chủ nhật\r\ntừ 01:00"));
    let told = scene.ask(Method::POST, "/vinfast/notifications", text).await.expect(202);
    assert_eq!(told["data"]["isMailed"], false);
    assert_eq!(scene.stage.events().await[1].0, "partner.message");
    let wrong = json!({ "subject": "two\nlines", "message": "" });
    let faults = scene.ask(Method::POST, "/vinfast/notifications", wrong).await.faults();
    assert_eq!(faults.iter().map(|fault| fault.0.as_str()).collect::<Vec<_>>(), ["subject", "message"]);
    scene.stage.kit.assert_not_enqueued::<SendEmail>().await;
}
