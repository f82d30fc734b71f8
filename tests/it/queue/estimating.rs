//! How long jobs of a kind take.

use std::time::Duration;

use db::Pool;
use queue::{End, usual_duration};

use super::kinds::{Scripted, Urgent};
use super::*;
use crate::support::TestDb;

async fn took(pool: &Pool, seconds: f64, ending: End) {
    let claim = running(pool, plain()).await;
    end(pool, claim.lease, ending).await;
    sqlx::query!(
        "update jobs_finished set created_at = finished_at - $2 * interval '1 second' where id = $1",
        claim.lease.job.uuid(),
        seconds,
    )
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn the_usual_duration_is_the_median_of_what_lately_succeeded() {
    let db = TestDb::new().await;
    for seconds in [1.0, 2.0, 60.0] {
        took(db.pool(), seconds, End::Completed(None)).await;
    }
    for _ in 0..5 {
        took(db.pool(), 500.0, End::Failed(failure("X"))).await;
    }
    assert_eq!(usual_duration::<Scripted>(db.pool()).await.unwrap(), Duration::from_secs(2));
}

#[tokio::test]
async fn a_kind_without_history_is_assumed_to_take_ten_seconds() {
    let db = TestDb::new().await;
    took(db.pool(), 1.0, End::Completed(None)).await;
    assert_eq!(usual_duration::<Urgent>(db.pool()).await.unwrap(), Duration::from_secs(10));
}
