//! The pool's promises about identity, administrators' decisions and contact details, on a real database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Pool;
use kernel::Platform;
use kernel::ids::{InfluencerId, PartnerId};
use kernel::sealing::{Keyring, SealContext};
use pool::{
    Crawl, PoolError, PoolProfile, ProfileResult, fresh, get, missed, prune_crawls, prune_misses, save_crawl,
    save_miss,
};
use uuid::Uuid;

use crate::support::TestDb;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn crawl(vendor_id: &str, username: &str) -> Crawl {
    Crawl {
        platform: Platform::Tiktok,
        lookup_key: format!("@{}", username.to_lowercase()),
        vb_profile_id: vendor_id.to_owned(),
        username: username.to_owned(),
        display_name: format!("The {username}"),
        avatar_url: None,
        bio: Some("no\0thing".to_owned()),
        followers: 150_000,
        following: 10,
        engagement: 4.25,
        avg_views: Some(9_000),
        avg_likes: Some(800),
        avg_comments: None,
        score: 71,
        score_reach: Some(70),
        score_engagement: Some(72),
        score_authenticity: None,
        contact_email: Some("creator@example.com".to_owned()),
        contact_phone: None,
        crawled_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        added_by_partner: None,
    }
}

async fn save(db: &Pool, keyring: &Keyring, crawl: Crawl) -> Result<InfluencerId, PoolError> {
    let mut tx = db::begin(db).await.unwrap();
    let id = save_crawl(&mut tx, keyring, crawl).await?;
    tx.commit().await.unwrap();
    Ok(id)
}

async fn read(db: &Pool, id: InfluencerId) -> PoolProfile {
    get(&mut db.acquire().await.unwrap(), id).await.unwrap().unwrap()
}

async fn entries(db: &Pool) -> i64 {
    sqlx::query_scalar!(r#"select count(*) as "count!" from pool_influencers"#).fetch_one(db).await.unwrap()
}

/// What administrators see and decide.
struct Decisions {
    visibility: String,
    category: Option<String>,
    tier: String,
    source: String,
    added_by_partner_id: Option<Uuid>,
    sync_status: String,
    sync_error: Option<String>,
}

async fn decisions(db: &Pool, id: InfluencerId) -> Decisions {
    sqlx::query_as!(
        Decisions,
        "select visibility, category, tier, source, added_by_partner_id, sync_status, sync_error
         from pool_influencers where id = $1",
        id.uuid(),
    )
    .fetch_one(db)
    .await
    .unwrap()
}

// S0-016, S0-088, S0-089, S0-253, S0-254
#[tokio::test]
async fn a_first_crawl_makes_a_private_entry_of_the_partner_that_asked() {
    let db = TestDb::new().await;
    let partner = PartnerId::new();
    let new = Crawl { added_by_partner: Some(partner), ..crawl("vb_prof_1", "@MrBeast") };
    let id = save(db.pool(), &Keyring::generate(), new).await.unwrap();

    let profile = read(db.pool(), id).await;
    assert_eq!((profile.username.as_str(), profile.engagement), ("MrBeast", 4.25));
    assert_eq!(profile.crawled_at, "2026-01-02T03:04:05Z".parse::<DateTime<Utc>>().unwrap());
    let row = decisions(db.pool(), id).await;
    assert_eq!((row.visibility.as_str(), row.source.as_str()), ("PRIVATE", "PARTNER"));
    assert_eq!((row.tier.as_str(), row.sync_status.as_str()), ("PREMIUM", "ACTIVE"));
    assert_eq!(row.added_by_partner_id, Some(partner.uuid()));
}

// S0-010, S0-012
#[tokio::test]
async fn a_later_crawl_updates_the_figures_and_no_decision_of_an_administrator() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let id = save(db.pool(), &keyring, crawl("vb_prof_1", "creator")).await.unwrap();
    sqlx::query!(
        "update pool_influencers set visibility = 'PUBLIC', category = 'food', tier = 'STANDARD',
             tier_set_by_admin = true, source = 'MANUAL', sync_status = 'PAUSED', sync_error = 'old'
         where id = $1",
        id.uuid(),
    )
    .execute(db.pool())
    .await
    .unwrap();

    let later = Crawl {
        followers: 2_000_000,
        score: 99,
        added_by_partner: Some(PartnerId::new()),
        ..crawl("vb_prof_1", "Creator")
    };
    assert_eq!(save(db.pool(), &keyring, later).await.unwrap(), id);

    let profile = read(db.pool(), id).await;
    assert_eq!((profile.followers, profile.score), (2_000_000, 99));
    assert_eq!(profile.username, "Creator");
    let row = decisions(db.pool(), id).await;
    assert_eq!((row.visibility.as_str(), row.source.as_str()), ("PUBLIC", "MANUAL"));
    assert_eq!((row.category.as_deref(), row.tier.as_str()), (Some("food"), "STANDARD"));
    assert_eq!((row.sync_status.as_str(), row.sync_error), ("PAUSED", None));
    assert_eq!(row.added_by_partner_id, None);
}

// S0-156, S0-266
#[tokio::test]
async fn the_tier_follows_the_followers_and_a_failed_sync_is_healed() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let id = save(db.pool(), &keyring, crawl("vb_prof_1", "creator")).await.unwrap();
    sqlx::query!(
        "update pool_influencers set sync_status = 'FAILED', sync_error = 'x' where id = $1",
        id.uuid()
    )
    .execute(db.pool())
    .await
    .unwrap();
    let grown = Crawl { followers: 1_000_001, ..crawl("vb_prof_1", "creator") };
    save(db.pool(), &keyring, grown).await.unwrap();
    let row = decisions(db.pool(), id).await;
    assert_eq!((row.tier.as_str(), row.sync_status.as_str(), row.sync_error), ("VIP", "ACTIVE", None));
}

// S0-013, S0-170, S0-250, S0-251
#[tokio::test]
async fn contact_details_are_sealed_for_their_row_and_are_in_no_result() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let id = save(db.pool(), &keyring, crawl("vb_prof_1", "creator")).await.unwrap();
    let stored =
        sqlx::query!("select contact_email, contact_phone from pool_influencers where id = $1", id.uuid())
            .fetch_one(db.pool())
            .await
            .unwrap();
    let sealed = stored.contact_email.unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("example.com"));
    let place = SealContext {
        table: "pool_influencers",
        column: "contact_email",
        owner: Uuid::nil(),
        row: id.uuid(),
    };
    assert_eq!(keyring.open(&sealed, &place).unwrap(), b"creator@example.com");
    assert_eq!(stored.contact_phone, None);
    let result = ProfileResult::from(read(db.pool(), id).await);
    assert!(!serde_json::to_string(&result).unwrap().contains("creator@example.com"));
}

#[tokio::test]
async fn a_renamed_creator_keeps_its_entry() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let id = save(db.pool(), &keyring, crawl("vb_prof_1", "before")).await.unwrap();
    assert_eq!(save(db.pool(), &keyring, crawl("vb_prof_1", "after")).await.unwrap(), id);
    assert_eq!(read(db.pool(), id).await.username, "after");
    assert_eq!(entries(db.pool()).await, 1);
}

#[tokio::test]
async fn an_entry_without_a_vendor_id_is_taken_over_by_its_name() {
    let db = TestDb::new().await;
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into pool_influencers (id, platform, username, display_name) values ($1, 'tiktok', 'Known', 'K')",
        id,
    )
    .execute(db.pool())
    .await
    .unwrap();
    let saved = save(db.pool(), &Keyring::generate(), crawl("vb_prof_1", "known")).await.unwrap();
    assert_eq!(saved.uuid(), id);
    assert_eq!(read(db.pool(), saved).await.vb_profile_id, "vb_prof_1");
}

#[tokio::test]
async fn a_name_that_went_to_another_creator_leaves_the_old_entry_for_an_administrator() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let old = save(db.pool(), &keyring, crawl("vb_prof_old", "star")).await.unwrap();
    let new = save(db.pool(), &keyring, crawl("vb_prof_new", "Star")).await.unwrap();
    assert_ne!(old, new);
    assert_eq!(read(db.pool(), new).await.username, "Star");
    assert!(read(db.pool(), old).await.username.starts_with("star~"));
    let row = decisions(db.pool(), old).await;
    assert_eq!(row.sync_status, "FAILED");
    assert!(row.sync_error.unwrap().contains("vb_prof_new"));

    let renamed = save(db.pool(), &keyring, crawl("vb_prof_old", "star_moved")).await.unwrap();
    assert_eq!(renamed, old);
    assert_eq!(decisions(db.pool(), old).await.sync_status, "ACTIVE");
}

#[tokio::test]
async fn creators_that_swap_names_at_the_same_time_end_with_one_entry_each() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let a = save(db.pool(), &keyring, crawl("vb_prof_a", "first")).await.unwrap();
    let b = save(db.pool(), &keyring, crawl("vb_prof_b", "second")).await.unwrap();
    for round in 0..20 {
        let names = if round % 2 == 0 { ["second", "first"] } else { ["first", "second"] };
        let (one, two) = futures::future::join(
            save(db.pool(), &keyring, crawl("vb_prof_a", names[0])),
            save(db.pool(), &keyring, crawl("vb_prof_b", names[1])),
        )
        .await;
        assert_eq!((one.unwrap(), two.unwrap()), (a, b));
    }
    assert_eq!(entries(db.pool()).await, 2);
}

// S0-264, S0-265
#[tokio::test]
async fn crawls_of_one_creator_under_many_keys_at_once_make_one_entry() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let saves = (0..12).map(|n| {
        let lookup_key = format!("id/{}", n / 2);
        save(db.pool(), &keyring, Crawl { lookup_key, ..crawl("vb_prof_1", ["Same", "same"][n % 2]) })
    });
    let ids = futures::future::join_all(saves).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(entries(db.pool()).await, 1);
    let crawls =
        sqlx::query_scalar!(r#"select count(*) as "count!" from pool_crawls"#).fetch_one(db.pool()).await;
    assert_eq!(crawls.unwrap(), 6);
}

#[tokio::test]
async fn a_vendor_id_of_another_platform_is_refused() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    save(db.pool(), &keyring, crawl("vb_prof_1", "creator")).await.unwrap();
    let elsewhere = Crawl { platform: Platform::Youtube, ..crawl("vb_prof_1", "creator") };
    assert!(matches!(save(db.pool(), &keyring, elsewhere).await, Err(PoolError::OtherPlatform)));
}

#[tokio::test]
async fn a_crawl_is_reused_under_its_own_key_until_it_is_too_old() {
    let db = TestDb::new().await;
    let id = save(db.pool(), &Keyring::generate(), crawl("vb_prof_1", "creator")).await.unwrap();
    let mut conn = db.pool().acquire().await.unwrap();
    let found = fresh(&mut conn, Platform::Tiktok, "@creator", DAY).await.unwrap().unwrap();
    assert_eq!(found.id, id);
    assert_eq!(fresh(&mut conn, Platform::Youtube, "@creator", DAY).await.unwrap(), None);
    assert_eq!(fresh(&mut conn, Platform::Tiktok, "@other", DAY).await.unwrap(), None);

    sqlx::query!("update pool_crawls set crawled_at = now() - interval '25 hours'")
        .execute(&mut conn)
        .await
        .unwrap();
    assert_eq!(fresh(&mut conn, Platform::Tiktok, "@creator", DAY).await.unwrap(), None);
    assert_eq!(prune_crawls(&mut conn, 2 * DAY, 100).await.unwrap(), 0);
    assert_eq!(prune_crawls(&mut conn, DAY, 100).await.unwrap(), 1);
    assert_eq!(entries(db.pool()).await, 1);
}

#[tokio::test]
async fn that_a_profile_was_not_found_is_remembered_for_a_while_and_until_it_is_crawled() {
    let db = TestDb::new().await;
    let keyring = Keyring::generate();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut conn = db.pool().acquire().await.unwrap();
    for key in ["@late", "@gone"] {
        save_miss(&mut conn, Platform::Tiktok, key).await.unwrap();
    }
    assert!(missed(&mut conn, Platform::Tiktok, "@late", minutes(5)).await.unwrap());
    assert!(!missed(&mut conn, Platform::Youtube, "@late", minutes(5)).await.unwrap());

    save(db.pool(), &keyring, crawl("vb_prof_1", "late")).await.unwrap();
    assert!(!missed(&mut conn, Platform::Tiktok, "@late", minutes(5)).await.unwrap());

    sqlx::query!("update pool_misses set missed_at = now() - interval '6 minutes'")
        .execute(&mut conn)
        .await
        .unwrap();
    assert!(!missed(&mut conn, Platform::Tiktok, "@gone", minutes(5)).await.unwrap());
    assert_eq!(prune_misses(&mut conn, minutes(5), 10).await.unwrap(), 1);
    assert_eq!(prune_misses(&mut conn, minutes(5), 10).await.unwrap(), 0);
}
