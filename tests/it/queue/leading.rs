//! Who keeps the queue in order: one process at a time, whoever dies; and no harm in two.

use std::time::Instant;

use futures::future::join_all;
use queue::{Term, VacuumBounds, Vacuums};

use super::kinds::{Act, KINDS, Scripted};
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, eventually, found, within};

const NAME: &str = "a test's office";

async fn lead(pool: &Pool, holder: Uuid) -> Option<Term> {
    queue::lead(pool, NAME, holder, LONG).await.unwrap()
}

/// Lets the leader's lease be over.
async fn run_out(pool: &Pool) {
    sqlx::query!("update job_leaders set expires_at = now() - interval '1 ms'").execute(pool).await.unwrap();
}

/// The process that leads the upkeep, if one does.
async fn leader(pool: &Pool) -> Option<Uuid> {
    sqlx::query_scalar!("select holder from job_leaders where expires_at > now()")
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn one_process_leads_under_one_term_for_as_long_as_it_asks() {
    let db = TestDb::new().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(lead(db.pool(), one).await, Some(Term(1)));
    assert_eq!(lead(db.pool(), other).await, None);
    assert_eq!(lead(db.pool(), one).await, Some(Term(1)));
    assert_eq!(queue::lead(db.pool(), "another office", other, LONG).await.unwrap(), Some(Term(1)));
}

#[tokio::test]
async fn when_its_lease_has_run_out_another_leads_under_the_next_term() {
    let db = TestDb::new().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    lead(db.pool(), one).await;
    run_out(db.pool()).await;
    assert_eq!(lead(db.pool(), other).await, Some(Term(2)));
    assert_eq!(lead(db.pool(), one).await, None, "it learns that it leads no more");
    queue::resign(db.pool(), NAME, one).await.unwrap();
    assert_eq!(lead(db.pool(), one).await, None, "it cannot give up what is not its own");
    queue::resign(db.pool(), NAME, other).await.unwrap();
    assert_eq!(lead(db.pool(), one).await, Some(Term(3)), "given up, it is free at once");
}

#[tokio::test]
async fn a_leader_that_comes_late_keeps_its_term_if_nobody_took_over() {
    let db = TestDb::new().await;
    let one = Uuid::now_v7();
    lead(db.pool(), one).await;
    run_out(db.pool()).await;
    assert_eq!(lead(db.pool(), one).await, Some(Term(1)));
    assert_eq!(lead(db.pool(), Uuid::now_v7()).await, None, "and has renewed it");
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_leads() {
    let db = TestDb::new().await;
    for term in 1..=10 {
        let asking = (0..10).map(|_| lead(db.pool(), Uuid::now_v7()));
        let terms: Vec<Term> = join_all(asking).await.into_iter().flatten().collect();
        assert_eq!(terms, [Term(term)]);
        run_out(db.pool()).await;
    }
}

#[tokio::test]
async fn asking_writes_nothing_unless_the_office_changes_hands_or_is_renewed() {
    let db = TestDb::new().await;
    let version = async || {
        sqlx::query_scalar!(
            r#"select concat_ws(' ', ctid::text, xmin::text, xmax::text) as "version!" from job_leaders"#
        )
        .fetch_one(db.pool())
        .await
        .unwrap()
    };
    let one = Uuid::now_v7();
    lead(db.pool(), one).await;
    let before = version().await;
    assert!(lead(db.pool(), one).await.is_some() && lead(db.pool(), Uuid::now_v7()).await.is_none());
    assert_eq!(version().await, before);
    sqlx::query!(
        "update job_leaders set expires_at = now() + $1::float8 / 3 * interval '1 s'",
        LONG.as_secs_f64()
    )
    .execute(db.pool())
    .await
    .unwrap();
    let before = version().await;
    assert!(lead(db.pool(), one).await.is_some());
    assert_ne!(version().await, before, "less than half was left");
}

#[tokio::test]
async fn a_dead_leader_is_succeeded_and_its_jobs_are_taken_back_within_lease_and_sweep() {
    let db = TestDb::new().await;
    let worker = || {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.lease = Duration::from_secs(1);
        options.settings.sweep = Duration::from_millis(500);
        options.start(&db)
    };
    let dying = worker();
    let first = found("a leader", async || leader(db.pool()).await).await;
    let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
    eventually("the leader to run the job", async || {
        let owner = sqlx::query_scalar!("select leased_by from jobs where id = $1", job.uuid());
        owner.fetch_one(db.pool()).await.unwrap() == Some(first)
    })
    .await;
    let _heir = worker();
    eventually("the other process", async || {
        let processes = sqlx::query_scalar!(r#"select count(*) as "n!" from worker_processes"#);
        processes.fetch_one(db.pool()).await.unwrap() == 2
    })
    .await;
    assert_eq!(leader(db.pool()).await, Some(first));

    let died = Instant::now();
    dying.crash();
    eventually("the job to be taken back", async || record(db.pool(), job).await.taken_back == 1).await;
    let took = died.elapsed();
    // What the statements take on a busy machine, beyond the 1.5 s.
    assert!(took < Duration::from_millis(2_500), "taken back after {took:?}");
    let second = async || leader(db.pool()).await.filter(|leader| *leader != first);
    found("another leader", second).await;
}

#[tokio::test]
async fn a_leader_that_stops_in_good_order_leaves_the_office_free() {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    found("a leader", async || leader(db.pool()).await).await;
    worker.stop().await;
    assert_eq!(leader(db.pool()).await, None);
}

#[tokio::test]
async fn two_leaders_at_once_do_no_harm() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let late = (0..300).map(|_| plain().deadline(Duration::ZERO));
    let mut orphans = queue::enqueue_many(&mut conn, (0..1_500).map(|_| plain()).collect()).await.unwrap();
    let dead = process(db.pool()).await;
    assert_eq!(queue::claim(db.pool(), dead, Queue::Enrich, 1_500).await.unwrap().len(), 1_500);
    queue::enqueue_many(&mut conn, late.collect()).await.unwrap();
    drop(conn);
    silence(db.pool(), dead).await;
    sqlx::raw_sql(
        "select create_jobs_finished_partition(now() - n * interval '7 days') from generate_series(8, 9) n",
    )
    .execute(db.pool())
    .await
    .unwrap();

    let leaders = (0..3).map(|_| async {
        let pool = db.pool();
        let swept = queue::sweep(pool, LONG).await.unwrap();
        let (expired, _) = queue::expire(pool).await.unwrap();
        let pruned = queue::prune(pool, Duration::from_secs(35 * 24 * 60 * 60)).await.unwrap();
        queue::recount_batches(pool).await.unwrap();
        queue::resume_cancels(pool).await.unwrap();
        let bounds = VacuumBounds { dead_rows: Some(0), ..VacuumBounds::default() };
        let states = queue::table_states(pool).await.unwrap();
        queue::vacuum(pool, &bounds, &mut Vacuums::default(), &states).await.unwrap();
        (swept.taken_back, expired, pruned.partitions_dropped)
    });
    let did = within("all of them", join_all(leaders)).await;
    let sum = did.into_iter().fold((0, 0, 0), |sum, did| (sum.0 + did.0, sum.1 + did.1, sum.2 + did.2));
    assert_eq!(sum, (1_500, 300, 2));
    let orphan = orphans.swap_remove(0).id();
    assert_eq!(record(db.pool(), orphan).await.taken_back, 1);
}
