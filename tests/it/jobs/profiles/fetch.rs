//! `profiles.fetch`: what a crawl leaves in the pool, and that it is made, paid for and saved once.

use futures::future::join_all;
use kernel::clock::now;
use queue::JobStatus;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::jobs::stage::*;
use crate::support::TestPartner;

/// What administrators see and decide.
#[derive(Debug, PartialEq)]
struct Entry {
    visibility: String,
    category: Option<String>,
    tier: String,
    source: String,
    added_by_partner_id: Option<Uuid>,
    sync_status: String,
    followers: i64,
}

async fn entry(stage: &Stage, id: Uuid) -> Entry {
    sqlx::query_as!(
        Entry,
        "select visibility, category, tier, source, added_by_partner_id, sync_status, followers
         from pool_influencers where id = $1",
        id,
    )
    .fetch_one(stage.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_crawl_makes_a_private_entry_that_the_first_asker_added() {
    let stage = Stage::new().await;
    let other = TestPartner::create(&stage.kit.db, "vinfast").await;
    stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    stage.ask_as(&other, AMY, None).await;
    stage.kit.run_all::<Enrich>().await;
    let fetch = stage.kit.run_one::<Fetch>().await;

    let entry = entry(&stage, pool_id(&fetch)).await;
    assert_eq!((entry.visibility.as_str(), entry.source.as_str()), ("PRIVATE", "PARTNER"));
    assert_eq!(entry.added_by_partner_id, Some(stage.partner.id.uuid()));
    assert_eq!(entry.sync_status, "ACTIVE");
    assert_eq!(profile(&fetch)["followers"], entry.followers);
}

// S0-012, S0-022
#[tokio::test]
async fn a_crawl_of_a_known_entry_keeps_what_administrators_decided() {
    let stage = Stage::new().await;
    let first = stage.crawled(AMY).await;
    let id = pool_id(&stage.record(first).await);
    sqlx::query!(
        "update pool_influencers set visibility = 'PUBLIC', category = 'food', tier = 'VIP',
             tier_set_by_admin = true, source = 'MANUAL', added_by_partner_id = null, followers = 1
         where id = $1",
        id,
    )
    .execute(stage.pool())
    .await
    .unwrap();
    stage.age_crawls(25.0).await;

    let other = TestPartner::create(&stage.kit.db, "vinfast").await;
    stage.ask_as(&other, AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    let fetch = stage.kit.run_one::<Fetch>().await;
    assert_eq!(pool_id(&fetch), id);
    let entry = entry(&stage, id).await;
    assert_eq!((entry.visibility.as_str(), entry.source.as_str()), ("PUBLIC", "MANUAL"));
    assert_eq!((entry.category.as_deref(), entry.tier.as_str()), (Some("food"), "VIP"));
    assert_eq!(entry.added_by_partner_id, None);
    assert!(entry.followers > 1, "the figures are new");
    assert_eq!(profile(&fetch)["followers"], entry.followers);
}

/// A creator whose profile shows an e-mail address and a phone number, with both.
async fn with_contact_details(stage: &Stage) -> (String, String, String) {
    let meter = &stage.kit.services().meter;
    for n in 0..200 {
        let url = format!("https://www.tiktok.com/@reachable.{n}");
        let parsed = kernel::profile_url::ProfileUrl::parse(&url).unwrap();
        let crawled = meter.enrich(&parsed, None, &format!("look-{n}")).await.unwrap();
        if let (Some(email), Some(phone)) = (crawled.contact.email, crawled.contact.phone) {
            return (url, email, phone);
        }
    }
    panic!("no creator of the sandbox shows how to be reached");
}

/// Every row of every table, as text.
async fn everything_stored(stage: &Stage) -> Vec<(String, String)> {
    let tables = sqlx::query_scalar!(
        r#"select relname::text as "name!" from pg_class
           where relkind = 'r' and relnamespace = 'public'::regnamespace order by relname"#
    )
    .fetch_all(stage.pool())
    .await
    .unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let all = format!("select coalesce(string_agg(to_jsonb(t)::text, chr(10)), '') from {table} t");
        let row = sqlx::raw_sql(AssertSqlSafe(all)).fetch_one(stage.pool()).await.unwrap();
        rows.push((table, row.get::<String, _>(0)));
    }
    rows
}

// S0-013
#[tokio::test]
async fn contact_details_are_stored_sealed_and_told_to_nobody() {
    let stage = Stage::new().await;
    let (url, email, phone) = with_contact_details(&stage).await;
    // One attempt meets an answer that cannot be read and that holds the details.
    let handle = url.rsplit('@').next().unwrap();
    let malformed = json!({ "kind": "malformed" });
    stage
        .controls
        .faults(json!([{ "vendor": "meter", "handle": handle, "first": 3, "fault": malformed }]))
        .await;
    let asked = stage.ask(&url, Some("told")).await;
    stage.kit.run_one::<Enrich>().await;
    let failed = stage.kit.run_one::<Fetch>().await;
    assert!(!failed.errors[0].chain.is_empty(), "the answer was not understood: {failed:?}");
    let fetch = stage.kit.run_one::<Fetch>().await;
    stage.kit.run_one::<Deliver>().await;

    let id = pool_id(&fetch);
    let sealed = sqlx::query!("select contact_email, contact_phone from pool_influencers where id = $1", id)
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(opened(&sealed.contact_email.unwrap(), "contact_email", id), email);
    assert_eq!(opened(&sealed.contact_phone.unwrap(), "contact_phone", id), phone);

    let stored = everything_stored(&stage).await;
    let rows_of = |table: &str| {
        let tables = stored.iter().filter(|(name, _)| name.starts_with(table));
        tables.map(|(_, rows)| rows.as_str()).collect::<String>()
    };
    for (table, known) in [
        ("jobs_finished_", asked.job.uuid().to_string()),
        ("webhook_attempts", asked.delivery().uuid().to_string()),
        ("pool_influencers", id.to_string()),
    ] {
        assert!(rows_of(table).contains(&known), "{table} was looked at");
    }
    let told = stage.controls.callbacks("told").await;
    assert_eq!(told.len(), 1);
    for detail in [&email, &phone] {
        let hex: String = detail.bytes().map(|byte| format!("{byte:02x}")).collect();
        for (table, rows) in &stored {
            assert!(!rows.contains(detail.as_str()) && !rows.contains(&hex), "{detail} lies open in {table}");
        }
        assert!(!told[0].body.contains(detail.as_str()), "{}", told[0].body);
    }
}

#[tokio::test]
async fn whatever_is_stored_about_a_creator_can_be_found_by_the_creator() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, Some("told")).await;
    stage.kit.run_one::<Enrich>().await;
    let id = pool_id(&stage.kit.run_one::<Fetch>().await);
    stage.kit.run_one::<Deliver>().await;
    let kinds = sqlx::query_scalar!("select kind from jobs_finished where subject_id = $1 order by kind", id)
        .fetch_all(stage.pool())
        .await
        .unwrap();
    assert_eq!(kinds, [ENRICH, FETCH, DELIVER]);
    assert_eq!(stage.delivery(asked).await.0.subject, Some(id));
}

#[tokio::test]
async fn the_request_that_asked_first_can_be_followed_to_the_vendor() {
    let stage = Stage::new().await;
    stage.crawled(AMY).await;
    let calls = stage.controls.calls("vendor=meter&handle=amy.codes").await;
    assert_eq!(calls["calls"][0]["lastRequestId"], "req-42");
}

#[tokio::test]
async fn a_worker_that_dies_between_the_vendors_answer_and_saving_it_does_not_pay_twice() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    let claimed = stage.kit.claim(FETCH).await;
    stage.kit.die().await;
    let answer = stage.kit.run(&claimed).await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(stage.controls.enriched("amy.codes").await, 1, "the vendor was asked");
    assert_eq!(pool_entries(&stage).await, 0, "nothing was saved");
    let after_the_first = now();

    let fetch = stage.kit.successor().await.run_one(FETCH).await;
    assert_eq!((fetch.status, fetch.attempts, fetch.taken_back), (JobStatus::Completed, 1, 1));
    let crawled_at: chrono::DateTime<chrono::Utc> =
        profile(&fetch)["crawledAt"].as_str().unwrap().parse().unwrap();
    assert!(crawled_at <= after_the_first, "the vendor took the second call for another crawl");
    assert_eq!(stage.record(asked).await.result, fetch.result);
    assert!(!stage.kit.settle(&claimed, answer).await, "the dead worker changed the job");
}

#[tokio::test]
async fn a_fetch_delivered_again_after_it_was_saved_changes_nothing() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    let claimed = stage.kit.claim(FETCH).await;
    let answer = stage.kit.run(&claimed).await;
    assert!(answer.is_ok(), "{answer:?}");
    let before = everything_stored(&stage).await;
    let again = stage.kit.run(&claimed).await;
    assert!(again.is_err(), "{again:?}");
    assert!(!stage.kit.settle(&claimed, again).await);
    assert_eq!(everything_stored(&stage).await, before);
    assert_eq!(stage.record(asked).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn two_workers_with_the_same_fetch_save_it_once() {
    let stage = Stage::new().await;
    stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    let stale = stage.kit.claim(FETCH).await;
    stage.kit.die().await;
    let successor = stage.kit.successor().await;
    let held = successor.claim(FETCH).await;
    let (late, on_time) = futures::future::join(stage.kit.run(&stale), successor.run(&held)).await;
    assert!(late.is_err() && on_time.is_ok(), "{late:?} {on_time:?}");
    assert_eq!(pool_entries(&stage).await, 1);
    assert_eq!(stage.fetch().await.status, JobStatus::Completed);
}

#[tokio::test]
async fn creators_that_are_crawled_at_the_same_time_have_an_entry_each() {
    let stage = Stage::new().await;
    let urls: Vec<String> = (0..20).map(|n| format!("https://www.tiktok.com/@creator.{n}")).collect();
    join_all(urls.iter().map(|url| stage.ask(url, None))).await;
    stage.kit.run_all::<Enrich>().await;
    let fetched = stage.kit.run_all::<Fetch>().await;
    assert_eq!(fetched.len(), 20);
    assert!(fetched.iter().all(|fetch| fetch.status == JobStatus::Completed));
    assert_eq!(pool_entries(&stage).await, 20);
}

#[tokio::test]
async fn a_vendor_id_that_belongs_to_another_platform_is_not_believed() {
    let stage = Stage::new().await;
    let vendor_id = profile(&stage.record(stage.crawled(AMY).await).await)["id"].clone();
    sqlx::query!(
        "update pool_influencers set platform = 'youtube' where vb_profile_id = $1",
        vendor_id.as_str()
    )
    .execute(stage.pool())
    .await
    .unwrap();
    sqlx::query!("delete from pool_crawls").execute(stage.pool()).await.unwrap();
    let asked = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    stage.kit.run_one::<Fetch>().await;
    let job = stage.record(asked).await;
    assert_eq!((job.status, failure_code(&job)), (JobStatus::Failed, "VENDOR_UNAVAILABLE"));
    assert_eq!(job.result, None::<Value>);
}
