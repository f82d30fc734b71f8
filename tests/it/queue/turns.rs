//! A turn: what jobs came to goes in, the next jobs come out.

use std::time::Duration;

use db::Pool;
use queue::{Acknowledgement, End, KnownLanes, Shares, Turn, TurnAnswer};

use super::kinds::KINDS;
use super::*;
use crate::support::{TestDb, WorkerOptions, eventually};

/// One turn of a process on the queue of plain jobs.
async fn turn(pool: &Pool, process: Uuid, count_max: usize, outcomes: &[Acknowledgement]) -> TurnAnswer {
    let mut conn = pool.acquire().await.unwrap();
    let (shares, lanes) = (Shares::default(), KnownLanes::default());
    let turn = Turn { count_max, acknowledgements: outcomes, ..look_of(process, &shares, &lanes) };
    queue::turn(&mut conn, &turn).await.unwrap()
}

/// A turn that looks at all ready jobs and claims one.
fn look_of<'a>(process: Uuid, shares: &'a Shares, lanes: &'a KnownLanes) -> Turn<'a> {
    Turn {
        process,
        queue: Queue::Enrich,
        count_max: 1,
        shares,
        lane_after: Uuid::nil(),
        since: None,
        lanes,
        acknowledgements: &[],
    }
}

async fn stored_many(pool: &Pool, count: usize) -> Vec<JobId> {
    let mut conn = pool.acquire().await.unwrap();
    let stored = queue::enqueue_many(&mut conn, (0..count).map(|_| plain()).collect()).await.unwrap();
    stored.into_iter().map(queue::Enqueued::id).collect()
}

fn completed(claim: &Claimed) -> Acknowledgement {
    Acknowledgement {
        lease: claim.lease,
        row: claim.row,
        settlement: Settlement::End(End::Completed(None), None),
    }
}

#[tokio::test]
async fn a_turn_acknowledges_and_claims_in_one_commit() {
    let db = TestDb::new().await;
    let jobs = stored_many(db.pool(), 5).await;
    let worker = process(db.pool()).await;
    let first = turn(db.pool(), worker, 3, &[]).await;
    assert_eq!((first.claimed.len(), first.ended), (3, 0));
    let outcomes: Vec<_> = first.claimed.iter().map(completed).collect();
    let second = turn(db.pool(), worker, 10, &outcomes).await;
    assert_eq!((second.claimed.len(), second.ended, second.refused.len()), (2, 3, 0));
    let mut seen: Vec<_> = first.claimed.iter().chain(&second.claimed).map(|claim| claim.lease.job).collect();
    seen.sort();
    assert_eq!(seen, jobs);
    let commits = sqlx::query_scalar!(
        r#"select count(distinct xmin::text) as "commits!" from (
               select xmin from jobs where state = 'running' union all select xmin from jobs_finished
           ) as written"#
    );
    assert_eq!(commits.fetch_one(db.pool()).await.unwrap(), 1);
}

#[tokio::test]
async fn what_came_too_late_is_named_and_the_rest_is_written() {
    let db = TestDb::new().await;
    stored_many(db.pool(), 3).await;
    let lost = process(db.pool()).await;
    let claims = turn(db.pool(), lost, 3, &[]).await.claimed;
    settle(db.pool(), claims[0].lease, Settlement::Again(Duration::ZERO)).await;
    let again = turn(db.pool(), process(db.pool()).await, 1, &[]).await.claimed;
    assert_eq!(again[0].lease.job, claims[0].lease.job, "another has it now");

    let mut outcomes: Vec<_> = claims.iter().map(completed).collect();
    outcomes[1].settlement = Settlement::Retry(LONG, serde_json::json!({"code": "X", "message": "x"}));
    let answer = turn(db.pool(), lost, 0, &outcomes).await;
    assert_eq!((answer.refused, answer.ended), (vec![claims[0].lease.job], 1));
    // A repeat of the same, after an answer that was lost, changes nothing.
    let repeated = turn(db.pool(), lost, 0, &outcomes).await;
    let mut refused = repeated.refused;
    refused.sort();
    let mut all: Vec<_> = claims.iter().map(|claim| claim.lease.job).collect();
    all.sort();
    assert_eq!((refused, repeated.ended), (all, 0));
    assert_eq!(record(db.pool(), claims[1].lease.job).await.errors.len(), 1);
}

#[tokio::test]
async fn a_process_that_is_not_registered_gets_nothing_but_what_it_did_counts() {
    let db = TestDb::new().await;
    stored_many(db.pool(), 2).await;
    let worker = process(db.pool()).await;
    let claims = turn(db.pool(), worker, 1, &[]).await.claimed;
    let mut conn = db.pool().acquire().await.unwrap();
    queue::unregister(&mut conn, worker).await.unwrap();
    drop(conn);
    let answer = turn(db.pool(), worker, 10, &[completed(&claims[0])]).await;
    assert_eq!((answer.claimed.len(), answer.ended, answer.refused.len()), (0, 1, 0), "its lease held yet");
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back_and_uses_no_attempt() {
    let db = TestDb::new().await;
    stored_many(db.pool(), 3).await;
    let (worker, other) = (process(db.pool()).await, process(db.pool()).await);
    let known = turn(db.pool(), worker, 1, &[]).await.claimed;
    let lost = turn(db.pool(), worker, 1, &[]).await.claimed;
    let others = turn(db.pool(), other, 1, &[]).await.claimed;
    let held = [known[0].lease];
    let young = queue::forgotten(db.pool(), worker, &held, LONG).await.unwrap();
    assert!(young.is_empty(), "its answer may still be on its way");
    let queues = queue::forgotten(db.pool(), worker, &held, Duration::ZERO).await.unwrap();
    assert_eq!(queues, [Queue::Enrich]);
    for (claim, expected) in [(&known, "running"), (&lost, "ready"), (&others, "running")] {
        assert_eq!(state(db.pool(), claim[0].lease.job).await.as_deref(), Some(expected));
    }
    let again = turn(db.pool(), other, 10, &[]).await.claimed;
    assert_eq!((again[0].lease.job, again[0].attempt), (lost[0].lease.job, 1));
    assert!(again[0].lease.token > lost[0].lease.token);
    // The answer arrives after all: whoever acts on it is fenced off.
    let late = turn(db.pool(), worker, 0, &[completed(&lost[0])]).await;
    assert_eq!(late.refused, [lost[0].lease.job]);
}

#[tokio::test]
async fn a_turn_tells_when_the_next_scheduled_job_is_due_and_takes_those_that_are() {
    let db = TestDb::new().await;
    let worker = process(db.pool()).await;
    let due = stored(db.pool(), plain().delay(Duration::from_secs(60))).await;
    stored(db.pool(), plain().delay(LONG)).await;
    let early = turn(db.pool(), worker, 10, &[]).await;
    assert!(early.claimed.is_empty());
    let wait = early.due.expect("one is scheduled");
    assert!((Duration::from_secs(50)..=Duration::from_secs(60)).contains(&wait), "{wait:?}");
    sqlx::query!("update jobs set run_at = now() where id = $1", due.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    let answer = turn(db.pool(), worker, 10, &[]).await;
    assert_eq!(answer.claimed.iter().map(|claim| claim.lease.job).collect::<Vec<_>>(), [due]);
    assert!(answer.due.is_some_and(|wait| wait > Duration::from_secs(500)));
}

#[tokio::test]
async fn a_look_says_since_when_the_next_ones_need_to_look() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    let look = async |since, count_max| {
        let mut conn = db.pool().acquire().await.unwrap();
        let (shares, lanes) = (Shares::default(), KnownLanes::default());
        let turn = Turn { count_max, since, ..look_of(process, &shares, &lanes) };
        queue::turn(&mut conn, &turn).await.unwrap()
    };
    stored_many(db.pool(), 3).await;
    assert_eq!(look(None, 5).await.claimed.len(), 3);
    let since = look(None, 5).await.since.expect("nothing is left behind");

    let old = stored_many(db.pool(), 2).await;
    sqlx::query!("update jobs set run_at = $1 where state = 'ready'", since - chrono::TimeDelta::seconds(1))
        .execute(db.pool())
        .await
        .unwrap();
    let young = stored_many(db.pool(), 1).await;
    let younger = look(Some(since), 5).await;
    assert_eq!(younger.claimed.iter().map(|job| job.lease.job).collect::<Vec<_>>(), young);
    assert_eq!(younger.since, None, "it did not look at all");
    let mut rest: Vec<_> = look(None, 5).await.claimed.iter().map(|job| job.lease.job).collect();
    rest.sort_unstable();
    assert_eq!(rest, old);
}

#[tokio::test]
async fn a_look_that_leaves_jobs_behind_wants_the_oldest_of_them_to_be_looked_for() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    let mut conn = db.pool().acquire().await.unwrap();
    for _ in 0..2 {
        let owner = TenantId::from_uuid(kernel::ids::PartnerId::new().uuid());
        let jobs = (0..3).map(|_| plain().tenant(owner)).collect();
        queue::enqueue_many(&mut conn, jobs).await.unwrap();
    }
    let hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    sqlx::query!("update jobs set run_at = run_at - interval '1 hour'").execute(db.pool()).await.unwrap();
    let some = turn(db.pool(), process, 2, &[]).await;
    assert!(some.since.unwrap() <= hour_ago);
    let rest = turn(db.pool(), process, 5, &[]).await;
    assert_eq!(rest.claimed.len(), 4);
    let none = turn(db.pool(), process, 5, &[]).await;
    assert!(none.since.unwrap() > hour_ago, "now all are claimed");
}

#[tokio::test]
async fn older_jobs_that_are_less_urgent_do_not_wait_for_the_next_look_at_all() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    for lanes in 1..=2 {
        let mut conn = db.pool().acquire().await.unwrap();
        for _ in 0..lanes {
            let owner = TenantId::from_uuid(kernel::ids::PartnerId::new().uuid());
            let older = [0, 5, 7, 7].map(|priority| plain().tenant(owner).priority(priority)).to_vec();
            queue::enqueue_many(&mut conn, older).await.unwrap();
            sqlx::query!("update jobs set run_at = run_at - interval '1 hour' where state = 'ready'")
                .execute(&mut conn)
                .await
                .unwrap();
            let urgent = plain().tenant(owner).priority(-5);
            queue::enqueue(&mut conn, urgent).await.unwrap();
        }
        let (shares, known) = (Shares::default(), KnownLanes::default());
        let mut turn = Turn { count_max: lanes, ..look_of(process, &shares, &known) };
        let urgent = queue::turn(&mut conn, &turn).await.unwrap();
        assert_eq!(urgent.claimed.iter().map(|job| job.priority).collect::<Vec<_>>(), vec![-5; lanes]);
        turn = Turn { count_max: 100, since: urgent.since, ..turn };
        assert_eq!(queue::turn(&mut conn, &turn).await.unwrap().claimed.len(), 4 * lanes);
    }
}

#[tokio::test]
async fn scheduled_jobs_that_became_ready_together_do_not_wait_for_the_next_look_at_all() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let (shares, known) = (Shares::default(), KnownLanes::default());
    let mut turn = look_of(process, &shares, &known);
    let since = queue::turn(&mut conn, &turn).await.unwrap().since;
    queue::enqueue_many(&mut conn, (0..3).map(|_| plain().delay(LONG)).collect()).await.unwrap();
    sqlx::query!("update jobs set run_at = now() - interval '1 hour'").execute(&mut conn).await.unwrap();
    turn = Turn { since, ..turn };
    let first = queue::turn(&mut conn, &turn).await.unwrap();
    assert_eq!(first.claimed.len(), 1);
    turn = Turn { since: first.since, count_max: 5, ..turn };
    assert!(turn.since.is_some(), "it looked at all");
    assert_eq!(queue::turn(&mut conn, &turn).await.unwrap().claimed.len(), 2);
}

#[tokio::test]
async fn a_job_that_was_to_run_long_before_it_was_seen_does_not_wait_for_the_next_poll() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.poll = Duration::from_secs(600);
    let waker = options.waker.clone();
    let worker = options.start(&db);
    let first = stored(db.pool(), Scripted::job([])).await;
    waker.wake(Queue::Enrich);
    let ended = async |job| record(db.pool(), job).await.status.has_ended();
    eventually("the first job has ended", async || ended(first).await).await;
    // As by a transaction that began then and lasted until now.
    let mut tx = db::begin(db.pool()).await.unwrap();
    let late = queue::enqueue(&mut tx, Scripted::job([])).await.unwrap().id();
    sqlx::query!("update jobs set run_at = now() - interval '1 hour' where id = $1", late.uuid())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    waker.wake(Queue::Enrich);
    eventually("the late job has ended", async || ended(late).await).await;
    worker.stop().await;
}

#[tokio::test]
async fn lanes_in_which_jobs_were_before_change_nothing_of_what_is_found_or_when() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let tenants: Vec<_> = (0..5).map(|_| TenantId::from_uuid(kernel::ids::PartnerId::new().uuid())).collect();
    let store = async |conn: &mut db::Connection, tenant: TenantId, priorities: &[i16]| {
        let jobs = priorities.iter().map(|priority| plain().tenant(tenant).priority(*priority)).collect();
        queue::enqueue_many(conn, jobs).await.unwrap().into_iter().map(|job| job.id()).collect::<Vec<_>>()
    };
    let look = async |conn: &mut db::Connection, lanes: &KnownLanes, since, count_max| {
        let shares = Shares::default();
        let turn = Turn { count_max, since, ..look_of(process, &shares, lanes) };
        queue::turn(conn, &turn).await.unwrap()
    };
    for tenant in &tenants[1..4] {
        store(&mut conn, *tenant, &[0, 7]).await;
    }
    let mut lanes = KnownLanes::default();
    for job in look(&mut conn, &lanes, None, 100).await.claimed {
        lanes.met(job.lane, job.priority);
    }
    // A lane that is empty for good.
    lanes.met(Uuid::from_u128(1 << 120 | 1), 0);
    let since = look(&mut conn, &lanes, None, 100).await.since;
    assert!(since.is_some());

    // Of the first tenant of those that are known: more urgent, known, between, known, less urgent.
    let one = store(&mut conn, tenants[1], &[9, 3, 7, -4, 0]).await;
    let mut found = Vec::new();
    for _ in 0..6 {
        found.extend(look(&mut conn, &lanes, since, 1).await.claimed.iter().map(|job| job.lease.job));
    }
    assert_eq!(found, [3, 4, 1, 2, 0].map(|nth: usize| one[nth]), "the most urgent first");

    // Of all, two of which are new.
    let mut all = Vec::new();
    for tenant in &tenants {
        all.extend(store(&mut conn, *tenant, &[-1, 7, 8]).await);
    }
    let claimed = look(&mut conn, &lanes, since, 10).await.claimed;
    let tenants_served: std::collections::BTreeSet<_> = claimed.iter().map(|job| job.lease.tenant).collect();
    assert_eq!((claimed.len(), tenants_served.len()), (10, 5), "each share has its turn");
    let rest = look(&mut conn, &lanes, since, 10).await.claimed;
    let mut found: Vec<_> = claimed.iter().chain(&rest).map(|job| job.lease.job).collect();
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all);
}
