//! Creators in the pool, as crawls leave them.

use kernel::Platform;
use kernel::ids::InfluencerId;
use pool::{Crawl, save_crawl};

use super::{TestDb, keyring};

/// A crawl of a public creator of middling size, to be changed as a test needs.
pub fn crawl(username: &str) -> Crawl {
    Crawl {
        platform: Platform::Tiktok,
        lookup_key: format!("@{}", username.to_lowercase()),
        vb_profile_id: format!("vb_prof_{username}"),
        username: username.to_owned(),
        display_name: format!("The {username}"),
        avatar_url: Some(format!("https://cdn.example.com/{username}.jpg")),
        bio: Some("makes things".to_owned()),
        followers: 250_000,
        following: 10,
        engagement: 4.8,
        avg_views: Some(50_000),
        avg_likes: Some(5_000),
        avg_comments: Some(200),
        score: 78,
        score_reach: Some(70),
        score_engagement: Some(72),
        score_authenticity: None,
        contact_email: Some(format!("{username}@example.com")),
        contact_phone: Some("+84901234567".to_owned()),
        crawled_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        added_by_partner: None,
    }
}

/// Stores creators, public ones.
pub async fn creators(db: &TestDb, crawls: impl IntoIterator<Item = Crawl>) -> Vec<InfluencerId> {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let mut ids = Vec::new();
    for crawl in crawls {
        ids.push(save_crawl(&mut tx, &keyring(), crawl).await.unwrap());
    }
    let uuids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!("update pool_influencers set visibility = 'PUBLIC' where id = any($1)", &uuids)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    ids
}

/// Changes one column of a creator, as an admin's action will.
pub async fn set(db: &TestDb, id: InfluencerId, column: &str, value: Option<&str>) {
    let statement = format!("update pool_influencers set {column} = $2::text where id = $1");
    let statement =
        statement.replace("$2::text", if column == "deleted_at" { "$2::timestamptz" } else { "$2" });
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.uuid()).bind(value).execute(db.pool()).await.unwrap();
}
