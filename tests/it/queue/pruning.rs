//! History in weekly partitions: made ahead, dropped when old, never in the way of a job that ends.

use std::time::Duration;

use db::Pool;
use kernel::clock::now;
use kernel::ids::JobId;
use queue::End;
use sqlx::AssertSqlSafe;

use super::*;
use crate::support::TestDb;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn execute(pool: &Pool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

/// How many rows of history the overflow holds.
async fn overflowing(pool: &Pool) -> i64 {
    sqlx::query_scalar!(r#"select count(*) as "n!" from jobs_finished_overflow"#)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// A finished job, as if it had ended at another time.
async fn ended_at(pool: &Pool, from_now: &str) -> JobId {
    let claim = running(pool, plain()).await;
    end(pool, claim.lease, End::Completed(None)).await;
    let moved = format!(
        "update jobs_finished set finished_at = now() + interval '{from_now}' where id = '{}'",
        claim.lease.job.uuid()
    );
    execute(pool, &moved).await;
    claim.lease.job
}

async fn is_there(pool: &Pool, job: JobId) -> bool {
    let mut conn = pool.acquire().await.unwrap();
    queue::get(&mut conn, TenantId::SYSTEM, job).await.unwrap().is_some()
}

#[tokio::test]
async fn the_coming_weeks_have_their_partitions_from_the_start() {
    let db = TestDb::new().await;
    let pruned = queue::prune(db.pool(), 35 * DAY).await.unwrap();
    assert_eq!((pruned.partitions_created, pruned.partitions_dropped), (0, 0));
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(overflowing(db.pool()).await, 0);
}

#[tokio::test]
async fn weeks_beyond_retention_are_dropped_whole_and_younger_ones_stay() {
    let db = TestDb::new().await;
    execute(
        db.pool(),
        "select create_jobs_finished_partition(now() - n * interval '7 days') from generate_series(1, 10) n",
    )
    .await;
    let old = ended_at(db.pool(), "-60 days").await;
    let young = ended_at(db.pool(), "-20 days").await;
    let pruned = queue::prune(db.pool(), 35 * DAY).await.unwrap();
    assert!((4..=5).contains(&pruned.partitions_dropped), "{pruned:?}");
    assert!(!is_there(db.pool(), old).await);
    assert!(is_there(db.pool(), young).await);
    let again = queue::prune(db.pool(), 35 * DAY).await.unwrap();
    assert_eq!((again.partitions_created, again.partitions_dropped), (0, 0));
}

#[tokio::test]
async fn a_missing_partition_stops_no_job_from_ending_and_is_made_good_later() {
    let db = TestDb::new().await;
    let this_week = sqlx::query_scalar!(
        r#"select 'jobs_finished_' || to_char(now() at time zone 'UTC', 'IYYY"w"IW') as "name!""#
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    execute(db.pool(), &format!("drop table {this_week}")).await;
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(overflowing(db.pool()).await, 1);
    assert!(is_there(db.pool(), claim.lease.job).await);

    let pruned = queue::prune(db.pool(), 35 * DAY).await.unwrap();
    assert_eq!(pruned.partitions_created, 1);
    assert_eq!(overflowing(db.pool()).await, 0);
    assert!(is_there(db.pool(), claim.lease.job).await);
}

#[tokio::test]
async fn what_the_overflow_caught_outlives_its_retention_no_more_than_the_rest() {
    let db = TestDb::new().await;
    let old = ended_at(db.pool(), "-60 days").await;
    assert_eq!(overflowing(db.pool()).await, 1);
    queue::prune(db.pool(), 35 * DAY).await.unwrap();
    assert!(!is_there(db.pool(), old).await);
}

#[tokio::test]
async fn keys_that_outlived_their_job_and_their_time_are_removed_and_no_others() {
    let db = TestDb::new().await;
    let passed = now() - DAY;
    let later = now() + DAY;
    let ended = running(db.pool(), plain().unique_until("held", later)).await;
    end(db.pool(), ended.lease, End::Completed(None)).await;
    let expired = running(db.pool(), plain().unique_until("expired", later)).await;
    end(db.pool(), expired.lease, End::Completed(None)).await;
    sqlx::query!("update job_unique_keys set held_until = now() - interval '1 s' where key = 'expired'")
        .execute(db.pool())
        .await
        .unwrap();
    stored(db.pool(), plain().unique("live")).await;
    stored(db.pool(), plain().unique_until("live and passed", passed)).await;

    assert_eq!(queue::prune(db.pool(), 35 * DAY).await.unwrap().keys_removed, 1);
    let left = sqlx::query_scalar!("select key from job_unique_keys order by key")
        .fetch_all(db.pool())
        .await
        .unwrap();
    assert_eq!(left, ["held", "live", "live and passed"]);
}

#[tokio::test]
async fn pruning_may_run_in_many_places_at_once() {
    let db = TestDb::new().await;
    execute(
        db.pool(),
        "select create_jobs_finished_partition(now() - n * interval '7 days') from generate_series(6, 9) n",
    )
    .await;
    let pruned = futures::future::join_all((0..4).map(|_| queue::prune(db.pool(), 35 * DAY))).await;
    let dropped: u32 = pruned.into_iter().map(|pruned| pruned.unwrap().partitions_dropped).sum();
    assert_eq!(dropped, 4);
}
