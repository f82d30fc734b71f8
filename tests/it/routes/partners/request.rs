//! `POST /api/v1/partners/pool/request`, and the quota and subscription it is decided by: S0's FR-003 to FR-005.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use kernel::ids::InfluencerId;
use partners::{NewPartner, SubscriptionTier};
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::Answer;
use crate::support::creators::{crawl, creators, set};
use crate::support::{TestApi, TestDb, TestPartner};

const REQUEST: &str = "/api/v1/partners/pool/request";
const QUOTA: &str = "/api/v1/partners/quota";
const SUBSCRIPTION: &str = "/api/v1/partners/subscription";

struct Scene {
    db: TestDb,
    api: TestApi,
    partner: TestPartner,
    ids: Vec<InfluencerId>,
}

impl Scene {
    async fn of(tier: SubscriptionTier, how_many: usize) -> Self {
        let db = TestDb::new().await;
        let ids = creators(&db, (0..how_many).map(|number| crawl(&format!("creator{number}")))).await;
        let api = TestApi::start(&db).await;
        let new = NewPartner { rate_limit_per_minute: 100_000, ..NewPartner::of("techcombank", "T", tier) };
        let partner = TestPartner::create_with(&db, new).await;
        Self { db, api, partner, ids }
    }

    async fn request(&self, ids: &[InfluencerId]) -> Answer {
        self.ask(&json!({ "influencerIds": ids, "reason": "Campaign Tết 2026" })).await
    }

    async fn ask(&self, body: &Value) -> Answer {
        Answer::to(self.api.request_as(&self.partner, Method::POST, REQUEST).json(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        Answer::to(self.api.request_as(&self.partner, Method::GET, path)).await.expect(200)
    }

    async fn used(&self) -> u64 {
        self.get(QUOTA).await["quota"]["used"].as_u64().unwrap()
    }

    async fn events(&self) -> Vec<(String, Value)> {
        let rows = sqlx::query!("select event_type, data from webhook_events order by id")
            .fetch_all(self.db.pool())
            .await
            .unwrap();
        rows.into_iter().map(|row| (row.event_type, row.data)).collect()
    }

    /// Sets the calendar of this database ahead; sessions that are open keep theirs.
    async fn set_calendar(&self, ahead: &str) {
        let name = self.db.options().get_database().unwrap().to_owned();
        let statement = format!("alter database {name} set millpond.calendar_offset = '{ahead}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(self.db.pool()).await.unwrap();
    }
}

fn steady(mut body: Value) -> Value {
    for path in
        ["/poolRequestId", "/quota/resetsAt", "/requestId", "/approved/0/id", "/subscription/startDate"]
    {
        if let Some(value) = body.pointer_mut(path) {
            *value = "…".into();
        }
    }
    body
}

// S0-023, S0-053, S0-054, S0-055, S0-061, S0-071, S0-287, S0-288, S0-290, S0-291
#[tokio::test]
async fn what_is_approved_comes_with_all_there_is_and_is_charged_at_once() {
    let scene = Scene::of(SubscriptionTier::Basic, 2).await;
    let body = scene.request(&scene.ids[..1]).await.expect(200);
    assert_eq!(body["approved"][0]["id"], scene.ids[0].to_string());
    insta::assert_json_snapshot!("approved", steady(body));
    assert_eq!(scene.used().await, 1);
}

// S0-060, S0-072, S0-359
#[tokio::test]
async fn the_same_influencer_is_free_for_the_rest_of_the_month_and_named_twice_counts_once() {
    let scene = Scene::of(SubscriptionTier::Basic, 2).await;
    let twice = [scene.ids[0], scene.ids[0]];
    let body = scene.request(&twice).await.expect(200);
    assert_eq!((body["approved"].as_array().unwrap().len(), &body["quota"]["used"]), (1, &json!(1)));
    let body = scene.request(&scene.ids).await.expect(200);
    assert_eq!((body["approved"].as_array().unwrap().len(), &body["quota"]["used"]), (2, &json!(2)));
    let history = scene.get(QUOTA).await["usageHistory"].clone();
    assert_eq!((history.as_array().unwrap().len(), &history[0]["count"]), (30, &json!(2)));
}

// S0-057, S0-058, S0-060, S0-062, S0-064, S0-223, S0-224, S0-348
#[tokio::test]
async fn who_cannot_be_had_is_denied_by_name_and_costs_nothing() {
    let scene = Scene::of(SubscriptionTier::Free, 3).await;
    set(&scene.db, scene.ids[1], "visibility", Some("PRIVATE")).await;
    set(&scene.db, scene.ids[2], "deleted_at", Some("2026-01-01")).await;
    let unknown = InfluencerId::new();
    let asked = [scene.ids[0], scene.ids[1], scene.ids[2], unknown];
    let body = scene.request(&asked).await.expect(200);
    assert_eq!(body["success"], true);
    assert_eq!(body["denied"], json!(&asked[1..]));
    for reason in body["deniedReasons"].as_array().unwrap() {
        assert_eq!((&reason["code"], reason["message"].as_str().unwrap().len()), (&json!("NOT_FOUND"), 39));
    }
    assert_eq!(scene.used().await, 1);
    let kept = sqlx::query!(
        r#"
        select reason, status, approved_count, denied_count,
               array(
                   select i.outcome from influencer_request_items i
                   where i.tenant_id = r.tenant_id and i.request_id = r.id order by i.position
               ) as "outcomes!"
        from influencer_requests r
        "#,
    );
    let kept = kept.fetch_one(scene.db.pool()).await.unwrap();
    assert_eq!(kept.reason.as_deref(), Some("Campaign Tết 2026"));
    assert_eq!((kept.status.as_str(), kept.approved_count, kept.denied_count), ("partial", 1, 3));
    assert_eq!(kept.outcomes, ["approved", "not_found", "not_found", "not_found"]);

    let body = scene.request(&asked[1..]).await.expect(404);
    assert_eq!((&body["error"]["code"], &body["approved"]), (&json!("NOT_FOUND"), &json!([])));
    assert_eq!(scene.used().await, 1);
}

// S0-056, S0-061, S0-063, S0-225, S0-229, S0-289, S0-346
#[tokio::test]
async fn approval_goes_in_the_order_asked_until_the_quota_is_used_up_and_then_says_why() {
    let scene = Scene::of(SubscriptionTier::Free, 14).await;
    let body = scene.request(&scene.ids[..12]).await.expect(200);
    let approved: Vec<&Value> = body["approved"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(json!(approved), json!(&scene.ids[..10]));
    assert_eq!(body["denied"], json!(&scene.ids[10..12]));
    assert_eq!(body["deniedReasons"][0]["code"], "QUOTA_EXCEEDED");
    assert_eq!((&body["quota"]["used"], &body["quota"]["remaining"]), (&json!(10), &json!(0)));

    let refused = scene.request(&scene.ids[12..]).await.expect(403);
    assert_eq!(refused["denied"], json!(&scene.ids[12..]));
    let message = refused["error"]["message"].as_str().unwrap().to_owned();
    let resets = refused["quota"]["resetsAt"].as_str().unwrap();
    assert!(message.starts_with("Monthly quota exceeded. Used: 10/10. Resets at 20"), "{message}");
    assert!(resets.ends_with("T17:00:00Z"), "{resets}");
    let mut refused = steady(refused);
    (refused["denied"], refused["deniedReasons"]) = (json!([]), json!([]));
    refused["error"]["message"] = message.split("Resets").next().unwrap().into();
    insta::assert_json_snapshot!("over_quota", refused);

    // Whoever was approved before is still free.
    scene.request(&scene.ids[..1]).await.expect(200);
    let statuses = sqlx::query_scalar!("select status from influencer_requests order by id")
        .fetch_all(scene.db.pool())
        .await
        .unwrap();
    assert_eq!(statuses, ["partial", "denied", "approved"]);
}

/// Tasks that ask at the same time.
const ASKERS: usize = 16;
/// At least so long before the month turns they begin.
const BEFORE_THE_TURN: TimeDelta = TimeDelta::milliseconds(800);

/// Two APIs on a calendar on which the month turns soon, but not too soon.
async fn shortly_before(scene: &Scene, turn: DateTime<Utc>) -> [TestApi; 2] {
    for seconds in [1, 2, 4, 8, 16] {
        let ahead = turn - kernel::clock::now() - BEFORE_THE_TURN - TimeDelta::milliseconds(200 * seconds);
        scene.set_calendar(&format!("{} milliseconds", ahead.num_milliseconds())).await;
        let apis = [TestApi::start(&scene.db).await, TestApi::start(&scene.db).await];
        if turn - (kernel::clock::now() + ahead) >= BEFORE_THE_TURN {
            return apis;
        }
    }
    panic!("two APIs do not start within three seconds")
}

// S0-021, S0-053, S0-054, S0-057, S0-070, S0-073, S0-074, S0-337, S0-359
#[tokio::test]
async fn however_many_ask_while_a_month_turns_each_month_approves_exactly_its_quota_and_tells_each_line_once()
{
    let scene = Scene::of(SubscriptionTier::Basic, 200).await;
    let turn = scene.get(QUOTA).await["quota"]["resetsAt"].as_str().unwrap().parse().unwrap();
    let apis = shortly_before(&scene, turn).await;
    let ask_on = async |asker: usize| {
        // Each asks until the new month has answered it three times.
        let mut answered_by_new = 0;
        for number in 0.. {
            let first = asker * 12 + number * 7;
            let ids: Vec<InfluencerId> = (0..20).map(|index| scene.ids[(first + index) % 200]).collect();
            let answer = scene_request(&apis[asker % 2], &scene, &ids).await;
            let body = answer.json();
            assert!(matches!(answer.status, 200 | 403), "{body}");
            let (approved, denied) =
                (body["approved"].as_array().unwrap(), body["denied"].as_array().unwrap());
            assert_eq!(approved.len() + denied.len(), 20);
            let resets_at: DateTime<Utc> = body["quota"]["resetsAt"].as_str().unwrap().parse().unwrap();
            answered_by_new += usize::from(resets_at > turn);
            if answered_by_new == 3 {
                return;
            }
        }
    };
    join_all((0..ASKERS).map(ask_on)).await;

    let months = sqlx::query!(
        r#"
        select m.month, m.charged, m.warned_at is not null as "is_warned!", m.exhausted_at is not null as "is_exhausted!",
               (select count(*) from influencer_request_items i where i.month = m.month and i.is_charged) as "items!",
               (select count(distinct i.influencer_id) from influencer_request_items i
                where i.month = m.month and i.outcome = 'approved') as "approved!"
        from partner_quota_months m order by m.month
        "#
    )
    .fetch_all(scene.db.pool())
    .await
    .unwrap();
    assert_eq!(months.len(), 2);
    for month in months {
        assert_eq!((month.charged, month.items, month.approved), (50, 50, 50), "{}", month.month);
        assert!(month.is_warned && month.is_exhausted);
    }
    let mut events: Vec<(String, Value)> =
        scene.events().await.into_iter().map(|(name, data)| (name, data["month"].clone())).collect();
    assert_eq!(events.len(), 4, "{events:?}");
    events.dedup();
    assert_eq!(events.len(), 4, "{events:?}");
}

// S0-070, S0-213, S0-337
#[tokio::test]
async fn a_new_month_begins_with_a_full_quota_at_midnight_of_its_time_zone() {
    let scene = Scene::of(SubscriptionTier::Free, 11).await;
    scene.request(&scene.ids[..10]).await.expect(200);
    scene.request(&scene.ids[10..]).await.expect(403);
    let resets_at = scene.get(QUOTA).await["quota"]["resetsAt"].as_str().unwrap().to_owned();
    // A second before the turn, and after it.
    let offset = |seconds: i64| {
        let turn: DateTime<Utc> = resets_at.parse().unwrap();
        format!("{} seconds", (turn - kernel::clock::now()).num_seconds() + seconds)
    };
    scene.set_calendar(&offset(-30)).await;
    let old = TestApi::start(&scene.db).await;
    let asked = |api| scene_request(api, &scene, &scene.ids[10..]);
    asked(&old).await.expect(403);
    scene.set_calendar(&offset(5)).await;
    let new = TestApi::start(&scene.db).await;
    let body = asked(&new).await.expect(200);
    assert_eq!((&body["quota"]["used"], &body["quota"]["remaining"]), (&json!(1), &json!(9)));
    // What the old month approved costs again in the new one.
    let body = scene_request(&new, &scene, &scene.ids[..1]).await.expect(200);
    assert_eq!(body["quota"]["used"], 2);
    assert_eq!(scene.events().await.len(), 2, "the old month's lines, once each");
}

async fn scene_request(api: &TestApi, scene: &Scene, ids: &[InfluencerId]) -> Answer {
    let body = json!({ "influencerIds": ids });
    Answer::to(api.request_as(&scene.partner, Method::POST, REQUEST).json(&body)).await
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_and_charges_nothing() {
    let scene = Scene::of(SubscriptionTier::Free, 12).await;
    let ask = async |ids: &[InfluencerId]| {
        let request = scene.api.request_as(&scene.partner, Method::POST, REQUEST);
        Answer::to(request.header("Idempotency-Key", "order-1").json(&json!({ "influencerIds": ids }))).await
    };
    let first = ask(&scene.ids).await;
    let again = ask(&scene.ids).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.expect(200), again.expect(200));
    assert_eq!(scene.used().await, 10);
    ask(&scene.ids[..2]).await.refusal(422, "IDEMPOTENCY_KEY_REUSED");
}

// S0-059, S0-168, S0-290, S0-291, S0-349
#[tokio::test]
async fn every_fault_of_a_body_is_told_and_nothing_is_charged() {
    let scene = Scene::of(SubscriptionTier::Free, 21).await;
    let job = kernel::ids::JobId::new();
    for (body, fields) in [
        (json!({}), vec!["influencerIds"]),
        (json!({"influencerIds": [], "reason": ""}), vec!["influencerIds", "reason"]),
        (json!({"influencerIds": scene.ids}), vec!["influencerIds"]),
        (json!({"influencerIds": [scene.ids[0], job]}), vec!["influencerIds"]),
        (
            json!({"influencerIds": scene.ids[0], "reason": 1, "why": "x"}),
            vec!["influencerIds", "reason", "why"],
        ),
        (json!({"influencerIds": [scene.ids[0]], "reason": "x".repeat(501)}), vec!["reason"]),
    ] {
        let refused = scene.ask(&body).await.refusal(400, "VALIDATION_ERROR");
        let faults = refused["error"]["details"].as_array().unwrap().iter();
        assert_eq!(faults.map(|fault| fault["field"].as_str().unwrap()).collect::<Vec<_>>(), fields);
    }
    assert_eq!(scene.used().await, 0);
}

// S0-065..=S0-069, S0-072, S0-187, S0-211, S0-212, S0-219, S0-274, S0-292, S0-293
#[tokio::test]
async fn the_quota_of_each_tier_is_told_as_it_is() {
    for (tier, limit) in [
        (SubscriptionTier::Free, json!(10)),
        (SubscriptionTier::Basic, json!(50)),
        (SubscriptionTier::Premium, json!(200)),
        (SubscriptionTier::Enterprise, Value::Null),
    ] {
        let scene = Scene::of(tier, 0).await;
        let body = scene.get(QUOTA).await;
        assert_eq!((&body["partnerId"], &body["tier"]), (&json!("techcombank"), &json!(tier.as_str())));
        assert_eq!((&body["quota"]["limit"], &body["quota"]["remaining"]), (&limit, &limit));
        assert!(body.get("success").is_none(), "as S0's sample");
        let subscription = scene.get(SUBSCRIPTION).await;
        assert_eq!(subscription["features"]["batchRefresh"], tier != SubscriptionTier::Free);
    }
}

// S0-075, S0-076, S0-077, S0-078, S0-294, S0-295
#[tokio::test]
async fn a_subscription_is_told_with_its_features_and_what_there_is_to_know() {
    let scene = Scene::of(SubscriptionTier::Premium, 0).await;
    insta::assert_json_snapshot!("subscription", steady(scene.get(SUBSCRIPTION).await));
    let ends_in = async |interval: &str, auto_renew: bool| {
        sqlx::query(
            "update partner_subscriptions
             set start_date = now() - interval '1 year', end_date = now() + $1::text::interval, auto_renew = $2",
        )
        .bind(interval)
        .bind(auto_renew)
        .execute(scene.db.pool())
        .await
        .unwrap();
        let body = scene.get(SUBSCRIPTION).await;
        let alerts = body["alerts"].as_array().unwrap().iter();
        let codes: Vec<String> = alerts.map(|alert| alert["code"].as_str().unwrap().to_owned()).collect();
        let told = &body["subscription"];
        (told["status"].as_str().unwrap().to_owned(), told["daysRemaining"].as_u64(), codes)
    };
    let expected = |status: &str, days, codes: &[&str]| {
        (status.to_owned(), days, codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(ends_in("30 days", false).await, expected("active", Some(30), &[]));
    assert_eq!(
        ends_in("6 days 12 hours", false).await,
        expected("active", Some(7), &["SUBSCRIPTION_EXPIRING"])
    );
    let grace = expected("grace_period", Some(0), &["SUBSCRIPTION_GRACE_PERIOD"]);
    assert_eq!(ends_in("-1 hour", false).await, grace);
    assert_eq!(ends_in("-1 hour", true).await, expected("active", Some(0), &[]));
    assert_eq!(ends_in("-7 days 1 hour", false).await.0, "grace_period");
    assert_eq!(ends_in("-7 days -1 hour", false).await, expected("expired", Some(0), &[]));
}

// S0-075
#[tokio::test]
async fn alerts_tell_of_the_quota_from_eighty_percent_on() {
    let scene = Scene::of(SubscriptionTier::Free, 10).await;
    let codes = async || {
        let body = scene.get(SUBSCRIPTION).await;
        body["alerts"].as_array().unwrap().iter().map(|alert| alert["code"].to_string()).collect::<String>()
    };
    scene.request(&scene.ids[..7]).await.expect(200);
    assert_eq!(codes().await, "");
    scene.request(&scene.ids[7..8]).await.expect(200);
    assert_eq!(codes().await, "\"QUOTA_WARNING\"");
    scene.request(&scene.ids[8..]).await.expect(200);
    assert_eq!(codes().await, "\"QUOTA_EXHAUSTED\"");
}
