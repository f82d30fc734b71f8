//! The schema of what a finished enrich tells. The value itself comes from the job as it is stored; a test keeps the
//! two together.

use chrono::{DateTime, Utc};
use utoipa::ToSchema;

/// The result of a completed `profiles.enrich`.
#[derive(Debug, ToSchema)]
#[allow(dead_code)] // Documentation only.
pub struct EnrichResult {
    profile: Profile,
    /// True when the vendor did not answer and this is an older crawl; else absent.
    #[schema(required = false, nullable = false)]
    stale: bool,
}

/// A creator's profile. It never holds contact details.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", example = json!({
    "id": "vb_prof_123",
    "platform": "tiktok",
    "username": "example",
    "displayName": "Example Creator",
    "followers": 50000,
    "engagement": 4.2,
    "score": 75,
    "metrics": {
        "following": 320,
        "avgViews": 41000,
        "avgLikes": 2000,
        "avgComments": 100,
        "scoreReach": 70,
        "scoreEngagement": 78,
        "scoreAuthenticity": 77
    },
    "crawledAt": "2026-01-31T10:00:00.000Z",
    "poolInfluencerId": "at_inf_01jd8x4xkre9a8y9tbn2p5q3mw"
}))]
#[allow(dead_code)] // Documentation only.
pub struct Profile {
    /// The vendor's id, `vb_prof_…`; opaque.
    id: String,
    /// `tiktok`, `youtube`, `instagram` or `facebook`.
    platform: String,
    /// Without `@`.
    username: String,
    /// The name shown on the platform.
    display_name: String,
    /// Followers at the crawl.
    followers: i64,
    /// Engagement rate in percent.
    engagement: f64,
    /// The total score, 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    score: i32,
    metrics: ProfileMetrics,
    /// When the vendor crawled it.
    crawled_at: DateTime<Utc>,
    /// The pool's id, `at_inf_…`.
    pool_influencer_id: String,
}

/// What else the crawl measured; null is what the vendor does not know.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // Documentation only.
struct ProfileMetrics {
    /// Followed accounts.
    #[schema(example = 312)]
    following: i64,
    /// Average views of a post.
    #[schema(required = true)]
    avg_views: Option<i64>,
    /// Average likes of a post.
    #[schema(required = true)]
    avg_likes: Option<i64>,
    /// Average comments on a post.
    #[schema(required = true)]
    avg_comments: Option<i64>,
    /// The score's reach component, 0 to 100.
    #[schema(required = true)]
    score_reach: Option<i32>,
    /// The score's engagement component, 0 to 100.
    #[schema(required = true)]
    score_engagement: Option<i32>,
    /// The score's authenticity component, 0 to 100.
    #[schema(required = true)]
    score_authenticity: Option<i32>,
}
