//! Ticks become jobs.

use std::time::Duration;

use futures::future::join_all;
use kernel::ids::JobId;
use queue::Queue;
use schedules::{BACKFILL_MAX, Change, Missed, TickOutcome};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::stage::*;
use crate::support::{TestDb, eventually, within};

#[tokio::test]
async fn a_tick_becomes_one_job_that_knows_its_tick_and_wakes_its_queue() {
    let stage = Stage::new().await;
    let made = stage.set("plants", &notes("*/5 * * * *")).await;
    assert_eq!(made.next_at, Some(at("2026-11-22T12:05:00Z")));
    stage.look().await;
    assert!(stage.jobs().await.is_empty(), "nothing is due");
    stage.advance(301).await;
    stage.look().await;
    let jobs = stage.jobs().await;
    let [job] = jobs.as_slice() else { panic!("one job: {jobs:?}") };
    assert_eq!((job.kind.as_str(), &job.args["text"]), ("test.note", &json!("water the plants")));
    assert_eq!(job.id.instant(), at("2026-11-22T12:05:00Z"), "the id says which tick it is");
    assert!(job.traceparent.is_some());
    assert_eq!(stage.told("plants").await, ["12:05 enqueued"]);
    let schedule = stage.schedule("plants").await;
    assert_eq!(schedule.last_tick_at, Some(at("2026-11-22T12:05:00Z")));
    assert_eq!((schedule.last_job, schedule.next_at), (Some(job.id), Some(at("2026-11-22T12:10:00Z"))));
    within("the queue to be woken", stage.waker.ready(Queue::Maintenance)).await;
    stage.look().await;
    stage.assert_tied("plants").await;
}

#[tokio::test]
async fn schedulers_that_look_at_once_decide_each_tick_once() {
    let stage = Stage::new().await;
    for name in ["one", "two", "three"] {
        stage.set(name, &Change { missed: Some(Missed::Backfill(100)), ..notes("* * * * *") }).await;
    }
    stage.advance(90 * 60).await;
    let looks: Vec<_> = (0..6).map(|_| stage.look_of(NOTHING)).collect();
    for done in join_all(looks.iter().map(scheduler::Look::once)).await {
        done.unwrap();
    }
    for name in ["one", "two", "three"] {
        let ticks = stage.ticks(name).await;
        assert_eq!(ticks.len(), 90, "{name}");
        assert!(ticks.iter().all(|tick| tick.job == Some(JobId::of_tick(name, tick.tick_at))));
    }
    assert_eq!(stage.jobs().await.len(), 270);
}

#[tokio::test]
async fn schedulers_that_run_side_by_side_decide_each_tick_once() {
    // The clock of the machine, and real loops.
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    jobs::schedules::change(&mut conn, KINDS, "seconds", &notes("* * * * * *"), &door()).await.unwrap();
    drop(conn);
    let shutdown = CancellationToken::new();
    let schedulers: Vec<_> = (0..3)
        .map(|_| {
            let settings = scheduler::Settings {
                kinds: KINDS,
                declared: NOTHING,
                look_every: Duration::from_millis(20),
                ..scheduler::Settings::default()
            };
            let pool = db.connect_more(2);
            tokio::spawn(scheduler::run(pool, queue::Waker::new(), settings, shutdown.clone()))
        })
        .collect();
    let ticks = async || {
        let mut conn = db.pool().acquire().await.unwrap();
        schedules::ticks(&mut conn, "seconds", 100).await.unwrap()
    };
    eventually("three ticks are decided", async || ticks().await.len() >= 3).await;
    shutdown.cancel();
    within("the schedulers to stop", join_all(schedulers)).await;
    let ticks = ticks().await;
    for pair in ticks.windows(2) {
        assert_eq!((pair[0].tick_at - pair[1].tick_at).num_seconds(), 1, "no second is left out: {ticks:?}");
    }
    let mut conn = db.pool().acquire().await.unwrap();
    let jobs = queue::list(&mut conn, &queue::ListFilter::default(), 1_000).await.unwrap();
    assert_eq!(jobs.len(), ticks.len());
}

#[tokio::test]
async fn missed_ticks_are_skipped_run_once_or_made_up_for_as_the_policy_says() {
    let stage = Stage::new().await;
    for (name, policy) in [("skip", Missed::Skip), ("once", Missed::Once), ("backfill", Missed::Backfill(2))]
    {
        stage.set(name, &Change { missed: Some(policy), ..notes("*/10 * * * *") }).await;
    }
    // All schedulers are away from 12:00 to 12:40:30: the tick of 12:40 is on time, three are not.
    stage.advance(40 * 60 + 30).await;
    stage.look().await;
    assert_eq!(stage.told("skip").await, ["12:10 missed", "12:20 missed", "12:30 missed", "12:40 enqueued"]);
    assert_eq!(
        stage.told("once").await,
        ["12:10 missed", "12:20 missed", "12:30 enqueued", "12:40 enqueued"]
    );
    assert_eq!(
        stage.told("backfill").await,
        ["12:10 missed", "12:20 enqueued", "12:30 enqueued", "12:40 enqueued"]
    );
    let missed = async |name: &'static str| stage.schedule(name).await.missed_ticks;
    assert_eq!((missed("skip").await, missed("once").await, missed("backfill").await), (3, 2, 1));
    assert_eq!(stage.jobs().await.len(), 6);
}

#[tokio::test]
async fn a_year_of_missed_seconds_costs_a_bounded_number_of_rows_and_is_counted_exactly() {
    let stage = Stage::new().await;
    stage.set("skip", &Change { missed: Some(Missed::Skip), ..notes("* * * * * *") }).await;
    stage.set("all", &Change { missed: Some(Missed::Backfill(BACKFILL_MAX)), ..notes("* * * * * *") }).await;
    const YEAR_S: u64 = 365 * 24 * 3_600;
    stage.advance(YEAR_S).await;
    stage.look().await;
    for (name, backfilled) in [("skip", 0), ("all", u64::from(BACKFILL_MAX))] {
        let ticks = stage.ticks(name).await;
        let enqueued = ticks.iter().filter(|tick| tick.outcome == TickOutcome::Enqueued).count() as u64;
        let on_time = 61;
        assert_eq!(enqueued, on_time + backfilled, "{name}");
        assert!(ticks.len() < 1_200, "{name}: {}", ticks.len());
        assert_eq!(ticks.iter().map(|tick| tick.ticks).sum::<u64>(), YEAR_S, "{name}: none is forgotten");
        assert_eq!(stage.schedule(name).await.missed_ticks, YEAR_S - enqueued);
    }
}

#[tokio::test]
async fn jitter_delays_a_job_always_by_as_much_and_changes_no_tick() {
    let stage = Stage::new().await;
    stage.set("spread", &Change { jitter_ms: Some(600_000), ..notes("* * * * *") }).await;
    stage.pass(40).await;
    let ticks = stage.ticks("spread").await;
    let told: Vec<_> = ticks.iter().map(|tick| tick.tick_at.timestamp() % 60).collect();
    assert_eq!(told, [0; 40], "ticks are where the line says");
    stage.assert_tied("spread").await;
    let definition = stage.schedule("spread").await.definition;
    let delays: Vec<i64> =
        ticks.iter().map(|tick| definition.jitter_of(tick.job.unwrap().uuid()).num_milliseconds()).collect();
    assert!(delays.iter().all(|delay| (0..=600_000).contains(delay)));
    assert!(delays.iter().any(|delay| *delay < 200_000) && delays.iter().any(|delay| *delay > 400_000));
    let stored: Vec<(uuid::Uuid, chrono::DateTime<chrono::Utc>)> =
        sqlx::query!("select id, run_at from jobs")
            .fetch_all(stage.db.pool())
            .await
            .unwrap()
            .into_iter()
            .map(|row| (row.id, row.run_at))
            .collect();
    for (id, run_at) in stored {
        let id = JobId::from_uuid(id);
        assert_eq!(run_at, id.instant() + definition.jitter_of(id.uuid()));
    }
}

#[tokio::test]
async fn a_schedule_that_makes_no_job_says_why_and_hinders_no_other() {
    let stage = Stage::new().await;
    stage.set("a-broken", &notes("* * * * *")).await;
    stage.set("b-fine", &notes("* * * * *")).await;
    // As an older program may find it, or a newer one.
    sqlx::raw_sql("update schedules set kind = 'test.unheard_of' where name = 'a-broken'")
        .execute(stage.db.pool())
        .await
        .unwrap();
    stage.advance(60).await;
    stage.look().await;
    assert_eq!(stage.told("b-fine").await, ["12:01 enqueued"]);
    let broken = stage.schedule("a-broken").await;
    let error = broken.error.expect("it says what is wrong");
    assert!(error.contains("test.unheard_of") && error.contains("test.note"), "{error}");
    assert!(stage.ticks("a-broken").await.is_empty(), "its ticks wait");
    sqlx::raw_sql("update schedules set kind = 'test.note', args = '{\"text\": 5}' where name = 'a-broken'")
        .execute(stage.db.pool())
        .await
        .unwrap();
    stage.look().await;
    let error = stage.schedule("a-broken").await.error.unwrap();
    assert!(error.contains("arguments of a test.note job") && error.contains("expected a string"), "{error}");
    // Mended, it makes up for them as its policy says.
    stage.advance(240).await;
    stage.set("a-broken", &Change { args: Some(json!({"text": "again"})), ..Change::default() }).await;
    stage.look().await;
    assert_eq!(
        stage.told("a-broken").await,
        ["12:01 missed", "12:02 missed", "12:03 enqueued", "12:04 enqueued", "12:05 enqueued"]
    );
    assert_eq!(stage.schedule("a-broken").await.error, None);
}

#[tokio::test]
async fn a_clock_that_is_set_back_repeats_no_tick() {
    let stage = Stage::new().await;
    stage.set("plants", &notes("* * * * *")).await;
    stage.pass(10).await;
    stage.clock.set(at("2026-11-22T12:05:30Z")).await;
    stage.look().await;
    stage.pass(6).await;
    let ticks = stage.ticks("plants").await;
    assert_eq!(ticks.len(), 11);
    stage.assert_tied("plants").await;
}
