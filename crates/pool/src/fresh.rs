//! Which crawls, and which failures to find a profile, may be used again; and forgetting those that may not.
//!
//! Age is counted from the moment the crawl was saved, by the database's clock: the vendor's clock, or a vendor
//! that answers with an older crawl of its own, must not make us ask it twice a day. What the vendor says about
//! the age of its data is told in `crawledAt`.

use std::time::Duration;

use db::Connection;
use kernel::Platform;

use crate::PoolError;
use crate::profile::{PoolProfile, ProfileRow};

/// The profile that `lookup_key` names, if it was crawled under that key within `age_max`.
pub async fn fresh(
    conn: &mut Connection,
    platform: Platform,
    lookup_key: &str,
    age_max: Duration,
) -> Result<Option<PoolProfile>, PoolError> {
    let row = sqlx::query_as!(
        ProfileRow,
        r#"select i.id, i.vb_profile_id as "vb_profile_id!", i.platform, i.username, i.display_name, i.followers,
                  i.following, i.engagement::float8 as "engagement!", i.avg_views, i.avg_likes, i.avg_comments,
                  i.score, i.score_reach, i.score_engagement, i.score_authenticity, i.synced_at as "synced_at!"
           from pool_crawls c
           join pool_influencers i on i.id = c.influencer_id
           where c.platform = $1 and c.lookup_key = $2 and c.crawled_at > now() - make_interval(secs => $3)
             and i.vb_profile_id is not null and i.synced_at is not null"#,
        platform.as_str(),
        lookup_key,
        age_max.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(PoolProfile::try_from).transpose()
}

/// Whether the vendor said within `age_max` that it cannot find what `lookup_key` names.
pub async fn missed(
    conn: &mut Connection,
    platform: Platform,
    lookup_key: &str,
    age_max: Duration,
) -> Result<bool, PoolError> {
    let missed = sqlx::query_scalar!(
        r#"select exists (
               select from pool_misses
               where platform = $1 and lookup_key = $2 and missed_at > now() - make_interval(secs => $3)
           ) as "missed!""#,
        platform.as_str(),
        lookup_key,
        age_max.as_secs_f64(),
    )
    .fetch_one(conn)
    .await?;
    Ok(missed)
}

/// Remembers that the vendor cannot find what `lookup_key` names. Saving a crawl under that key forgets it.
pub async fn save_miss(conn: &mut Connection, platform: Platform, lookup_key: &str) -> Result<(), PoolError> {
    sqlx::query!(
        "insert into pool_misses (platform, lookup_key, missed_at)
         values ($1, $2, now())
         on conflict (platform, lookup_key) do update set missed_at = excluded.missed_at",
        platform.as_str(),
        lookup_key,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets at most `rows_max` misses older than `age`, and says how many; repeat until it is fewer than
/// `rows_max`.
pub async fn prune_misses(conn: &mut Connection, age: Duration, rows_max: i64) -> Result<u64, PoolError> {
    let deleted = sqlx::query!(
        "delete from pool_misses m
         using (
             select platform, lookup_key from pool_misses
             where missed_at < now() - make_interval(secs => $1)
             limit $2
             for update skip locked
         ) old
         where m.platform = old.platform and m.lookup_key = old.lookup_key",
        age.as_secs_f64(),
        rows_max,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Forgets at most `rows_max` crawls older than `age`, and says how many; repeat until it is fewer than
/// `rows_max`. Profiles stay.
pub async fn prune_crawls(conn: &mut Connection, age: Duration, rows_max: i64) -> Result<u64, PoolError> {
    let deleted = sqlx::query!(
        "delete from pool_crawls c
         using (
             select platform, lookup_key from pool_crawls
             where crawled_at < now() - make_interval(secs => $1)
             limit $2
             for update skip locked
         ) old
         where c.platform = old.platform and c.lookup_key = old.lookup_key",
        age.as_secs_f64(),
        rows_max,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
