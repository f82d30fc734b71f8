//! An entry of the pool as admins see it in lists: private ones too, and no contact details.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::Platform;
use kernel::ids::InfluencerId;
use uuid::Uuid;

use crate::PoolError;

/// What lists show of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedEntry {
    /// Its id in the pool.
    pub id: InfluencerId,
    /// The vendor's id of it; none: entered by hand.
    pub vb_profile_id: Option<String>,
    /// Where it is.
    pub platform: Platform,
    /// Without `@`.
    pub username: String,
    /// The name shown on the platform.
    pub display_name: String,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// Followers.
    pub followers: i64,
    /// Engagement rate in percent.
    pub engagement: f64,
    /// The vendor's total score, 0 to 100.
    pub score: i32,
    /// What it is about.
    pub category: Option<String>,
    /// `STANDARD`, `PREMIUM` or `VIP`.
    pub tier: String,
    /// `PUBLIC` or `PRIVATE`.
    pub visibility: String,
    /// `MANUAL`, `PARTNER` or `BULK_IMPORT`.
    pub source: String,
    /// `ACTIVE`, `PAUSED`, `FAILED` or `ARCHIVED`.
    pub sync_status: String,
    /// When the vendor was asked last.
    pub synced_at: Option<DateTime<Utc>>,
    /// Why that failed.
    pub sync_error: Option<String>,
    /// Since when it is in the pool.
    pub created_at: DateTime<Utc>,
}

/// Entries in the order of the ids; whoever was removed is left out.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn listed(conn: &mut Connection, ids: &[InfluencerId]) -> Result<Vec<ListedEntry>, PoolError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select id, vb_profile_id, platform, username, display_name, avatar_url, followers,
               engagement::float8 as "engagement!", score, category, tier, visibility, source, sync_status,
               synced_at, sync_error, created_at
        from pool_influencers
        where id = any($1) and deleted_at is null
        "#,
        &uuids,
    )
    .fetch_all(conn)
    .await?;
    let mut by_id = HashMap::with_capacity(rows.len());
    for row in rows {
        let id = InfluencerId::from_uuid(row.id);
        let entry = ListedEntry {
            id,
            vb_profile_id: row.vb_profile_id,
            platform: row.platform.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            username: row.username,
            display_name: row.display_name,
            avatar_url: row.avatar_url,
            followers: row.followers,
            engagement: row.engagement,
            score: row.score,
            category: row.category,
            tier: row.tier,
            visibility: row.visibility,
            source: row.source,
            sync_status: row.sync_status,
            synced_at: row.synced_at,
            sync_error: row.sync_error,
            created_at: row.created_at,
        };
        by_id.insert(id, entry);
    }
    Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
}
