//! What a search shows of a creator: nothing that costs quota.

use std::collections::HashMap;

use db::Connection;
use kernel::Platform;
use kernel::ids::InfluencerId;
use serde::Serialize;
use uuid::Uuid;

use crate::PoolError;

/// A creator without contact details and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Its id in the pool.
    pub id: InfluencerId,
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
    /// What it is about.
    pub category: Option<String>,
    /// `STANDARD`, `PREMIUM` or `VIP`.
    pub tier: String,
    /// 0 to 100.
    pub score: i32,
}

/// Previews in the order of the ids; whoever is not public is left out.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn previews(conn: &mut Connection, ids: &[InfluencerId]) -> Result<Vec<Preview>, PoolError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "
        select id, platform, username, display_name, avatar_url, followers, category, tier, score
        from pool_influencers
        where id = any($1) and visibility = 'PUBLIC' and deleted_at is null
        ",
        &uuids,
    )
    .fetch_all(conn)
    .await?;
    let mut by_id = HashMap::with_capacity(rows.len());
    for row in rows {
        let platform = row.platform.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let id = InfluencerId::from_uuid(row.id);
        let preview = Preview {
            id,
            platform,
            username: row.username,
            display_name: row.display_name,
            avatar_url: row.avatar_url,
            followers: row.followers,
            category: row.category,
            tier: row.tier,
            score: row.score,
        };
        by_id.insert(id, preview);
    }
    Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
}
