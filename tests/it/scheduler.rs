//! Cron lines to jobs: each tick once, whoever and however many look.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Pool;
use futures::future::join_all;
use jobs::maintenance::PruneJobs;
use queue::{NewJob, Queue, Waker};
use scheduler::{LOOK_BACK, Schedule, store_due, ticks_between};
use tokio_util::sync::CancellationToken;

use crate::support::{TestDb, eventually, within};

const UTC: chrono_tz::Tz = chrono_tz::UTC;
const MINUTELY: Schedule = schedule("test.minutely", "* * * * *");
const SECONDLY: Schedule = schedule("test.secondly", "* * * * * *");

const fn schedule(name: &'static str, cron: &'static str) -> Schedule {
    Schedule {
        name,
        cron,
        time_zone: UTC,
        queue: Queue::Maintenance,
        job: || NewJob::of(&PruneJobs::default()),
    }
}

/// The unique keys of all ticks that were ever stored, each once.
async fn ticks(pool: &Pool) -> Vec<String> {
    sqlx::query_scalar!(
        r#"select unique_key as "key!" from jobs
           union all
           select unique_key from jobs_finished
           order by 1"#
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Runs every stored job, as a worker would.
async fn run_all(pool: &Pool) {
    let mut conn = pool.acquire().await.unwrap();
    let live = queue::list(&mut conn, &queue::ListFilter::default(), 10_000).await.unwrap();
    for job in live.iter().filter(|job| !job.status.has_ended()) {
        queue::cancel(&mut conn, job.tenant, job.id, "a test").await.unwrap();
    }
}

async fn keys(schedule: &Schedule, since: DateTime<Utc>, until: DateTime<Utc>) -> Vec<String> {
    let ticks = ticks_between(schedule.cron, schedule.time_zone, since, until).unwrap();
    ticks.into_iter().map(|tick| format!("{}@{}", schedule.name, tick.to_rfc3339())).collect()
}

#[tokio::test]
async fn schedulers_that_look_at_once_store_each_tick_once() {
    let db = TestDb::new().await;
    let waker = Waker::new();
    let looks = join_all((0..4).map(|_| store_due(db.pool(), &waker, &[MINUTELY], None))).await;
    let until: Vec<_> = looks.into_iter().map(Result::unwrap).collect();
    let (first, last) = (until.iter().min().unwrap(), until.iter().max().unwrap());
    let stored = ticks(db.pool()).await;
    assert_eq!(stored, keys(&MINUTELY, *first - LOOK_BACK, *last).await, "every tick of the last hour, once");
    assert!((60..=61).contains(&stored.len()));
}

#[tokio::test]
async fn schedulers_that_run_side_by_side_store_each_tick_once() {
    let db = TestDb::new().await;
    let began = store_due(db.pool(), &Waker::new(), &[], None).await.unwrap();
    let shutdown = CancellationToken::new();
    let run = |pool: Pool| {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { scheduler::run(pool, Waker::new(), &[SECONDLY], shutdown).await })
    };
    let (one, two) = (run(db.connect_more(2)), run(db.connect_more(2)));
    let ticked =
        async || keys(&SECONDLY, began, store_due(db.pool(), &Waker::new(), &[], None).await.unwrap()).await;
    eventually("two ticks pass and are stored", async || {
        let passed = ticked().await;
        let stored = ticks(db.pool()).await;
        passed.len() >= 2 && passed[..2].iter().all(|tick| stored.contains(tick))
    })
    .await;
    shutdown.cancel();
    within("the schedulers to stop", async { tokio::join!(one, two) }).await.0.unwrap();
    let mut stored = ticks(db.pool()).await;
    let all = stored.len();
    stored.dedup();
    assert_eq!(stored.len(), all, "a tick was stored twice");
}

#[tokio::test]
async fn a_tick_whose_job_has_ended_is_not_stored_again() {
    let db = TestDb::new().await;
    let waker = Waker::new();
    store_due(db.pool(), &waker, &[MINUTELY], None).await.unwrap();
    let stored = ticks(db.pool()).await;
    run_all(db.pool()).await;
    // The history may go before the scheduler looks again.
    queue::prune(db.pool(), Duration::from_secs(30 * 24 * 3_600)).await.unwrap();
    let now = store_due(db.pool(), &waker, &[MINUTELY], None).await.unwrap();
    let newer = ticks(db.pool()).await;
    assert_eq!(newer[..stored.len()], stored[..]);
    assert!(newer.len() <= stored.len() + 1, "at most the tick of this very minute: {now} {newer:?}");

    sqlx::query!("delete from jobs_finished").execute(db.pool()).await.unwrap();
    sqlx::query!("delete from jobs").execute(db.pool()).await.unwrap();
    store_due(db.pool(), &waker, &[MINUTELY], None).await.unwrap();
    assert!(ticks(db.pool()).await.len() <= 1, "keys outlive the history of their jobs");
}

#[tokio::test]
async fn ticks_that_nobody_stored_are_made_good_within_the_hour_and_no_further() {
    let db = TestDb::new().await;
    let waker = Waker::new();
    let now = store_due(db.pool(), &waker, &[MINUTELY], None).await.unwrap();
    assert_eq!(ticks(db.pool()).await, keys(&MINUTELY, now - LOOK_BACK, now).await);

    let db = TestDb::new().await;
    let since = now - Duration::from_secs(600);
    let now = store_due(db.pool(), &waker, &[MINUTELY], Some(since)).await.unwrap();
    assert_eq!(ticks(db.pool()).await, keys(&MINUTELY, since, now).await, "since it last looked");
}

#[tokio::test]
async fn a_tick_wakes_its_queue() {
    let db = TestDb::new().await;
    let waker = Waker::new();
    store_due(db.pool(), &waker, &[MINUTELY], None).await.unwrap();
    within("the queue to be woken", waker.ready(Queue::Maintenance)).await;
}
