//! Waiting for jobs to end.

use std::time::Duration;

use futures::future::join_all;
use queue::{Waker, Watcher};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::support::{TestDb, WAIT_MAX, eventually, within};

const SYSTEM: TenantId = TenantId::SYSTEM;

/// A watcher that hears no signal at all and has one connection.
fn watching(db: &TestDb) -> (Watcher, JoinSet<()>) {
    let watcher = Watcher::new();
    let mut running = JoinSet::new();
    running.spawn(watcher.clone().run(db.connect_more(1), Waker::new()));
    (watcher, running)
}

#[tokio::test]
async fn many_who_wait_are_served_by_one_connection_without_any_signal() {
    let db = TestDb::new().await;
    let (watcher, _running) = watching(&db);
    let mut claims = Vec::new();
    for _ in 0..20 {
        claims.push(running(db.pool(), plain()).await);
    }
    let waiting = claims
        .iter()
        .flat_map(|claim| (0..5).map(|_| watcher.until_ended(SYSTEM, claim.lease.job, WAIT_MAX)));
    let ending = async {
        for claim in &claims {
            end(db.pool(), claim.lease, done(json!(1))).await;
        }
    };
    let (ended, ()) = tokio::join!(join_all(waiting), ending);
    assert_eq!(ended, [true; 100]);
}

#[tokio::test]
async fn a_wait_ends_with_its_time_when_the_job_does_not() {
    let db = TestDb::new().await;
    let (watcher, _running) = watching(&db);
    let claim = running(db.pool(), plain()).await;
    let job = claim.lease.job;
    assert!(!watcher.until_ended(SYSTEM, job, Duration::from_millis(30)).await);
    let snoozed = settle(db.pool(), claim.lease, Settlement::Again(LONG)).await;
    assert!(snoozed.refused.is_empty());
    assert!(!watcher.until_ended(SYSTEM, job, Duration::from_millis(30)).await, "a snooze is no end");
    cancel(db.pool(), SYSTEM, job).await;
    assert!(watcher.until_ended(SYSTEM, job, WAIT_MAX).await);
}

#[tokio::test]
async fn who_stops_waiting_does_not_disturb_the_others() {
    let db = TestDb::new().await;
    let (watcher, _running) = watching(&db);
    let claim = running(db.pool(), plain()).await;
    let wait = || {
        let (watcher, job) = (watcher.clone(), claim.lease.job);
        tokio::spawn(async move { watcher.until_ended(SYSTEM, job, WAIT_MAX).await })
    };
    let (gone, stays) = (wait(), wait());
    gone.abort();
    end(db.pool(), claim.lease, done(json!(1))).await;
    assert!(within("the one that stayed", stays).await.unwrap());
}

#[tokio::test]
async fn a_watch_outlives_a_database_that_ends_its_connections() {
    let db = TestDb::new().await;
    let (watcher, _running) = watching(&db);
    let claim = running(db.pool(), plain()).await;
    let job = claim.lease.job;
    let waiting = tokio::spawn(async move { watcher.until_ended(SYSTEM, job, WAIT_MAX).await });
    eventually("the watcher's connection is ended", async || {
        let ended = sqlx::query!(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and query like '%where not exists (select from jobs j%'
               and query not like '%pg_terminate_backend%'"
        );
        !ended.fetch_all(db.pool()).await.unwrap().is_empty()
    })
    .await;
    end(db.pool(), claim.lease, done(json!(1))).await;
    assert!(within("the watch to go on", waiting).await.unwrap());
}
