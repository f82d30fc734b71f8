//! When jobs end: ranges that come true, and what is learned from those that do not.

use std::time::Duration;

use chrono::TimeDelta;
use queue::eta::{Calibration, Estimator, Judged, Stage, calibrations, judge_estimates};
use queue::{Eta, Job};

use super::kinds::KINDS;
use super::*;
use crate::support::{TestDb, eventually, within};

fn estimator(db: &TestDb) -> Estimator {
    Estimator::new(db.pool().clone(), KINDS.iter().map(|entry| (entry.kind, entry.policy)))
}

/// `bench -- estimates` in small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_of_five_jobs_of_a_mixed_load_end_within_the_range_that_they_were_told() {
    // Estimates are of a machine as it lately was: neighbours that come and go within its ten seconds can spoil a run,
    // but not one after the other.
    let mut reports = Vec::new();
    for _ in 0..3 {
        let db = TestDb::new().await;
        let report = bench::estimates::attempt(&db.connect_more(16), Duration::from_secs(10)).await.unwrap();
        assert!(report.stored.all() > 200, "{report}");
        assert_eq!(report.silent, 0, "{report}");
        if report.stored.within() >= 0.8 && report.polled.within() >= 0.8 {
            return;
        }
        reports.push(report.to_string());
    }
    panic!("{}", reports.join("\n"));
}

/// A job that took so long from its first attempt to its end.
async fn took(db: &TestDb, seconds: f64) {
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, done(Value::Null)).await;
    sqlx::query!(
        "update jobs_finished set started_at = finished_at - $2 * interval '1 second' where id = $1",
        claim.lease.job.uuid(),
        seconds,
    )
    .execute(db.pool())
    .await
    .unwrap();
}

async fn of_live(db: &TestDb, job: JobId) -> Option<Eta> {
    estimator(db).of_live(TenantId::SYSTEM, job).await.unwrap()
}

#[tokio::test]
async fn a_range_follows_how_long_such_jobs_took_lately_and_what_stands_before_it() {
    let db = TestDb::new().await;
    for _ in 0..3 {
        took(&db, 8.0).await;
    }
    queue::register(db.pool(), &process_info(KINDS)).await.unwrap();
    let first = stored(db.pool(), plain()).await;
    let eta = of_live(&db, first).await.unwrap();
    let about = |eta: Eta, seconds: i64| {
        let wanted = eta.seen_at + TimeDelta::seconds(seconds);
        assert!((eta.earliest..=eta.latest).contains(&wanted), "{eta:?} does not hold {seconds} s");
    };
    about(eta, 8);
    for _ in 0..40 {
        stored(db.pool(), plain()).await;
    }
    let last = stored(db.pool(), plain()).await;
    let eta = of_live(&db, last).await.unwrap();
    // Some forty jobs of eight seconds in twenty slots: three processes of four, and those of what took eight.
    assert!(eta.remaining() > Duration::from_secs(15), "{eta:?}");
    assert!(of_live(&db, first).await.unwrap().remaining() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_kind_that_nobody_knows_the_times_of_is_told_a_wide_range_around_ten_seconds() {
    let db = TestDb::new().await;
    queue::register(db.pool(), &process_info(KINDS)).await.unwrap();
    let job = stored(db.pool(), plain()).await;
    let eta = of_live(&db, job).await.unwrap();
    assert_eq!(eta.remaining(), Duration::from_secs(10));
    assert!(eta.latest - eta.seen_at >= TimeDelta::seconds(30), "{eta:?}");
}

#[tokio::test]
async fn many_who_ask_at_once_beside_a_deep_backlog_need_no_more_connections_than_there_are() {
    let db = TestDb::new().await;
    queue::register(db.pool(), &process_info(KINDS)).await.unwrap();
    // More than is counted for every share.
    let mut conn = db.pool().acquire().await.unwrap();
    let backlog = (0..700).map(|_| plain());
    let jobs = queue::enqueue_many(&mut conn, backlog.collect()).await.unwrap();
    drop(conn);
    let estimator = Estimator::new(db.connect_more(2), KINDS.iter().map(|entry| (entry.kind, entry.policy)));

    let asked = jobs.iter().rev().take(64).map(async |job| {
        let new = estimator.of_new(Scripted::KIND, TenantId::SYSTEM, job.id()).await;
        (new, estimator.of_live(TenantId::SYSTEM, job.id()).await)
    });
    let told = within("all are told", futures::future::join_all(asked)).await;

    // A second each in twenty slots, and ten for its own run: behind five hundred it would be 35.
    for (new, live) in told {
        for eta in [new, live] {
            let remaining = eta.unwrap().unwrap().remaining();
            assert!(remaining > Duration::from_secs(40), "{remaining:?}");
        }
    }
}

#[tokio::test]
async fn who_gives_up_while_reading_keeps_nobody_from_newer_facts() {
    let db = TestDb::new().await;
    queue::register(db.pool(), &process_info(KINDS)).await.unwrap();
    let estimator = estimator(&db);
    let first = stored(db.pool(), plain()).await;
    let alone = estimator.usual(Scripted::KIND, TenantId::SYSTEM).await.unwrap().unwrap();
    for _ in 0..40 {
        stored(db.pool(), plain()).await;
    }

    eventually("somebody sees the forty", async || {
        // Polled once: it begins to read when what is known is old, and is dropped.
        let given_up = estimator.of_new(Scripted::KIND, TenantId::SYSTEM, first);
        let _ = tokio::time::timeout(Duration::ZERO, given_up).await;
        estimator.usual(Scripted::KIND, TenantId::SYSTEM).await.unwrap().unwrap() > alone
    })
    .await;
}

#[tokio::test]
async fn what_was_said_is_held_against_what_happened_once_whoever_looks() {
    let db = TestDb::new().await;
    let pool = db.pool();
    queue::register(pool, &process_info(KINDS)).await.unwrap();
    let estimator = estimator(&db);
    let noting = tokio::spawn(estimator.clone().run());
    let job = stored(pool, plain()).await;
    estimator.of_new(Scripted::KIND, TenantId::SYSTEM, job).await.unwrap().unwrap();
    eventually("the estimate is noted", async || {
        sqlx::query_scalar!(r#"select count(*) as "n!" from job_estimates"#).fetch_one(pool).await.unwrap()
            == 1
    })
    .await;
    assert_eq!(judge_estimates(pool).await.unwrap(), Judged::default(), "it has not ended");
    let claim = claimed(pool, process(pool).await).await;
    end(pool, claim.lease, done(Value::Null)).await;
    // Twenty seconds after it was told a minute at the most: within.
    sqlx::query!("update jobs_finished set finished_at = finished_at + interval '20 seconds'")
        .execute(pool)
        .await
        .unwrap();
    let judged = judge_estimates(pool).await.unwrap();
    assert_eq!(judged, Judged { within: 1, ..Judged::default() });
    assert_eq!(judge_estimates(pool).await.unwrap(), Judged::default(), "once");
    let calibrations = calibrations(pool).await.unwrap();
    let [Calibration { stage: Stage::Fresh, recent_within, .. }] = calibrations[..] else {
        panic!("{calibrations:?}")
    };
    assert!((recent_within - 1.0).abs() < f64::EPSILON);
    noting.abort();
}
