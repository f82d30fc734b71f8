//! What became of jobs, rolled up: each end once, whenever it is counted, and at the price of its minute.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use db::Pool;
use kernel::ids::TenantId;
use queue::history::{History, HistoryFilter, OTHERS, Point, RolledUp, Step, TENANTS_MAX};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::*;
use crate::support::{MillpondProcess, TestClock, TestDb};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A database whose clock stands a little after the beginning of a minute.
async fn stage() -> (TestDb, TestClock, DateTime<Utc>) {
    let db = TestDb::new().await;
    let clock = TestClock::install(&db).await;
    let now = clock.now().await;
    let minute = at_minute(now);
    clock.set(minute + TimeDelta::seconds(15)).await;
    roll_up(db.pool()).await;
    (db, clock, minute)
}

fn at_minute(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(at.timestamp() / 60 * 60, 0).unwrap()
}

async fn execute(pool: &Pool, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

/// Jobs that ended at these times, one a second from the first on, after having waited and run for so long.
struct Ended<'a> {
    kind: &'a str,
    tenant: Uuid,
    count: usize,
    from: DateTime<Utc>,
    every_ms: i64,
    wait_ms: i64,
    run_ms: i64,
    end: &'a str,
}

const ENDED: Ended<'static> = Ended {
    kind: "test.kind",
    tenant: Uuid::nil(),
    count: 1,
    from: DateTime::UNIX_EPOCH,
    every_ms: 1_000,
    wait_ms: 50,
    run_ms: 200,
    end: "completed",
};

async fn ended(pool: &Pool, ended: Ended<'_>) {
    let Ended { kind, tenant, count, from, every_ms, wait_ms, run_ms, end } = ended;
    let statement = format!(
        "insert into jobs_finished (
             tenant_id, id, lane, share_id, created_at, started_at, finished_at, ended, priority, attempt, attempts_max,
             taken_back, queue, kind, args
         )
         select '{tenant}', gen_random_uuid(), gen_random_uuid(), '{tenant}', at - interval '{both} ms',
             at - interval '{run_ms} ms', at, '{end}', 0, 2, 5, 1, 'enrich', '{kind}', '{{}}'
         from (
             select '{from}'::timestamptz + n * interval '{every_ms} ms' as at from generate_series(0, {count} - 1) n
         ) as ends",
        both = wait_ms + run_ms,
        from = from.to_rfc3339(),
    );
    execute(pool, statement).await;
}

/// Rolls up until there is nothing to do.
async fn roll_up(pool: &Pool) -> RolledUp {
    let mut sum = RolledUp::default();
    loop {
        let mut tx = db::begin(pool).await.unwrap();
        let done = queue::history::roll_up(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        if !done.did_something() {
            return sum;
        }
        sum.minutes += done.minutes;
        sum.hours += done.hours;
        sum.jobs += done.jobs;
    }
}

async fn read(pool: &Pool, step: Step, change: impl FnOnce(&mut HistoryFilter)) -> History {
    let mut conn = pool.acquire().await.unwrap();
    let now: DateTime<Utc> =
        sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut conn).await.unwrap();
    let from = now - TimeDelta::from_std(step.kept()).unwrap();
    let mut filter = HistoryFilter { queue: None, kind: None, tenant: None, from, to: now, step };
    change(&mut filter);
    queue::history::history(&mut conn, &filter).await.unwrap()
}

fn at(history: &History, at: DateTime<Utc>) -> &Point {
    history.points.iter().find(|point| point.at == at).expect("a bucket at this time")
}

fn sum(history: &History) -> Point {
    let mut points = history.points.iter();
    let mut sum = points.next().expect("buckets").clone();
    points.for_each(|point| sum.add(point));
    sum
}

#[tokio::test]
async fn what_ended_in_a_minute_is_counted_once_however_often_it_is_rolled_up() {
    let (db, clock, minute) = stage().await;
    let other = Uuid::now_v7();
    ended(db.pool(), Ended { from: minute, count: 40, ..ENDED }).await;
    ended(db.pool(), Ended { from: minute, count: 5, end: "failed", wait_ms: 9_000, ..ENDED }).await;
    ended(db.pool(), Ended { from: minute, count: 3, tenant: other, run_ms: 70_000, ..ENDED }).await;
    ended(db.pool(), Ended { from: minute, count: 2, kind: "test.other", end: "cancelled", ..ENDED }).await;
    // The first of the next minute.
    ended(db.pool(), Ended { from: minute + TimeDelta::minutes(1), count: 1, ..ENDED }).await;
    assert_eq!(roll_up(db.pool()).await, RolledUp::default(), "the minute is not over");
    clock.advance(Duration::from_secs(60)).await;
    assert_eq!(roll_up(db.pool()).await.jobs, 50);
    assert_eq!(roll_up(db.pool()).await, RolledUp::default());

    let all = read(db.pool(), Step::Minute, |_| ()).await;
    let point = at(&all, minute);
    assert_eq!((point.completed, point.failed, point.cancelled), (43, 5, 2));
    assert_eq!((point.attempts, point.taken_back), (100, 50));
    assert_eq!((point.waits.count, point.waits.max), (50, Duration::from_secs(9)));
    assert_eq!(point.waits.sum, Duration::from_millis(45 * 50 + 5 * 9_000));
    assert_eq!(point.runs.max, Duration::from_secs(70));
    let median = point.waits.quantile(0.5).unwrap();
    assert!((Duration::from_millis(32)..Duration::from_millis(64)).contains(&median), "{median:?}");
    let late = point.waits.quantile(0.95).unwrap();
    assert!((Duration::from_millis(8_192)..=Duration::from_secs(9)).contains(&late), "{late:?}");
    let quiet = at(&all, minute - TimeDelta::minutes(30));
    assert_eq!((quiet.ended(), quiet.waits.quantile(0.5)), (0, None), "a quiet minute is known to be one");
    assert!(all.points.iter().all(|point| point.at < minute + TimeDelta::minutes(1)), "the last is not over");

    let kind = read(db.pool(), Step::Minute, |filter| filter.kind = Some("test.other".to_owned())).await;
    assert_eq!(at(&kind, minute).ended(), 2);
    let tenant =
        read(db.pool(), Step::Minute, |filter| filter.tenant = Some(TenantId::from_uuid(other))).await;
    assert_eq!(at(&tenant, minute).ended(), 3);
    let queue = read(db.pool(), Step::Minute, |filter| filter.queue = Some(Queue::Webhooks)).await;
    assert_eq!(sum(&queue).ended(), 0);
}

#[tokio::test]
async fn a_run_that_is_killed_loses_nothing_and_two_at_once_count_nothing_twice() {
    let (db, clock, minute) = stage().await;
    ended(db.pool(), Ended { from: minute, count: 50, ..ENDED }).await;
    clock.advance(Duration::from_secs(120)).await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    assert_eq!(queue::history::roll_up(&mut tx).await.unwrap().jobs, 50);
    tx.rollback().await.unwrap();
    let (one, other) = tokio::join!(roll_up(db.pool()), roll_up(db.pool()));
    assert_eq!(one.jobs + other.jobs, 50);
    assert_eq!(sum(&read(db.pool(), Step::Minute, |_| ()).await).completed, 50);
}

#[tokio::test]
async fn an_end_that_is_committed_late_is_counted() {
    let (db, clock, minute) = stage().await;
    let mut late = db::begin(db.pool()).await.unwrap();
    sqlx::raw_sql("select txid_current()").execute(&mut *late).await.unwrap();
    // Its transaction began in this minute or the next, as walls show it, and it ends its job when that is over.
    clock.advance(Duration::from_secs(200)).await;
    roll_up(db.pool()).await;
    let began: DateTime<Utc> =
        sqlx::query_scalar!(r#"select pg_catalog.now() as "now!""#).fetch_one(&mut *late).await.unwrap();
    sqlx::query!(
        "insert into jobs_finished (
             tenant_id, id, lane, share_id, created_at, finished_at, ended, priority, attempt, attempts_max, taken_back,
             queue, kind, args
         )
         values ($1, $1, $1, $1, $2, $2, 'cancelled', 0, 0, 1, 0, 'enrich', 'test.late', '{}')",
        Uuid::nil(),
        began,
    )
    .execute(&mut *late)
    .await
    .unwrap();
    assert_eq!(roll_up(db.pool()).await.jobs, 0, "its minute waits for it");
    late.commit().await.unwrap();
    assert_eq!(roll_up(db.pool()).await.jobs, 1);
    let all = read(db.pool(), Step::Minute, |_| ()).await;
    let point = at(&all, at_minute(began));
    assert_eq!((point.cancelled, point.waits.count), (1, 0), "it never began, so it did not wait until then");
    assert!(began >= minute);

    // But nobody waits for ever.
    let forgotten = db::begin(db.pool()).await.unwrap();
    clock.advance(Duration::from_secs(400)).await;
    assert!(roll_up(db.pool()).await.minutes >= 1);
    forgotten.rollback().await.unwrap();
}

#[tokio::test]
async fn beyond_the_largest_few_tenants_are_one_and_nothing_is_lost() {
    let (db, clock, minute) = stage().await;
    let few = usize::try_from(TENANTS_MAX).unwrap();
    for number in 0..few + 10 {
        let tenant = Uuid::from_u128(1 + number as u128);
        ended(db.pool(), Ended { from: minute, count: 1 + number, tenant, ..ENDED }).await;
    }
    clock.advance(Duration::from_secs(3_600 + 120)).await;
    roll_up(db.pool()).await;
    for step in [Step::Minute, Step::Hour] {
        let of = async |tenant: TenantId| {
            sum(&read(db.pool(), step, |filter| filter.tenant = Some(tenant)).await).completed
        };
        assert_eq!(of(OTHERS).await, (1..=10).sum::<u64>(), "{step:?}: the ten smallest");
        assert_eq!(of(TenantId::from_uuid(Uuid::from_u128(30))).await, 30, "{step:?}");
        assert_eq!(of(TenantId::from_uuid(Uuid::from_u128(10))).await, 0, "{step:?}");
        assert_eq!(sum(&read(db.pool(), step, |_| ()).await).completed, (1..=30).sum::<u64>(), "{step:?}");
    }
}

#[tokio::test]
async fn hours_are_the_exact_sums_of_their_minutes() {
    let (db, clock, minute) = stage().await;
    let hour = DateTime::from_timestamp(minute.timestamp() / 3_600 * 3_600, 0).unwrap() + TimeDelta::hours(1);
    for (number, run_ms) in [0, 3, 40, 500, 6_000, 70_000, 800_000].into_iter().enumerate() {
        let from = hour + TimeDelta::minutes(8 * i64::try_from(number).unwrap());
        let tenant = Uuid::from_u128(number as u128 % 3);
        ended(db.pool(), Ended { from, count: 30 + number, every_ms: 7_000, run_ms, tenant, ..ENDED }).await;
    }
    clock.set(hour + TimeDelta::minutes(61)).await;
    let rolled_up = roll_up(db.pool()).await;
    assert!(rolled_up.hours >= 1, "{rolled_up:?}");
    let minutes = read(db.pool(), Step::Minute, |filter| filter.from = hour).await;
    let hours = read(db.pool(), Step::Hour, |filter| filter.from = hour).await;
    assert_eq!(hours.points.len(), 1);
    let mut in_hour = minutes.clone();
    in_hour.points.retain(|point| point.at < hour + TimeDelta::hours(1));
    let (minutes, hour) = (sum(&in_hour), &hours.points[0]);
    assert!(minutes.completed > 200);
    assert_eq!(Point { depth: None, ..minutes }, Point { depth: None, ..hour.clone() });
    assert_eq!(in_hour.coarser(Step::Hour.length()).points.len(), 1);
}

#[tokio::test]
async fn missed_runs_are_caught_up_with_and_what_nobody_counted_is_not_called_nothing() {
    let (db, clock, minute) = stage().await;
    ended(db.pool(), Ended { from: minute, count: 20, ..ENDED }).await;
    clock.advance(DAY).await;
    assert_eq!(roll_up(db.pool()).await.jobs, 20);
    let all = read(db.pool(), Step::Minute, |_| ()).await;
    let gaps = all.points.windows(2).filter(|pair| pair[1].at - pair[0].at != TimeDelta::minutes(1)).count();
    assert_eq!((gaps, at(&all, minute).completed), (0, 20));
    assert_eq!(all.points.last().unwrap().at, minute + TimeDelta::days(1) - TimeDelta::minutes(1));
}

#[tokio::test]
async fn an_absence_of_days_leaves_a_gap_and_not_zeros() {
    let (db, clock, minute) = stage().await;
    clock.advance(5 * DAY).await;
    let back = minute + TimeDelta::days(5) - TimeDelta::hours(3);
    ended(db.pool(), Ended { from: minute + TimeDelta::days(1), count: 7, ..ENDED }).await;
    ended(db.pool(), Ended { from: back, count: 9, ..ENDED }).await;
    roll_up(db.pool()).await;
    let hours = read(db.pool(), Step::Hour, |_| ()).await;
    assert_eq!(sum(&hours).completed, 9, "what is too old is not counted");
    let gap = minute + TimeDelta::days(1);
    assert!(
        hours.points.iter().all(|point| (point.at - gap).abs() > TimeDelta::hours(12)),
        "nor called nothing"
    );
    assert!(hours.points.len() > 40);
}

#[tokio::test]
async fn minutes_go_after_two_days_and_hours_after_ninety() {
    let (db, clock, minute) = stage().await;
    ended(db.pool(), Ended { from: minute, count: 20, ..ENDED }).await;
    clock.advance(Duration::from_secs(7_200)).await;
    roll_up(db.pool()).await;
    let rows = async || -> (i64, i64) {
        let count = async |step: i16| {
            sqlx::query_scalar!(
                r#"select (select count(*) from queue_history where step_s = $1)
                       + (select count(*) from queue_history_buckets where step_s = $1 and at <= $2) as "n!""#,
                step,
                minute,
            )
            .fetch_one(db.pool())
            .await
            .unwrap()
        };
        (count(60).await, count(3_600).await)
    };
    let drop_old = async || {
        let mut tx = db::begin(db.pool()).await.unwrap();
        let dropped = queue::history::drop_old(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        dropped
    };
    let before = rows().await;
    assert!(before.0 > 1_000 && before.1 > 20, "{before:?}");
    clock.advance(2 * DAY).await;
    assert!(drop_old().await > 1_000);
    assert_eq!(rows().await, (0, before.1));
    clock.advance(88 * DAY).await;
    drop_old().await;
    assert_eq!(rows().await, (0, 0));
    assert_eq!(drop_old().await, 0);
}

#[tokio::test]
async fn a_minute_costs_what_it_holds_however_long_the_history() {
    let (db, clock, minute) = stage().await;
    // One session reads and counts: what others have read is told when they rest.
    let pool = &db.connect_more(1);
    // Fourteen hours at a job a second, in the order of time as jobs end.
    const ROWS: usize = 50_000;
    ended(pool, Ended { from: minute, count: ROWS, ..ENDED }).await;
    clock.set(minute + TimeDelta::seconds(i64::try_from(ROWS).unwrap() - 60)).await;
    queue::history::summarize_new_pages(pool).await.unwrap();
    roll_up(pool).await;
    clock.advance(Duration::from_secs(60)).await;
    let read_rows = async || -> i64 {
        sqlx::raw_sql("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
        sqlx::query_scalar!(
            r#"select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint as "n!"
               from pg_stat_user_tables where relname like 'jobs_finished%'"#
        )
        .fetch_one(pool)
        .await
        .unwrap()
    };
    let before = read_rows().await;
    let mut tx = promptly_counted(pool).await;
    assert_eq!(queue::history::roll_up(&mut tx).await.unwrap().jobs, 60);
    tx.commit().await.unwrap();
    let read = read_rows().await - before;
    assert!(read < 5_000, "{read} of {ROWS} rows were read for 60");
    assert!(read >= 60);
}

#[tokio::test]
async fn depths_are_sampled_by_kind() {
    let (db, clock, minute) = stage().await;
    for _ in 0..3 {
        stored(db.pool(), plain()).await;
    }
    stored(db.pool(), plain().delay(DAY)).await;
    let running = claimed(db.pool(), process(db.pool()).await).await;
    clock.advance(Duration::from_secs(20)).await;
    for _ in 0..2 {
        let mut tx = db::begin(db.pool()).await.unwrap();
        queue::history::sample_depths(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }
    clock.advance(Duration::from_secs(60)).await;
    roll_up(db.pool()).await;
    let history = read(db.pool(), Step::Minute, |filter| filter.queue = Some(Queue::Enrich)).await;
    let depth = at(&history, minute).depth.expect("somebody looked");
    assert_eq!((depth.ready, depth.scheduled, depth.running, depth.is_capped), (2, 1, 1, false));
    assert_eq!(depth.oldest_ready, Some(Duration::from_secs(20)));
    assert_eq!(at(&history, minute - TimeDelta::minutes(1)).depth, None, "nobody looked");
    let kind = read(db.pool(), Step::Minute, |filter| filter.kind = Some("test.nothing".to_owned())).await;
    assert_eq!(at(&kind, minute).depth, None);
    drop(running);
}

#[tokio::test]
async fn operators_read_history_from_the_command_line() {
    let (db, clock, minute) = stage().await;
    ended(db.pool(), Ended { from: minute, count: 40, run_ms: 1_500, ..ENDED }).await;
    clock.advance(Duration::from_secs(120)).await;
    roll_up(db.pool()).await;
    let shown = MillpondProcess::output(&db, &["queues", "history", "--kind", "test.kind", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let points = shown["points"].as_array().unwrap();
    let point = points.iter().find(|point| point["completed"] == 40).expect("the minute");
    assert_eq!((&point["run"]["jobs"], &point["run"]["maxMs"]), (&Value::from(40), &Value::from(1_500)));
    assert!(points.len() > 100, "{}", points.len());
    let table = MillpondProcess::output(&db, &["queues", "history", "--since", "30m"]);
    assert!(table.lines().any(|line| line.contains("40") && line.contains("1.")), "{table}");
    assert!(
        MillpondProcess::output(&db, &["queues", "history", "--queue", "webhooks", "--since", "10d"])
            .contains("COMPLETED")
    );
}
