//! Schedules in code, and what operators made of them.

use std::time::Duration;

use chrono_tz::Tz;
use scheduler::Declared;
use schedules::{Change, Missed};
use serde_json::json;

use super::stage::*;

/// A schedule as one version of the program declares it.
const fn declared(cron: &'static str, missed: Missed) -> Declared {
    Declared {
        name: "plants",
        cron,
        time_zone: Tz::UTC,
        kind: "maintenance.prune_jobs",
        missed,
        jitter: Duration::ZERO,
    }
}

const FIRST: &[Declared] = &[declared("0 4 * * *", Missed::Once)];
const SECOND: &[Declared] = &[declared("30 5 * * *", Missed::Skip)];

async fn declare(stage: &Stage, of: &'static [Declared]) {
    let mut look = stage.look_of(of);
    look.settings.kinds = jobs::ALL;
    look.declare().await.unwrap();
}

async fn change(stage: &Stage, change: Change) {
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    jobs::schedules::change(&mut tx, jobs::ALL, "plants", &change, &door()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn what_nobody_edited_follows_the_code() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    declare(&stage, FIRST).await;
    let schedule = stage.schedule("plants").await;
    assert_eq!((schedule.definition.cron.as_str(), schedule.is_edited()), ("0 4 * * *", false));
    assert_eq!(schedule.next_at, Some(at("2026-11-23T04:00:00Z")));
    declare(&stage, SECOND).await;
    let schedule = stage.schedule("plants").await;
    assert_eq!((schedule.definition.cron.as_str(), schedule.definition.missed), ("30 5 * * *", Missed::Skip));
    assert_eq!(schedule.next_at, Some(at("2026-11-23T05:30:00Z")));
}

#[tokio::test]
async fn edits_outlive_a_new_version_and_only_what_was_edited() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    change(&stage, Change { cron: Some("15 6 * * *".to_owned()), ..Change::default() }).await;
    declare(&stage, SECOND).await;
    let schedule = stage.schedule("plants").await;
    assert_eq!(schedule.definition.cron, "15 6 * * *", "edited, so it is kept");
    assert_eq!(schedule.definition.missed, Missed::Skip, "not edited, so it follows");
    assert!(schedule.is_edited());

    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    let reset = jobs::schedules::reset(&mut tx, jobs::ALL, "plants", &door()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((reset.definition.cron.as_str(), reset.is_edited()), ("30 5 * * *", false));
    assert_eq!(reset.edited_by, None);
}

#[tokio::test]
async fn a_pause_outlives_restarts() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    jobs::schedules::pause(&mut tx, jobs::ALL, "plants", &door()).await.unwrap();
    let refused = jobs::schedules::remove(&mut tx, "plants", &door()).await.unwrap_err();
    assert!(refused.to_string().contains("pause it instead"), "{refused}");
    tx.commit().await.unwrap();
    declare(&stage, FIRST).await;
    declare(&stage, SECOND).await;
    let schedule = stage.schedule("plants").await;
    assert!(!schedule.definition.enabled);
    assert_eq!((schedule.definition.cron.as_str(), schedule.next_at), ("30 5 * * *", None));
}

#[tokio::test]
async fn what_was_due_before_a_new_version_runs_by_the_old_line() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    stage.clock.set(at("2026-11-23T04:00:20Z")).await;
    declare(&stage, SECOND).await;
    assert_eq!(stage.told("plants").await, ["04:00 enqueued"]);
    assert_eq!(stage.schedule("plants").await.next_at, Some(at("2026-11-23T05:30:00Z")));
}

#[tokio::test]
async fn what_no_version_declares_any_more_is_removed_unless_it_was_edited() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    // The new version has no such schedule, but the old one still runs somewhere.
    stage.advance(50 * 60).await;
    stage.look_of(FIRST).refresh().await.unwrap();
    stage.advance(50 * 60).await;
    declare(&stage, NOTHING).await;
    assert_eq!(stage.schedule("plants").await.definition.cron, "0 4 * * *");
    stage.advance(11 * 60).await;
    declare(&stage, NOTHING).await;
    let mut conn = stage.db.pool().acquire().await.unwrap();
    assert_eq!(schedules::get(&mut conn, "plants").await.unwrap(), None);
    drop(conn);

    declare(&stage, FIRST).await;
    change(&stage, Change { jitter_ms: Some(5_000), args: Some(json!({})), ..Change::default() }).await;
    stage.advance(2 * 3_600).await;
    declare(&stage, NOTHING).await;
    let kept = stage.schedule("plants").await;
    assert_eq!((kept.declared, kept.definition.jitter_ms), (None, 5_000));
    assert_eq!(kept.next_at, Some(at("2026-11-23T04:00:00Z")), "it ticks on as the operator's own");
}

#[tokio::test]
async fn a_scheduler_that_was_away_for_days_finds_its_own_schedules_and_makes_up_for_their_ticks() {
    let stage = Stage::new().await;
    declare(&stage, FIRST).await;
    stage.advance(3 * 24 * 3_600).await;
    declare(&stage, FIRST).await;
    let mut look = stage.look_of(FIRST);
    look.settings.kinds = jobs::ALL;
    look.once().await.unwrap();
    let told: Vec<_> = stage.ticks("plants").await.iter().map(|tick| tick.outcome.as_str()).collect();
    assert_eq!(told, ["missed", "missed", "enqueued"]);
}
