//! What people do with schedules.

use schedules::{Change, Missed, ScheduleError};
use serde_json::json;

use super::stage::*;

async fn pause(stage: &Stage, name: &str) {
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    jobs::schedules::pause(&mut tx, KINDS, name, &door()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn resume(stage: &Stage, name: &str) {
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    jobs::schedules::resume(&mut tx, KINDS, name, &door()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn every_wrong_field_is_told_at_once() {
    let stage = Stage::new().await;
    let wrong = Change {
        cron: Some("99 * * * *".to_owned()),
        time_zone: Some("Mars/Olympus_Mons".to_owned()),
        kind: Some("test.unheard_of".to_owned()),
        args: Some(json!([])),
        missed: Some(Missed::Backfill(60_000)),
        jitter_ms: Some(u32::MAX),
        enabled: None,
    };
    let refused = stage.try_set("Not A Name", &wrong).await.unwrap_err();
    let jobs::schedules::ActionError::Schedule(ScheduleError::Invalid(faults)) = refused else {
        panic!("{refused:?}")
    };
    let mut fields: Vec<_> = faults.iter().map(|fault| fault.field).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["args", "cron", "jitter", "kind", "missed", "name", "time zone"]);

    let refused = stage.try_set("new", &Change::default()).await.unwrap_err().to_string();
    assert!(
        refused.contains("cron: there is no schedule \"new\" yet") && refused.contains("kind:"),
        "{refused}"
    );
    let refused = stage.try_set("new", &Change { args: Some(json!({})), ..notes("* * * * *") }).await;
    assert!(refused.unwrap_err().to_string().contains("missing field `text`"));
    assert!(stage.jobs().await.is_empty());
}

#[tokio::test]
async fn a_new_line_holds_from_now_and_what_was_due_before_runs_by_the_old_one() {
    let stage = Stage::new().await;
    stage.set("plants", &notes("*/10 * * * *")).await;
    // 12:10 passes, and nobody looks before the line changes.
    stage.advance(10 * 60 + 20).await;
    let changed =
        stage.set("plants", &Change { cron: Some("5,55 * * * *".to_owned()), ..Change::default() }).await;
    assert_eq!(changed.next_at, Some(at("2026-11-22T12:55:00Z")));
    assert_eq!(
        (changed.edited_by.as_deref(), changed.edited_at),
        (Some(BY), Some(at("2026-11-22T12:10:20Z")))
    );
    stage.look().await;
    assert_eq!(stage.told("plants").await, ["12:10 enqueued"]);
    stage.advance(45 * 60).await;
    stage.look().await;
    assert_eq!(stage.told("plants").await, ["12:10 enqueued", "12:55 enqueued"]);
    stage.assert_tied("plants").await;
}

#[tokio::test]
async fn ticks_of_a_pause_are_not_missed_they_are_not_wanted() {
    let stage = Stage::new().await;
    stage.set("plants", &Change { missed: Some(Missed::Backfill(100)), ..notes("*/10 * * * *") }).await;
    stage.advance(10 * 60).await;
    pause(&stage, "plants").await;
    assert_eq!(stage.told("plants").await, ["12:10 enqueued"], "what was due runs");
    assert_eq!(stage.schedule("plants").await.next_at, None);
    stage.advance(30 * 60).await;
    stage.look().await;
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    let twice = jobs::schedules::pause(&mut tx, KINDS, "plants", &door()).await.unwrap_err();
    assert!(twice.to_string().contains("paused already"), "{twice}");
    drop(tx);
    resume(&stage, "plants").await;
    stage.look().await;
    stage.advance(10 * 60).await;
    stage.look().await;
    assert_eq!(stage.told("plants").await, ["12:10 enqueued", "12:50 enqueued"]);
    assert_eq!(stage.schedule("plants").await.missed_ticks, 0);
}

#[tokio::test]
async fn run_now_is_a_tick_of_its_own_every_time_also_of_a_paused_schedule() {
    let stage = Stage::new().await;
    stage.set("plants", &notes("0 * * * *")).await;
    pause(&stage, "plants").await;
    let mut jobs = Vec::new();
    for _ in 0..2 {
        // It is a whole second, as ticks are.
        let mut tx = db::begin(stage.db.pool()).await.unwrap();
        let run = jobs::schedules::run_now(&mut tx, KINDS, "plants", &door()).await.unwrap();
        tx.commit().await.unwrap();
        jobs.push(run.job);
        stage.advance(3_600).await;
    }
    assert_ne!(jobs[0], jobs[1]);
    assert_eq!(stage.told("plants").await, ["12:00 manual", "13:00 manual"]);
    assert_eq!(stage.ticks("plants").await[1].asked_by.as_deref(), Some(BY));
    stage.assert_tied("plants").await;
    assert!(stage.jobs().await.iter().all(is_queued));
    assert_eq!(stage.schedule("plants").await.last_job, Some(jobs[1]));
    resume(&stage, "plants").await;
    stage.advance(3_600).await;
    stage.look().await;
    assert_eq!(stage.told("plants").await.last().unwrap(), "15:00 enqueued", "its own ticks go on");
}

#[tokio::test]
async fn runs_asked_for_at_the_same_time_are_jobs_of_their_own() {
    let stage = Stage::new().await;
    stage.clock.run_on().await;
    stage.set("plants", &notes("0 0 1 1 *")).await;
    let asked = (0..8).map(async |_| {
        let mut tx = db::begin(stage.db.pool()).await.unwrap();
        jobs::schedules::run_now(&mut tx, KINDS, "plants", &door()).await.unwrap();
        tx.commit().await.unwrap();
    });
    futures::future::join_all(asked).await;
    assert_eq!(stage.jobs().await.len(), 8);
    stage.assert_tied("plants").await;
}

#[tokio::test]
async fn a_schedule_made_by_hand_can_be_removed_and_there_is_a_bound_of_how_many_there_are() {
    let stage = Stage::new().await;
    stage.set("plants", &notes("* * * * *")).await;
    let mut tx = db::begin(stage.db.pool()).await.unwrap();
    let reset = jobs::schedules::reset(&mut tx, KINDS, "plants", &door()).await.unwrap_err();
    assert!(reset.to_string().contains("remove it"), "{reset}");
    jobs::schedules::remove(&mut tx, "plants", &door()).await.unwrap();
    let gone = jobs::schedules::remove(&mut tx, "plants", &door()).await.unwrap_err();
    assert!(gone.to_string().contains("no schedule is called \"plants\""), "{gone}");
    tx.commit().await.unwrap();
    sqlx::raw_sql(
        "insert into schedules (name, cron, time_zone, kind, args, missed, jitter_ms, enabled, ticked_until)
         select 's' || n, '* * * * *', 'UTC', 'test.note', '{}', 'skip', 0, false, now()
         from generate_series(1, 1000) n",
    )
    .execute(stage.db.pool())
    .await
    .unwrap();
    let refused = stage.try_set("one-more", &notes("* * * * *")).await.unwrap_err().to_string();
    assert!(refused.contains("1000 schedules already"), "{refused}");
}
