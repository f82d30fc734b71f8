//! Saving what a crawl found.
//!
//! Whose entry it is: the one with the vendor's profile id; else the one with that platform and username (letter
//! case aside) if no vendor id is known for it yet; else a new one. So a rename changes the entry's username and
//! makes no second entry.
//!
//! A name that another entry holds: on a platform one name is one creator's, so the crawl just made is right and
//! the other entry's name is out of date (its creator was renamed, or deleted and the name taken over). The other
//! entry keeps all it has but its name, which gets a suffix no platform allows; its sync is marked FAILED with the
//! reason, for an administrator to see, unless it was paused or archived. Its own next crawl gives it its new name
//! and makes it ACTIVE again. Nothing is merged: vendor ids that differ are different creators to us.
//!
//! At the same time: advisory locks of this transaction on the vendor id and on the name, taken in one order, so
//! that whoever could make either exist waits; then the rows that hold either, in the order of their ids.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::Platform;
use kernel::ids::{InfluencerId, PartnerId};
use kernel::sealing::Keyring;
use uuid::Uuid;

use crate::PoolError;
use crate::entry::sealed_in;
use crate::tier::InfluencerTier;

pub(crate) const TABLE: &str = "pool_influencers";

/// What a crawl found, in the pool's words.
#[derive(Clone)]
pub struct Crawl {
    /// Where the profile is.
    pub platform: Platform,
    /// How it was asked for: `ProfileUrl::lookup_key`.
    pub lookup_key: String,
    /// The vendor's id of the profile, opaque.
    pub vb_profile_id: String,
    /// As on the platform, in its original case. A leading `@` is dropped.
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
    /// Sealed before it is stored.
    pub contact_email: Option<String>,
    /// Sealed before it is stored.
    pub contact_phone: Option<String>,
    /// When the vendor crawled it. A time ahead of the database's clock is taken as now.
    pub crawled_at: DateTime<Utc>,
    /// The partner whose request it was, which is remembered if the entry is new.
    pub added_by_partner: Option<PartnerId>,
}

/// Saves a crawl: the entry it belongs to, made or updated, and the crawl itself for reuse under its lookup key.
pub async fn save_crawl(
    conn: &mut Connection,
    keyring: &Keyring,
    crawl: Crawl,
) -> Result<InfluencerId, PoolError> {
    let crawl = crawl.storable();
    lock(conn, &crawl).await?;
    let holders = holders(conn, &crawl).await?;
    let known = holders.iter().find(|holder| holder.is_same_profile);
    if known.is_some_and(|holder| holder.platform != crawl.platform.as_str()) {
        return Err(PoolError::OtherPlatform);
    }
    let named = holders.iter().find(|holder| holder.is_same_name);
    let id = match (known, named) {
        (Some(known), _) => Some(known.id),
        (None, Some(named)) if !named.has_vendor_id => Some(named.id),
        _ => None,
    };
    if let Some(outdated) = named.filter(|named| Some(named.id) != id) {
        take_name_from(conn, outdated.id, &crawl).await?;
    }
    let id = match id {
        Some(id) => {
            let id = InfluencerId::from_uuid(id);
            update(conn, id, &crawl, &Sealed::of(&crawl, keyring, id)).await?;
            id
        }
        None => {
            let id = InfluencerId::new();
            insert(conn, id, &crawl, &Sealed::of(&crawl, keyring, id)).await?;
            id
        }
    };
    remember(conn, &crawl, id).await?;
    Ok(id)
}

impl Crawl {
    /// Without what PostgreSQL's text cannot hold, and the name as we show it.
    fn storable(mut self) -> Self {
        let texts =
            [&mut self.vb_profile_id, &mut self.username, &mut self.display_name, &mut self.lookup_key];
        for text in texts.into_iter().chain(self.avatar_url.as_mut()).chain(self.bio.as_mut()) {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        }
        if let Some(name) = self.username.strip_prefix('@') {
            self.username = name.to_owned();
        }
        self
    }
}

/// Waits for other crawls of the same vendor id or the same name, in one order for all.
async fn lock(conn: &mut Connection, crawl: &Crawl) -> Result<(), PoolError> {
    sqlx::query!(
        "select pg_advisory_xact_lock(key)
         from (
             select distinct hashtextextended(name, 0) as key
             from unnest(array['pool/id/' || $1, 'pool/name/' || $2 || '/' || lower($3)]) as name
             order by key
         ) keys",
        crawl.vb_profile_id,
        crawl.platform.as_str(),
        crawl.username,
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// An entry with the crawl's vendor id, or with its name, or with both.
struct Holder {
    id: Uuid,
    platform: String,
    has_vendor_id: bool,
    is_same_profile: bool,
    is_same_name: bool,
}

async fn holders(conn: &mut Connection, crawl: &Crawl) -> Result<Vec<Holder>, PoolError> {
    let holders = sqlx::query_as!(
        Holder,
        r#"select id, platform, vb_profile_id is not null as "has_vendor_id!",
                  coalesce(vb_profile_id = $1, false) as "is_same_profile!",
                  platform = $2 and lower(username) = lower($3) as "is_same_name!"
           from pool_influencers
           where vb_profile_id = $1 or (platform = $2 and lower(username) = lower($3))
           order by id
           for update"#,
        crawl.vb_profile_id,
        crawl.platform.as_str(),
        crawl.username,
    )
    .fetch_all(conn)
    .await?;
    Ok(holders)
}

async fn take_name_from(conn: &mut Connection, id: Uuid, crawl: &Crawl) -> Result<(), PoolError> {
    sqlx::query!(
        "update pool_influencers
         set username = username || '~' || replace(id::text, '-', ''),
             sync_status = case when sync_status in ('PAUSED', 'ARCHIVED') then sync_status else 'FAILED' end,
             sync_error = 'the username ' || username || ' now belongs to the vendor profile ' || $2::text,
             updated_at = now()
         where id = $1",
        id,
        crawl.vb_profile_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The contact details as stored: sealed for their column of their row.
struct Sealed {
    email: Option<Vec<u8>>,
    phone: Option<Vec<u8>>,
}

impl Sealed {
    fn of(crawl: &Crawl, keyring: &Keyring, id: InfluencerId) -> Self {
        let seal = |value: &Option<String>, column| {
            value.as_ref().map(|value| keyring.seal(value.as_bytes(), &sealed_in(column, id)))
        };
        Self {
            email: seal(&crawl.contact_email, "contact_email"),
            phone: seal(&crawl.contact_phone, "contact_phone"),
        }
    }
}

async fn insert(
    conn: &mut Connection,
    id: InfluencerId,
    crawl: &Crawl,
    sealed: &Sealed,
) -> Result<(), PoolError> {
    sqlx::query_file!(
        "src/insert.sql",
        id.uuid(),
        crawl.vb_profile_id,
        crawl.platform.as_str(),
        crawl.username,
        crawl.display_name,
        crawl.avatar_url,
        crawl.bio,
        crawl.followers,
        crawl.following,
        crawl.engagement,
        crawl.avg_views,
        crawl.avg_likes,
        crawl.avg_comments,
        crawl.score,
        crawl.score_reach,
        crawl.score_engagement,
        crawl.score_authenticity,
        InfluencerTier::of(crawl.followers).as_str(),
        sealed.email,
        sealed.phone,
        crawl.crawled_at,
        crawl.added_by_partner.map(PartnerId::uuid),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn update(
    conn: &mut Connection,
    id: InfluencerId,
    crawl: &Crawl,
    sealed: &Sealed,
) -> Result<(), PoolError> {
    sqlx::query_file!(
        "src/update.sql",
        id.uuid(),
        crawl.vb_profile_id,
        crawl.username,
        crawl.display_name,
        crawl.avatar_url,
        crawl.bio,
        crawl.followers,
        crawl.following,
        crawl.engagement,
        crawl.avg_views,
        crawl.avg_likes,
        crawl.avg_comments,
        crawl.score,
        crawl.score_reach,
        crawl.score_engagement,
        crawl.score_authenticity,
        InfluencerTier::of(crawl.followers).as_str(),
        sealed.email,
        sealed.phone,
        crawl.crawled_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn remember(conn: &mut Connection, crawl: &Crawl, id: InfluencerId) -> Result<(), PoolError> {
    sqlx::query!(
        "insert into pool_crawls (platform, lookup_key, influencer_id, crawled_at)
         values ($1, $2, $3, now())
         on conflict (platform, lookup_key) do update
         set influencer_id = excluded.influencer_id, crawled_at = excluded.crawled_at",
        crawl.platform.as_str(),
        crawl.lookup_key,
        id.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from pool_misses where platform = $1 and lookup_key = $2",
        crawl.platform.as_str(),
        crawl.lookup_key,
    )
    .execute(conn)
    .await?;
    Ok(())
}
