//! What a worker process keeps in order by itself, and what keeping it in order never does to those who work.

use std::time::Instant;

use queue::{
    DEADLINE_EXCEEDED, IndexBounds, JobStatus, PartitionsDropped, TableState, VacuumBounds, Vacuums,
};
use sqlx::AssertSqlSafe;

use super::kinds::{KINDS, Scripted};
use super::*;
use crate::support::{MillpondProcess, TestDb, TestWorker, WorkerOptions, eventually, found, within};

const RETENTION: Duration = Duration::from_secs(35 * 24 * 60 * 60);

async fn execute(pool: &Pool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

async fn number(pool: &Pool, query: &str) -> i64 {
    use sqlx::Row;
    sqlx::raw_sql(AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap().get(0)
}

/// Drops the partition of the week so many weeks from now.
async fn without_week(pool: &Pool, weeks: i32) {
    let dropped = format!(
        "do $$ begin execute 'drop table jobs_finished_'
             || to_char((now() + {weeks} * interval '7 days') at time zone 'UTC', 'IYYY\"w\"IW'); end $$"
    );
    execute(pool, &dropped).await;
}

async fn weeks(pool: &Pool) -> i64 {
    number(pool, "select count(*) from pg_class where relname ~ '^jobs_finished_[0-9]{4}w[0-9]{2}$'").await
}

const OVERFLOWING: &str = "select count(*) from jobs_finished_overflow";

/// Ends a job, and answers how long that took.
async fn ends(pool: &Pool) -> Duration {
    let claim = running(pool, plain()).await;
    let began = Instant::now();
    end(pool, claim.lease, End::Completed(None)).await;
    began.elapsed()
}

/// A transaction that has read something, when it has lasted for longer than anybody waits for.
async fn reader(pool: &Pool, reads: &str) -> db::Transaction {
    let mut tx = db::begin(pool).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("set transaction isolation level repeatable read; {reads}")))
        .execute(&mut *tx)
        .await
        .unwrap();
    eventually("the reader to have read for a while", async || {
        let old = sqlx::query_scalar!(r#"select clock_timestamp() > now() + interval '700 ms' as "old!""#);
        old.fetch_one(&mut *tx).await.unwrap()
    })
    .await;
    tx
}

#[tokio::test]
async fn missing_weeks_are_made_and_get_what_overflowed_though_no_scheduler_runs() {
    let db = TestDb::new().await;
    without_week(db.pool(), 0).await;
    without_week(db.pool(), 3).await;
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(number(db.pool(), OVERFLOWING).await, 1);
    let _worker = TestWorker::start(&db, KINDS);
    eventually("the weeks to be there", async || weeks(db.pool()).await == 5).await;
    assert_eq!(number(db.pool(), OVERFLOWING).await, 0);
    assert_eq!(record(db.pool(), claim.lease.job).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn an_overflow_that_has_grown_large_is_not_searched_under_a_lock_and_keeps_its_week() {
    let db = TestDb::new().await;
    without_week(db.pool(), 0).await;
    without_week(db.pool(), 2).await;
    ends(db.pool()).await;
    execute(
        db.pool(),
        "insert into jobs_finished
         select (jsonb_populate_record(f, jsonb_build_object('id', gen_random_uuid()))).*
         from jobs_finished f, generate_series(1, 10500)",
    )
    .await;
    assert_eq!(queue::make_partitions(db.pool()).await.unwrap(), 1);
    assert_eq!((weeks(db.pool()).await, number(db.pool(), OVERFLOWING).await), (4, 10_501));
    let promises = "select count(*) from pg_constraint where conname = 'jobs_finished_overflow_apart'";
    assert_eq!(number(db.pool(), promises).await, 0);
    ends(db.pool()).await;
    assert_eq!(queue::make_partitions(db.pool()).await.unwrap(), 0);
}

#[tokio::test]
async fn an_old_week_is_dropped_while_somebody_reads_another() {
    let db = TestDb::new().await;
    execute(db.pool(), "select create_jobs_finished_partition(now() - interval '60 days')").await;
    ends(db.pool()).await;
    let this_week = sqlx::query_scalar!(
        r#"select 'jobs_finished_' || to_char(now() at time zone 'UTC', 'IYYY"w"IW') as "name!""#
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    let reader = reader(db.pool(), &format!("select count(*) from {this_week}")).await;
    let done = queue::drop_partitions(db.pool(), RETENTION).await.unwrap();
    assert_eq!(done, PartitionsDropped { dropped: 1, held: 0 });
    reader.commit().await.unwrap();
}

#[tokio::test]
async fn jobs_end_while_an_old_week_waits_for_a_long_reader_of_all_history() {
    let db = TestDb::new().await;
    execute(db.pool(), "select create_jobs_finished_partition(now() - interval '60 days')").await;
    let reader = reader(db.pool(), "select count(*) from jobs_finished").await;
    let (done, slowest) = tokio::join!(queue::drop_partitions(db.pool(), RETENTION), async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            slowest = slowest.max(ends(db.pool()).await);
        }
        slowest
    });
    assert_eq!(done.unwrap(), PartitionsDropped { dropped: 0, held: 1 });
    assert!(slowest < Duration::from_millis(1_000), "a job took {slowest:?} to end");
    reader.commit().await.unwrap();
    let done = queue::drop_partitions(db.pool(), RETENTION).await.unwrap();
    assert_eq!(done, PartitionsDropped { dropped: 1, held: 0 });
}

/// Stores jobs and makes them vanish, as if many had run. The server's own cleaner, who may come at any moment, stays away.
async fn churn(pool: &Pool, jobs: usize) {
    execute(pool, "alter table jobs set (autovacuum_enabled = false)").await;
    let mut tx = promptly_counted(pool).await;
    queue::enqueue_many(&mut tx, (0..jobs).map(|_| plain()).collect()).await.unwrap();
    sqlx::raw_sql("delete from jobs").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn table(pool: &Pool, name: &str) -> TableState {
    let states = queue::table_states(pool).await.unwrap();
    states.into_iter().find(|state| state.table == name).unwrap()
}

#[tokio::test]
async fn dead_rows_are_removed_by_the_leader_long_before_the_servers_own_cleaner_comes() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    churn(db.pool(), 11_000).await;
    eventually("the table to be cleaned", async || {
        number(db.pool(), "select vacuum_count from pg_stat_user_tables where relname = 'jobs'").await > 0
            && table(db.pool(), "jobs").await.dead_rows < 100
    })
    .await;
}

#[tokio::test]
async fn a_table_below_its_bound_is_left_alone() {
    let db = TestDb::new().await;
    churn(db.pool(), 500).await;
    let states = found("the count", async || {
        let states = queue::table_states(db.pool()).await.unwrap();
        states.iter().any(|state| state.table == "jobs" && state.dead_rows >= 500).then_some(states)
    })
    .await;
    let mut vacuums = Vacuums::default();
    let none = queue::vacuum(db.pool(), &VacuumBounds::default(), &mut vacuums, &states).await.unwrap();
    assert_eq!(none, []);
    let bounds = VacuumBounds { dead_rows: Some(400), ..VacuumBounds::default() };
    let [done] = &queue::vacuum(db.pool(), &bounds, &mut vacuums, &states).await.unwrap()[..] else {
        panic!("jobs is cleaned")
    };
    assert_eq!((done.table.as_str(), done.dead_rows_after), ("jobs", 0));
    let again = queue::vacuum(db.pool(), &bounds, &mut vacuums, &states).await.unwrap();
    assert_eq!(again, [], "it rests");
}

#[tokio::test]
async fn an_index_that_stayed_large_is_rebuilt_and_what_an_interrupted_rebuilding_left_is_removed() {
    let db = TestDb::new().await;
    churn(db.pool(), 8_000).await;
    execute(db.pool(), "vacuum jobs").await;
    execute(db.pool(), "create index jobs_kind_ccnew on jobs (kind)").await;
    execute(
        db.pool(),
        "update pg_index set indisvalid = false where indexrelid = 'jobs_kind_ccnew'::regclass",
    )
    .await;
    let before = table(db.pool(), "jobs").await.index_bytes;
    let bounds = IndexBounds { bytes_min: 100 * 1024, times_max: 8 };
    let mut rebuilt = Vec::new();
    loop {
        let done = queue::reindex(db.pool(), &bounds).await.unwrap();
        if rebuilt.is_empty() {
            assert_eq!(done.leftovers, ["jobs_kind_ccnew"]);
        }
        match done.rebuilt {
            Some((index, _)) => rebuilt.push(index),
            None => break,
        }
        assert!(rebuilt.len() < 20, "rebuilt again and again: {rebuilt:?}");
    }
    assert!(rebuilt.contains(&"jobs_ready".to_owned()), "{rebuilt:?}");
    let after = table(db.pool(), "jobs").await.index_bytes;
    assert!(after < before / 2, "{before} bytes became {after}");
    ends(db.pool()).await;
}

#[tokio::test]
async fn indexes_are_not_rebuilt_for_small_reasons() {
    let db = TestDb::new().await;
    churn(db.pool(), 8_000).await;
    execute(db.pool(), "vacuum jobs").await;
    let done = queue::reindex(db.pool(), &IndexBounds::default()).await.unwrap();
    assert_eq!(done.rebuilt, None, "they are small");
    let mut tx = promptly_counted(db.pool()).await;
    queue::enqueue_many(&mut tx, (0..8_000).map(|_| plain()).collect()).await.unwrap();
    tx.commit().await.unwrap();
    let bounds = IndexBounds { bytes_min: 100 * 1024, times_max: 8 };
    eventually("the count", async || table(db.pool(), "jobs").await.live_rows >= 8_000).await;
    assert_eq!(queue::reindex(db.pool(), &bounds).await.unwrap().rebuilt, None, "they are full");
}

#[tokio::test]
async fn the_oldest_transaction_is_known_with_whose_it_is() {
    let db = TestDb::new().await;
    let mut tx = db::begin(&db.connect_more(1)).await.unwrap();
    let pid: i32 =
        sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#).fetch_one(&mut *tx).await.unwrap();
    sqlx::raw_sql("set application_name = 'a forgotten report'").execute(&mut *tx).await.unwrap();
    let oldest = queue::oldest_transaction(db.pool()).await.unwrap().expect("there is one");
    assert_eq!((oldest.pid, oldest.application.as_str()), (pid, "a forgotten report"));
    assert_eq!((oldest.state.as_str(), oldest.keeps_rows), ("idle in transaction", false));
    sqlx::raw_sql("select pg_current_xact_id()").execute(&mut *tx).await.unwrap();
    let oldest = queue::oldest_transaction(db.pool()).await.unwrap().expect("there is one");
    assert!(oldest.keeps_rows);
    tx.rollback().await.unwrap();
    assert_eq!(queue::oldest_transaction(db.pool()).await.unwrap(), None);
}

#[tokio::test]
async fn a_worker_warns_of_an_old_transaction_once() {
    let db = TestDb::new().await;
    let mut tx = db::begin(&db.connect_more(1)).await.unwrap();
    sqlx::raw_sql("set application_name = 'a forgotten report'").execute(&mut *tx).await.unwrap();
    let variables = [("MILLPOND_QUEUE__OLDEST_TRANSACTION_WARN_S", "1"), ("MILLPOND_LOG__FORMAT", "json")];
    let worker = MillpondProcess::start(&db, &["worker", "--queues", "maintenance"], &variables);
    let told = || worker.log().matches("a forgotten report").count();
    eventually("the warning", async || told() > 0).await;
    // A second look, in the life of a second transaction, would tell of the first again.
    let mut second = db::begin(&db.connect_more(1)).await.unwrap();
    sqlx::raw_sql("set application_name = 'another report'").execute(&mut *second).await.unwrap();
    tx.rollback().await.unwrap();
    eventually("the second warning", async || worker.log().contains("another report")).await;
    assert_eq!(told(), 1, "{}", worker.log());
    second.rollback().await.unwrap();
}

#[tokio::test]
async fn jobs_past_their_deadline_end_in_every_state_that_no_worker_holds() {
    let db = TestDb::new().await;
    let soon = || plain().deadline(LONG);
    let held = running(db.pool(), soon()).await.lease.job;
    let ready = stored(db.pool(), soon()).await;
    let scheduled = stored(db.pool(), soon().delay(LONG).awaited()).await;
    let first = stored(db.pool(), plain()).await;
    let waiting = stored(db.pool(), soon().after(TenantId::SYSTEM, first)).await;
    let parked = stored(db.pool(), soon()).await;
    execute(db.pool(), &format!("update jobs set state = 'parked' where id = '{}'", parked.uuid())).await;
    let follower = stored(db.pool(), plain().after(TenantId::SYSTEM, scheduled)).await;
    for (job, is) in [(ready, "ready"), (scheduled, "scheduled"), (waiting, "waiting"), (parked, "parked")] {
        assert_eq!(state(db.pool(), job).await.as_deref(), Some(is));
    }
    assert_eq!(queue::expire(db.pool()).await.unwrap(), (0, vec![]), "nobody is late yet");

    execute(db.pool(), "update jobs set deadline_at = now() where deadline_at is not null").await;
    let (expired, released) = queue::expire(db.pool()).await.unwrap();
    assert_eq!((expired, released), (4, vec![Queue::Enrich]));
    for job in [ready, scheduled, waiting, parked] {
        let record = record(db.pool(), job).await;
        assert_eq!(
            (record.status, record.failure.unwrap().code.as_str()),
            (JobStatus::Failed, DEADLINE_EXCEEDED)
        );
    }
    assert_eq!(state(db.pool(), held).await.as_deref(), Some("running"));
    assert_eq!(state(db.pool(), first).await.as_deref(), Some("ready"));
    assert_eq!(state(db.pool(), follower).await.as_deref(), Some("ready"), "what ran after it may run");
}

#[tokio::test]
async fn a_worker_ends_late_jobs_that_it_could_not_run_and_wakes_those_who_wait() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.slots = [(Queue::Webhooks, 1)].into();
    let _worker = options.start(&db);
    let job = stored(db.pool(), Scripted::job([]).deadline(Duration::from_millis(1))).await;
    within("the deadline", async {
        eventually("its end", async || state(db.pool(), job).await.is_none()).await;
    })
    .await;
    assert_eq!(record(db.pool(), job).await.failure.unwrap().code, DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_process_tells_its_version() {
    let db = TestDb::new().await;
    process(db.pool()).await;
    let version =
        sqlx::query_scalar!("select version from worker_processes").fetch_one(db.pool()).await.unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}
