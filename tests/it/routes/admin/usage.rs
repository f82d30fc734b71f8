//! What admins see of subscriptions and of what partners made of the pool.

use identity::Role;
use partners::{NewPartner, SubscriptionTier};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::creators::{crawl, creators};
use crate::support::{TestApi, TestDb, TestPartner, TestPerson};

struct Scene {
    db: TestDb,
    api: TestApi,
    viewer: TestPerson,
}

impl Scene {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let api = TestApi::start(&db).await;
        let viewer = TestPerson::create(&db, Role::Viewer).await;
        Self { db, api, viewer }
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::to(self.viewer.sign(self.api.request(Method::GET, &format!("/api/v1/admin{path}")))).await
    }
}

fn column<'a>(body: &'a Value, name: &str) -> Vec<&'a Value> {
    body["data"].as_array().unwrap().iter().map(|row| &row[name]).collect()
}

// S0-117
#[tokio::test]
async fn all_subscriptions_are_listed_by_status_tier_and_end() {
    let scene = Scene::new().await;
    let ends = |days: i64| Some(kernel::clock::now() + chrono::TimeDelta::days(days));
    for (code, tier, ends_at) in [
        ("ambassador", SubscriptionTier::Enterprise, None),
        ("techcombank", SubscriptionTier::Premium, ends(20)),
        ("vinfast", SubscriptionTier::Basic, ends(300)),
    ] {
        let new = NewPartner { ends_at, ..NewPartner::of(code, code, tier) };
        TestPartner::create_with(&scene.db, new).await;
    }
    for (query, expected) in [
        ("", &["ambassador", "techcombank", "vinfast"][..]),
        ("?sort=-daysRemaining", &["vinfast", "techcombank", "ambassador"]),
        ("?tier=BASIC", &["vinfast"]),
        ("?status=active&endsWithinDays=30", &["techcombank"]),
        ("?status=suspended", &[]),
        ("?limit=1&sort=-tier", &["techcombank"]),
    ] {
        let body = scene.get(&format!("/subscriptions{query}")).await.expect(200);
        assert_eq!(column(&body, "partnerId"), expected, "{query}");
    }
    let csv = scene.get("/subscriptions?format=csv").await;
    assert!(csv.text().starts_with("partnerId,partnerName,tier,status,"), "{}", csv.text());
    let faults = scene.get("/subscriptions?status=gone&endsWithinDays=-1&tier=gold").await.faults();
    assert_eq!(faults.len(), 3);
}

// S0-106, S0-111, S0-221, S0-222, S0-223, S0-224, S0-225, S0-226, S0-227, S0-228
#[tokio::test]
async fn a_partners_requests_and_usage_are_seen_by_day_and_by_month() {
    let scene = Scene::new().await;
    let ids = creators(&scene.db, (0..12).map(|number| crawl(&format!("creator{number}")))).await;
    let new = NewPartner::of("techcombank", "Techcombank", SubscriptionTier::Free);
    let partner = TestPartner::create_with(&scene.db, new).await;
    let other = TestPartner::create(&scene.db, "vinfast").await;
    let request = async |partner: &TestPartner, ids: &[kernel::ids::InfluencerId]| {
        let request = scene.api.request_as(partner, Method::POST, "/api/v1/partners/pool/request");
        Answer::to(request.json(&json!({ "influencerIds": ids, "reason": "=Tết" }))).await
    };
    request(&partner, &ids[..8]).await.expect(200);
    request(&partner, &ids[7..11]).await.expect(200);
    request(&partner, &ids[11..]).await.expect(403);
    request(&other, &ids[..1]).await.expect(200);

    let usage = scene.get("/partners/techcombank/usage?days=2").await.expect(200);
    let counts = json!({ "requests": 3, "approved": 11, "denied": 2, "charged": 10 });
    assert_eq!(usage["data"]["totals"], counts);
    let days = usage["data"]["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["charged"], &days[1]["requests"]), (2, &json!(10), &json!(0)));
    let month = &usage["data"]["months"][0];
    assert_eq!((&month["charged"], &month["adjusted"]), (&json!(10), &json!(0)));
    assert!(month["warnedAt"].is_string() && month["exhaustedAt"].is_string());
    assert_eq!(scene.get("/partners/techcombank/usage?days=0").await.faults()[0].0, "days");

    let path = "/partners/techcombank/requests";
    let body = scene.get(path).await.expect(200);
    assert_eq!(column(&body, "status"), ["denied", "partial", "approved"]);
    let partial = &body["data"][1];
    assert_eq!(
        (&partial["approvedCount"], &partial["deniedCount"], &partial["chargedCount"]),
        (&json!(3), &json!(1), &json!(2))
    );
    let outcomes: Vec<(&Value, &Value)> = partial["influencers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["outcome"], &one["isCharged"]))
        .collect();
    let (yes, no) = (json!(true), json!(false));
    let (approved, over) = (json!("approved"), json!("quota_exceeded"));
    assert_eq!(outcomes, [(&approved, &no), (&approved, &yes), (&approved, &yes), (&over, &no)]);
    for (query, expected) in [
        ("?status=denied".to_owned(), vec!["denied"]),
        (format!("?influencerId={}", ids[7]), vec!["partial", "approved"]),
        ("?before=2020-01-01T00:00:00Z".to_owned(), vec![]),
        ("?from=2020-01-01T00:00:00Z&limit=2".to_owned(), vec!["denied", "partial"]),
    ] {
        assert_eq!(column(&scene.get(&format!("{path}{query}")).await.expect(200), "status"), expected);
    }
    let first = scene.get(&format!("{path}?limit=2")).await.expect(200);
    let cursor = first["pagination"]["nextCursor"].as_str().unwrap();
    let rest = scene.get(&format!("{path}?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(column(&rest, "status"), ["approved"]);
    assert!(scene.get(&format!("{path}?format=csv")).await.text().contains(",'=Tết,"));
    scene.get("/partners/nobody/requests").await.refusal(404, "NOT_FOUND");
}
