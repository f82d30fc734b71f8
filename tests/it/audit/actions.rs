//! Every action leaves its entry, in its own transaction.

use std::time::Duration;

use jobs::ops::{BulkRequest, start_bulk};
use jobs::partners::SubscriptionOrder;
use jobs::profiles::{NewEnrich, request_enrich};
use jobs::tenants::ShareChange;
use kernel::ids::JobId;
use kernel::profile_url::ProfileUrl;
use partners::rotation::KeyTerms;
use partners::{NewPartner, PartnerChange, SubscriptionChange, SubscriptionTier};
use queue::bulk::BulkAction;
use queue::limits::{Limit, Shape};
use queue::{ArgIs, JobSearch, Queue, Scope};
use schedules::Change;

use super::*;
use crate::support::{TestPartner, door, so_many_wait};

/// Runs an action in a transaction of its own.
macro_rules! act {
    ($db:expr, $action:path $(, $argument:expr)*) => {{
        let mut tx = db::begin($db.pool()).await.unwrap();
        let done = $action(&mut tx, &door() $(, $argument)*).await.unwrap();
        tx.commit().await.unwrap();
        done
    }};
}

fn entry(
    action: &str,
    target: &str,
    before: Value,
    after: Value,
) -> (String, String, Option<Value>, Option<Value>) {
    let some = |value: Value| Some(value).filter(|value| !value.is_null());
    (action.to_owned(), target.to_owned(), some(before), some(after))
}

#[tokio::test]
async fn queues() {
    let db = TestDb::new().await;
    let scope = Scope { queue: Queue::Enrich, kind: Some("profiles.fetch".to_owned()) };
    let state = |is_paused: bool| json!({"kind": "profiles.fetch", "isPaused": is_paused});
    assert!(act!(db, jobs::queues::pause, &scope));
    assert_eq!(last(&db).await, entry("queues.pause", "enrich", state(false), state(true)));
    assert!(!act!(db, jobs::queues::pause, &scope), "again");
    assert_eq!(last(&db).await, entry("queues.pause", "enrich", state(true), state(true)));
    act!(db, jobs::queues::resume, &scope);
    assert_eq!(last(&db).await, entry("queues.resume", "enrich", state(true), state(false)));
    assert_eq!(log(&db).await.len(), 3);

    let mut conn = db.pool().acquire().await.unwrap();
    let refused = jobs::queues::resume(&mut conn, &door(), &scope).await.unwrap_err();
    assert_eq!(refused.to_string(), "profiles.fetch in the queue enrich is not paused");
    let unknown = Scope { queue: Queue::Enrich, kind: Some("profiles.fetsch".to_owned()) };
    let refused = jobs::queues::pause(&mut conn, &door(), &unknown).await.unwrap_err();
    assert!(refused.to_string().contains("there are: profiles.enrich, profiles.fetch"), "{refused}");
    assert_eq!(log(&db).await.len(), 3, "what is refused leaves no entry");
}

#[tokio::test]
async fn single_jobs() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let profile = ProfileUrl::parse("https://www.tiktok.com/@amy").unwrap();
    let new = NewEnrich { partner: partner.id, profile, callback_url: None, trace: None };
    let job: JobId = act!(db, request_enrich, new);
    let asked = log(&db).await.pop().unwrap();
    assert_eq!((asked.action.as_str(), asked.tenant), ("profiles.enrich", partner.tenant()));
    let state = |status: &str| json!({ "status": status });
    let id = job.to_string();

    act!(db, jobs::job::cancel, partner.tenant(), job);
    let cancelled = json!({"status": "cancelled", "isAsked": false});
    assert_eq!(last(&db).await, entry("jobs.cancel", &id, state("queued"), cancelled.clone()));
    act!(db, jobs::job::cancel, partner.tenant(), job);
    assert_eq!(last(&db).await, entry("jobs.cancel", &id, state("cancelled"), cancelled));
    act!(db, jobs::job::retry, partner.tenant(), job);
    assert_eq!(last(&db).await, entry("jobs.retry", &id, state("cancelled"), state("queued")));

    let mut conn = db.pool().acquire().await.unwrap();
    let refused = jobs::job::retry(&mut conn, &door(), partner.tenant(), job).await.unwrap_err();
    assert!(refused.to_string().ends_with("is queued: only failed and cancelled jobs can be tried again"));
    let strange = jobs::job::cancel(&mut conn, &door(), TenantId::SYSTEM, job).await.unwrap_err();
    assert!(strange.to_string().starts_with("no job has the id"), "{strange}");
}

#[tokio::test]
async fn limits() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let slots = |max| Limit::new("meter.concurrency", Shape::Concurrency { max });
    queue::limits::define(&mut conn, &[slots(20)], &[]).await.unwrap();
    let state =
        |max: i64, is_edited: bool| json!({"shape": "concurrency", "max": max, "isEdited": is_edited});
    act!(db, jobs::limits::set, &slots(5));
    assert_eq!(last(&db).await, entry("limits.set", "meter.concurrency", state(20, false), state(5, true)));
    // What code says meanwhile is what a reset goes back to.
    queue::limits::define(&mut conn, &[slots(30)], &[]).await.unwrap();
    assert_eq!(queue::limits::limits(db.pool()).await.unwrap(), [slots(5)]);
    assert_eq!(act!(db, jobs::limits::reset, "meter.concurrency"), Some(slots(30)));
    assert_eq!(last(&db).await, entry("limits.reset", "meter.concurrency", state(5, true), state(30, false)));
    assert_eq!(queue::limits::limits(db.pool()).await.unwrap(), [slots(30)]);
    let refused = jobs::limits::reset(&mut conn, &door(), "meter.concurrency").await.unwrap_err();
    assert!(refused.to_string().contains("is what the program says already"), "{refused}");

    let own = Limit::new("own.calls", Shape::Rate { max: 60, window: Duration::from_secs(60) });
    act!(db, jobs::limits::set, &own);
    assert_eq!(act!(db, jobs::limits::reset, "own.calls"), None, "nothing but an operator made it");
    let before = json!({"shape": "rate", "max": 60, "windowMs": 60_000, "isEdited": true});
    assert_eq!(last(&db).await, entry("limits.reset", "own.calls", before, Value::Null));
    let refused = jobs::limits::reset(&mut conn, &door(), "own.calls").await.unwrap_err();
    assert!(refused.to_string().starts_with("no limit is called"), "{refused}");
}

#[tokio::test]
async fn tenants() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let id = partner.id.to_string();
    let state = |weight: i16, most: Option<i32>| json!({"weight": weight, "concurrencyMax": most});
    let change = ShareChange { weight: Some(Some(7)), concurrency_max: Some(Some(3)) };
    act!(db, jobs::tenants::set_share, partner.tenant(), change);
    assert_eq!(last(&db).await, entry("tenants.set_share", &id, state(4, None), state(7, Some(3))));
    // A new tier does not take a weight back that an operator gave.
    let tier =
        SubscriptionChange { tier: Some(SubscriptionTier::Enterprise), ..SubscriptionChange::default() };
    act!(db, jobs::partners::change_subscription, partner.id, order(tier));
    let change = ShareChange { concurrency_max: Some(None), ..ShareChange::default() };
    act!(db, jobs::tenants::set_share, partner.tenant(), change);
    assert_eq!(last(&db).await, entry("tenants.set_share", &id, state(7, Some(3)), state(7, None)));
    let change = ShareChange { weight: Some(None), ..ShareChange::default() };
    act!(db, jobs::tenants::set_share, partner.tenant(), change);
    assert_eq!(last(&db).await, entry("tenants.set_share", &id, state(7, None), state(8, None)));
    let change = ShareChange { weight: Some(Some(9)), ..ShareChange::default() };
    act!(db, jobs::tenants::set_share, TenantId::SYSTEM, change);
    assert_eq!(last(&db).await, entry("tenants.set_share", "system", state(1, None), state(9, None)));

    let mut conn = db.pool().acquire().await.unwrap();
    let nobody = TenantId::from(kernel::ids::PartnerId::new());
    assert!(jobs::tenants::set_share(&mut conn, &door(), nobody, change).await.is_err());
    let none = ShareChange { weight: Some(Some(0)), ..ShareChange::default() };
    let refused = jobs::tenants::set_share(&mut conn, &door(), TenantId::SYSTEM, none).await.unwrap_err();
    assert_eq!(refused.to_string(), "weight: a whole number from 1 to 1000");
}

#[tokio::test]
async fn a_weight_and_a_cap_that_are_changed_at_once_are_both_kept() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let id = partner.id.to_string();
    let mut tx = db::begin(db.pool()).await.unwrap();
    let cap = ShareChange { concurrency_max: Some(Some(3)), ..ShareChange::default() };
    jobs::tenants::set_share(&mut tx, &door(), partner.tenant(), cap).await.unwrap();
    let tier =
        SubscriptionChange { tier: Some(SubscriptionTier::Enterprise), ..SubscriptionChange::default() };
    let weight = async { act!(db, jobs::partners::change_subscription, partner.id, order(tier)) };
    let cap = async {
        so_many_wait(db.pool(), 1).await;
        tx.commit().await.unwrap();
    };
    tokio::join!(weight, cap);
    let change = ShareChange::default();
    let both = queue::TenantShare { weight: 8, concurrency_max: Some(3) };
    assert_eq!(act!(db, jobs::tenants::set_share, partner.tenant(), change), both);

    // And the other way about.
    let mut tx = db::begin(db.pool()).await.unwrap();
    let tier = SubscriptionChange { tier: Some(SubscriptionTier::Free), ..SubscriptionChange::default() };
    jobs::partners::change_subscription(&mut tx, &door(), partner.id, order(tier)).await.unwrap();
    let cap = ShareChange { concurrency_max: Some(None), ..ShareChange::default() };
    let cap = async { act!(db, jobs::tenants::set_share, partner.tenant(), cap) };
    let weight = async {
        so_many_wait(db.pool(), 1).await;
        tx.commit().await.unwrap();
    };
    tokio::join!(cap, weight);
    let state = |weight: i16, most: Option<i32>| json!({"weight": weight, "concurrencyMax": most});
    assert_eq!(last(&db).await, entry("tenants.set_share", &id, state(1, Some(3)), state(1, None)));
}

fn order(change: SubscriptionChange) -> SubscriptionOrder {
    SubscriptionOrder::of(change, chrono_tz::Asia::Ho_Chi_Minh)
}

#[tokio::test]
async fn two_changes_of_a_subscription_at_once_tell_what_each_of_them_found() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let tier = SubscriptionChange { tier: Some(SubscriptionTier::Basic), ..SubscriptionChange::default() };
    jobs::partners::change_subscription(&mut tx, &door(), partner.id, order(tier)).await.unwrap();
    let weight = SubscriptionChange { share_weight: Some(Some(3)), ..SubscriptionChange::default() };
    let second = async { act!(db, jobs::partners::change_subscription, partner.id, order(weight)) };
    let first = async {
        so_many_wait(db.pool(), 1).await;
        tx.commit().await.unwrap();
    };
    tokio::join!(second, first);
    let id = partner.id.to_string();
    let (before, after) =
        (bought(&db, &partner, "basic", None).await, bought(&db, &partner, "basic", Some(3)).await);
    assert_eq!(last(&db).await, entry("partners.change_subscription", &id, before, after));

    let mut tx = db::begin(db.pool()).await.unwrap();
    jobs::partners::set_active(&mut tx, &door(), partner.id, false).await.unwrap();
    let again = async { act!(db, jobs::partners::set_active, partner.id, false) };
    let first = async {
        so_many_wait(db.pool(), 1).await;
        tx.commit().await.unwrap();
    };
    tokio::join!(again, first);
    let state = json!({ "isActive": false });
    assert_eq!(last(&db).await, entry("partners.deactivate", &id, state.clone(), state));
}

/// What the log says of a partner's subscription of this tier and weight.
async fn bought(db: &TestDb, partner: &TestPartner, tier: &str, weight: Option<i16>) -> Value {
    let mut conn = db.pool().acquire().await.unwrap();
    let now = partners::directory::find_by_code_or_id(&mut conn, &partner.code).await.unwrap().unwrap();
    json!({
        "tier": tier, "status": "active", "startDate": now.subscription.starts_at, "endDate": null,
        "autoRenew": false, "monthlyQuota": null, "shareWeight": weight,
    })
}

// S0-169
#[tokio::test]
async fn partners_and_their_keys() {
    let db = TestDb::new().await;
    let partner = TestPartner::create(&db, "acme").await;
    let id = partner.id;
    let change = SubscriptionChange {
        tier: Some(SubscriptionTier::Basic),
        share_weight: Some(Some(3)),
        ..SubscriptionChange::default()
    };
    act!(db, jobs::partners::change_subscription, id, order(change));
    let (before, after) =
        (bought(&db, &partner, "premium", None).await, bought(&db, &partner, "basic", Some(3)).await);
    let expected = entry("partners.change_subscription", &id.to_string(), before, after);
    assert_eq!(last(&db).await, expected);
    let name = Some("Acme & Daughters".to_owned());
    act!(db, jobs::partners::update, id, PartnerChange { name, ..PartnerChange::default() });
    let (action, _, before, after) = last(&db).await;
    assert_eq!((action.as_str(), before == after), ("partners.update", false));
    let nothing = order(SubscriptionChange::default());
    let correction = SubscriptionOrder { used: Some(7), reason: Some("a mistake".to_owned()), ..nothing };
    act!(db, jobs::partners::change_subscription, id, correction);
    let (action, _, _, after) = last(&db).await;
    assert_eq!((action.as_str(), &after.unwrap()["used"]), ("partners.set_quota_used", &json!(7)));
    let added = act!(db, jobs::partners::add_key, id, KeyTerms::default());
    let after = json!({"keyId": added.id, "prefix": added.prefix, "expiresAt": null});
    assert_eq!(last(&db).await, entry("partners.add_key", &id.to_string(), Value::Null, after));
    let key = act!(db, jobs::partners::rotate_key, id, Duration::from_secs(60), KeyTerms::default());
    let after = json!({"keyId": key.id, "prefix": key.prefix, "expiresAt": null, "overlapS": 60});
    assert_eq!(last(&db).await, entry("partners.rotate_key", &id.to_string(), Value::Null, after));
    act!(db, jobs::partners::revoke_key, id, key.id);
    let after = json!({"keyId": key.id, "isRevoked": true});
    assert_eq!(last(&db).await, entry("partners.revoke_key", &id.to_string(), Value::Null, after));
    let state = |is_active: bool| json!({ "isActive": is_active });
    act!(db, jobs::partners::set_active, id, false);
    assert_eq!(last(&db).await, entry("partners.deactivate", &id.to_string(), state(true), state(false)));
    act!(db, jobs::partners::set_active, id, true);
    assert_eq!(last(&db).await, entry("partners.activate", &id.to_string(), state(false), state(true)));
    assert!(log(&db).await.iter().all(|entry| entry.tenant == partner.tenant()));
}

#[tokio::test]
async fn schedules() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let change = Change {
        cron: Some("0 4 * * *".to_owned()),
        kind: Some("maintenance.prune_jobs".to_owned()),
        ..Change::default()
    };
    let door = door();
    use jobs::schedules as actions;
    actions::change(&mut tx, jobs::ALL, "nightly", &change, &door).await.unwrap();
    let change = Change { cron: Some("0 5 * * *".to_owned()), ..Change::default() };
    actions::change(&mut tx, jobs::ALL, "nightly", &change, &door).await.unwrap();
    actions::pause(&mut tx, jobs::ALL, "nightly", &door).await.unwrap();
    actions::resume(&mut tx, jobs::ALL, "nightly", &door).await.unwrap();
    let run = actions::run_now(&mut tx, jobs::ALL, "nightly", &door).await.unwrap();
    actions::remove(&mut tx, "nightly", &door).await.unwrap();
    tx.commit().await.unwrap();
    let log = log(&db).await;
    let told: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
    let expected = ["create", "change", "pause", "resume", "run_now", "remove"];
    assert_eq!(told, expected.map(|action| format!("schedules.{action}")));
    let cron = |value: &Option<Value>| value.as_ref().map(|value| value["cron"].clone());
    assert_eq!(
        (cron(&log[1].before), cron(&log[1].after)),
        (Some("0 4 * * *".into()), Some("0 5 * * *".into()))
    );
    assert_eq!(log[4].after.as_ref().unwrap()["jobId"], json!(run.job));
    assert!(log.iter().all(|entry| entry.target == "nightly" && entry.actor == "a test"));
}

#[tokio::test]
async fn nothing_personal_is_in_the_log_and_forgetting_a_person_leaves_it_whole() {
    let db = TestDb::new().await;
    let new = NewPartner::of("agency", "Nguyễn Thị Minh Khai", SubscriptionTier::Free);
    let partner = TestPartner::create_with(&db, new).await;
    let profile = ProfileUrl::parse("https://www.tiktok.com/@minhkhai").unwrap();
    let callback_url = Some("https://example.com/khai@example.com".to_owned());
    act!(db, request_enrich, NewEnrich { partner: partner.id, profile, callback_url, trace: None });
    let text = log(&db).await.iter().map(|entry| format!("{entry:?}\n")).collect::<String>();
    for personal in ["Minh Khai", "minhkhai", "khai@example.com", partner.key.as_str()] {
        assert!(!text.contains(personal), "{personal}: {text}");
    }
    let digest = ::audit::digest(&keyring(), "Nguyễn Thị Minh Khai");
    assert!(text.contains(&digest), "whoever knows a name and has the keys finds it: {text}");
    let filter = JobSearch {
        kinds: vec!["profiles.enrich".to_owned()],
        key: Some("khai.key".to_owned()),
        finished_from: Some(chrono::DateTime::UNIX_EPOCH),
        arg: Some(ArgIs { path: vec!["handle".to_owned()], value: "khai.handle".to_owned() }),
        ..JobSearch::default()
    };
    let request = BulkRequest { action: BulkAction::Redrive, filter: filter.clone(), rate_per_s: None };
    let started = act!(db, start_bulk, request);
    assert_eq!((&started.filter.key, &started.filter.arg), (&filter.key, &filter.arg), "it is carried out");
    let (_, _, _, after) = last(&db).await;
    let kept: JobSearch = serde_json::from_value(after.unwrap()["filter"].take()).unwrap();
    let digested = |value: &str| Some(::audit::digest(&keyring(), value));
    assert_eq!(kept.kinds, filter.kinds);
    assert_eq!(kept.key, digested("khai.key"));
    let arg = kept.arg.unwrap();
    assert_eq!((arg.path, Some(arg.value)), (vec!["handle".to_owned()], digested("khai.handle")));
    sealed(db.pool()).await;
    let forget = "delete from jobs; delete from webhook_deliveries; update partners set name = 'forgotten'";
    sqlx::raw_sql(forget).execute(db.pool()).await.unwrap();
    assert_eq!(findings(db.pool()).await, []);
}
