//! A crawled profile as it is read and as it is told: never with contact details, which cost quota.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::Platform;
use kernel::ids::InfluencerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::PoolError;

/// A profile of the pool that was crawled at least once.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolProfile {
    /// Its id in the pool.
    pub id: InfluencerId,
    /// The vendor's id, opaque.
    pub vb_profile_id: String,
    /// Where it is.
    pub platform: Platform,
    /// Without `@`, in its original case.
    pub username: String,
    /// The name shown on the platform.
    pub display_name: String,
    /// Followers at the last crawl.
    pub followers: i64,
    /// Followed accounts at the last crawl.
    pub following: i64,
    /// Engagement rate in percent.
    pub engagement: f64,
    /// Average views of a post.
    pub avg_views: Option<i64>,
    /// Average likes of a post.
    pub avg_likes: Option<i64>,
    /// Average comments on a post.
    pub avg_comments: Option<i64>,
    /// The vendor's total score, 0 to 100.
    pub score: i32,
    /// Its reach component.
    pub score_reach: Option<i32>,
    /// Its engagement component.
    pub score_engagement: Option<i32>,
    /// Its authenticity component.
    pub score_authenticity: Option<i32>,
    /// When the vendor crawled it.
    pub crawled_at: DateTime<Utc>,
}

/// The `profile` of a finished enrich job and of its callback (S0 3.6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileResult {
    /// The vendor's id, `vb_prof_…`.
    pub id: String,
    /// `tiktok`, `youtube`, `instagram` or `facebook`.
    pub platform: Platform,
    /// Without `@`.
    pub username: String,
    /// The name shown on the platform.
    pub display_name: String,
    /// Followers at the crawl.
    pub followers: i64,
    /// Engagement rate in percent.
    pub engagement: f64,
    /// The total score, 0 to 100.
    pub score: i32,
    /// What else the crawl measured.
    pub metrics: ProfileMetrics,
    /// When the vendor crawled it.
    pub crawled_at: DateTime<Utc>,
    /// The pool's id, `at_inf_…`.
    pub pool_influencer_id: InfluencerId,
}

/// The `metrics` of a [`ProfileResult`]. What the vendor does not know is `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileMetrics {
    /// Followed accounts.
    pub following: i64,
    /// Average views of a post.
    pub avg_views: Option<i64>,
    /// Average likes of a post.
    pub avg_likes: Option<i64>,
    /// Average comments on a post.
    pub avg_comments: Option<i64>,
    /// The score's reach component.
    pub score_reach: Option<i32>,
    /// The score's engagement component.
    pub score_engagement: Option<i32>,
    /// The score's authenticity component.
    pub score_authenticity: Option<i32>,
}

impl From<PoolProfile> for ProfileResult {
    fn from(profile: PoolProfile) -> Self {
        Self {
            id: profile.vb_profile_id,
            platform: profile.platform,
            username: profile.username,
            display_name: profile.display_name,
            followers: profile.followers,
            engagement: profile.engagement,
            score: profile.score,
            metrics: ProfileMetrics {
                following: profile.following,
                avg_views: profile.avg_views,
                avg_likes: profile.avg_likes,
                avg_comments: profile.avg_comments,
                score_reach: profile.score_reach,
                score_engagement: profile.score_engagement,
                score_authenticity: profile.score_authenticity,
            },
            crawled_at: profile.crawled_at,
            pool_influencer_id: profile.id,
        }
    }
}

/// The entry of that id, if it exists and was ever crawled.
pub async fn get(conn: &mut Connection, id: InfluencerId) -> Result<Option<PoolProfile>, PoolError> {
    let row = sqlx::query_as!(
        ProfileRow,
        r#"select id, vb_profile_id as "vb_profile_id!", platform, username, display_name, followers, following,
                  engagement::float8 as "engagement!", avg_views, avg_likes, avg_comments, score, score_reach,
                  score_engagement, score_authenticity, synced_at as "synced_at!"
           from pool_influencers
           where id = $1 and vb_profile_id is not null and synced_at is not null"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(PoolProfile::try_from).transpose()
}

/// The columns of a [`PoolProfile`] as they come from the database.
pub(crate) struct ProfileRow {
    pub(crate) id: Uuid,
    pub(crate) vb_profile_id: String,
    pub(crate) platform: String,
    pub(crate) username: String,
    pub(crate) display_name: String,
    pub(crate) followers: i64,
    pub(crate) following: i64,
    pub(crate) engagement: f64,
    pub(crate) avg_views: Option<i64>,
    pub(crate) avg_likes: Option<i64>,
    pub(crate) avg_comments: Option<i64>,
    pub(crate) score: i32,
    pub(crate) score_reach: Option<i32>,
    pub(crate) score_engagement: Option<i32>,
    pub(crate) score_authenticity: Option<i32>,
    pub(crate) synced_at: DateTime<Utc>,
}

impl TryFrom<ProfileRow> for PoolProfile {
    type Error = PoolError;

    fn try_from(row: ProfileRow) -> Result<Self, PoolError> {
        let platform = row.platform.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self {
            id: InfluencerId::from_uuid(row.id),
            vb_profile_id: row.vb_profile_id,
            platform,
            username: row.username,
            display_name: row.display_name,
            followers: row.followers,
            following: row.following,
            engagement: row.engagement,
            avg_views: row.avg_views,
            avg_likes: row.avg_likes,
            avg_comments: row.avg_comments,
            score: row.score,
            score_reach: row.score_reach,
            score_engagement: row.score_engagement,
            score_authenticity: row.score_authenticity,
            crawled_at: row.synced_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_the_callbacks_names_and_no_contact_details() {
        let id = InfluencerId::new();
        let profile = PoolProfile {
            id,
            vb_profile_id: "vb_prof_abc".into(),
            platform: Platform::Tiktok,
            username: "MrBeast".into(),
            display_name: "Mr Beast".into(),
            followers: 250_000,
            following: 12,
            engagement: 4.5,
            avg_views: Some(1_000),
            avg_likes: None,
            avg_comments: Some(3),
            score: 87,
            score_reach: Some(90),
            score_engagement: Some(80),
            score_authenticity: None,
            crawled_at: "2026-11-21T10:00:00Z".parse().unwrap(),
        };
        let result = ProfileResult::from(profile);
        let json = serde_json::to_value(&result).unwrap();
        let expected = serde_json::json!({
            "id": "vb_prof_abc",
            "platform": "tiktok",
            "username": "MrBeast",
            "displayName": "Mr Beast",
            "followers": 250_000,
            "engagement": 4.5,
            "score": 87,
            "metrics": {
                "following": 12,
                "avgViews": 1_000,
                "avgLikes": null,
                "avgComments": 3,
                "scoreReach": 90,
                "scoreEngagement": 80,
                "scoreAuthenticity": null,
            },
            "crawledAt": "2026-11-21T10:00:00Z",
            "poolInfluencerId": id.to_string(),
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<ProfileResult>(json).unwrap(), result);
    }
}
