//! An entry of the pool as a partner gets it once it was approved.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::Platform;
use kernel::ids::InfluencerId;
use kernel::sealing::{Keyring, SealContext};
use uuid::Uuid;

use crate::PoolError;
use crate::crawl::TABLE;

/// All that partners may have of an entry. Its contact details are sealed until [`PoolEntry::contact`].
#[derive(Debug, Clone, PartialEq)]
pub struct PoolEntry {
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
    /// Its self-description.
    pub bio: Option<String>,
    /// Followers.
    pub followers: i64,
    /// Followed accounts.
    pub following: i64,
    /// Engagement rate in percent.
    pub engagement: f64,
    /// The vendor's total score, 0 to 100.
    pub score: i32,
    /// What it is about.
    pub category: Option<String>,
    /// `STANDARD`, `PREMIUM` or `VIP`.
    pub tier: String,
    /// Average views of a post.
    pub avg_views: Option<i64>,
    /// Average likes of a post.
    pub avg_likes: Option<i64>,
    /// Average comments on a post.
    pub avg_comments: Option<i64>,
    /// When the vendor was asked last.
    pub synced_at: Option<DateTime<Utc>>,
    contact_email: Option<Vec<u8>>,
    contact_phone: Option<Vec<u8>>,
}

/// How to reach a creator.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// By mail.
    pub email: Option<String>,
    /// By telephone.
    pub phone: Option<String>,
}

/// The context in which a contact detail is sealed. Nobody owns shared data.
pub(crate) fn sealed_in(column: &'static str, id: InfluencerId) -> SealContext {
    SealContext { table: TABLE, column, owner: Uuid::nil(), row: id.uuid() }
}

impl PoolEntry {
    /// The contact details in clear. Do not log them.
    ///
    /// # Errors
    /// [`PoolError::Sealed`] when they were sealed with other keys or for another row.
    pub fn contact(&self, keyring: &Keyring) -> Result<Contact, PoolError> {
        let open = |sealed: &Option<Vec<u8>>, column| {
            let opened = sealed.as_ref().map(|sealed| keyring.open(sealed, &sealed_in(column, self.id)));
            let opened = opened.transpose().map_err(PoolError::Sealed)?;
            Ok::<_, PoolError>(opened.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let email = open(&self.contact_email, "contact_email")?;
        Ok(Contact { email, phone: open(&self.contact_phone, "contact_phone")? })
    }
}

/// Those of these entries that partners may have, in no order.
///
/// # Errors
/// [`PoolError::Database`].
pub async fn servable(conn: &mut Connection, ids: &[InfluencerId]) -> Result<Vec<PoolEntry>, PoolError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select id, platform, username, display_name, avatar_url, bio, followers, following,
               engagement::float8 as "engagement!", score, category, tier, avg_views, avg_likes, avg_comments,
               synced_at, contact_email, contact_phone
        from pool_influencers
        where id = any($1) and visibility = 'PUBLIC' and deleted_at is null
        "#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let entries = rows.into_iter().map(|row| {
        Ok(PoolEntry {
            id: InfluencerId::from_uuid(row.id),
            platform: row.platform.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            username: row.username,
            display_name: row.display_name,
            avatar_url: row.avatar_url,
            bio: row.bio,
            followers: row.followers,
            following: row.following,
            engagement: row.engagement,
            score: row.score,
            category: row.category,
            tier: row.tier,
            avg_views: row.avg_views,
            avg_likes: row.avg_likes,
            avg_comments: row.avg_comments,
            synced_at: row.synced_at,
            contact_email: row.contact_email,
            contact_phone: row.contact_phone,
        })
    });
    entries.collect()
}
