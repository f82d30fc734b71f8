//! Batches: counters, the completion job, adding, cancelling, and the reconciler that keeps it all true.

use std::time::Duration;

use db::Pool;
use futures::future::join_all;
use kernel::ids::{BatchId, JobId, PartnerId};
use queue::{
    BatchRecord, CancelledBatch, End, Enqueued, EnqueuedBatch, JobStatus, NewBatch, Redriven, claim,
};
use serde_json::json;

use super::kinds::{Act, KINDS, seen};
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, eventually};

/// Children of the batch that everything happens to.
const CHILDREN: usize = 10_000;
/// One in so many of them fails.
const FAILS_EVERY: usize = 33;

async fn stored_batch(pool: &Pool, batch: NewBatch) -> EnqueuedBatch {
    let mut tx = db::begin(pool).await.unwrap();
    let stored = queue::enqueue_batch(&mut tx, batch).await.unwrap();
    tx.commit().await.unwrap();
    stored
}

fn of(children: usize) -> NewBatch {
    NewBatch::of((0..children).map(|_| plain()).collect())
}

/// The job that is to run last.
fn completion() -> NewJob {
    plain()
}

async fn record_of_batch(pool: &Pool, batch: BatchId) -> BatchRecord {
    let mut conn = pool.acquire().await.unwrap();
    queue::batch(&mut conn, TenantId::SYSTEM, batch).await.unwrap().expect("the batch is there")
}

/// completed, failed, cancelled, pending.
async fn counters(pool: &Pool, batch: BatchId) -> [i32; 4] {
    let record = record_of_batch(pool, batch).await;
    assert_eq!(record.total, record.completed + record.failed + record.cancelled + record.pending);
    assert_eq!(record.finished_at.is_some(), record.pending == 0);
    [record.completed, record.failed, record.cancelled, record.pending]
}

/// The same, from the rows themselves.
async fn counted(pool: &Pool, batch: BatchId) -> [i32; 4] {
    let row = sqlx::query!(
        r#"select count(*) filter (where ended = 'completed') as "completed!",
               count(*) filter (where ended = 'failed') as "failed!",
               count(*) filter (where ended = 'cancelled') as "cancelled!",
               (select count(*) from jobs where batch_id = $1) as "pending!"
           from jobs_finished where batch_id = $1"#,
        batch.uuid(),
    )
    .fetch_one(pool)
    .await
    .unwrap();
    [row.completed, row.failed, row.cancelled, row.pending].map(|count| i32::try_from(count).unwrap())
}

async fn cancel_batch(pool: &Pool, batch: BatchId) -> Option<CancelledBatch> {
    queue::cancel_batch(pool, TenantId::SYSTEM, batch, "a test").await.unwrap()
}

/// Claims jobs that are ready, at most so many.
async fn claim_some(pool: &Pool, worker: Uuid, count: usize) -> Vec<LeaseKey> {
    let jobs = claim(pool, worker, Queue::Enrich, count).await.unwrap();
    jobs.into_iter().map(|job| job.lease).collect()
}

fn ended(lease: LeaseKey, end: End) -> Acknowledgement {
    Acknowledgement { lease, row: None, settlement: Settlement::End(end, None) }
}

#[tokio::test]
async fn the_completion_job_is_ready_when_the_last_child_has_ended_however_each_did() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(4).completion(completion())).await;
    assert_eq!(stored.queues, [Queue::Enrich]);
    let last = stored.completion.unwrap().id();
    let jobs = claim_some(db.pool(), process(db.pool()).await, 10).await;
    assert_eq!(jobs.len(), 4, "the completion job is not claimed");

    end(db.pool(), jobs[0], done(json!(1))).await;
    end(db.pool(), jobs[1], End::Failed(failure("BROKEN"))).await;
    end(db.pool(), jobs[2], End::Cancelled(failure("CALLED_OFF"))).await;
    assert_eq!(counters(db.pool(), stored.id).await, [1, 1, 1, 1]);
    assert_eq!(state(db.pool(), last).await.as_deref(), Some("waiting"));

    let answer = queue::settle(db.pool(), &[ended(jobs[3], done(json!(2)))]).await.unwrap();
    assert_eq!(answer.released, [Queue::Enrich], "so that a worker is woken for it");
    assert_eq!(counters(db.pool(), stored.id).await, [2, 1, 1, 0]);
    assert_eq!(state(db.pool(), last).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_batch_without_children_is_finished_and_its_completion_job_ready() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(0).completion(completion())).await;
    assert_eq!(counters(db.pool(), stored.id).await, [0; 4]);
    assert_eq!(state(db.pool(), stored.completion.unwrap().id()).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn a_batch_and_all_its_jobs_roll_back_with_the_transaction_that_stored_them() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let stored = queue::enqueue_batch(&mut tx, of(3).completion(completion())).await.unwrap();
    tx.rollback().await.unwrap();
    let mut conn = db.pool().acquire().await.unwrap();
    assert_eq!(queue::batch(&mut conn, TenantId::SYSTEM, stored.id).await.unwrap(), None);
    assert_eq!(counted(db.pool(), stored.id).await, [0; 4]);
}

#[tokio::test]
async fn a_step_that_is_repeated_stores_its_batch_once() {
    let db = TestDb::new().await;
    let id = BatchId::from_uuid(JobId::new().derive("batch"));
    let first = stored_batch(db.pool(), of(3).id(id).completion(completion())).await;
    let again = stored_batch(db.pool(), of(3).id(id).completion(completion())).await;
    assert!(first.is_new && !again.is_new);
    assert_eq!(again.id, id);
    assert_eq!(counted(db.pool(), id).await, [0, 0, 0, 3]);
    let jobs =
        sqlx::query_scalar!(r#"select count(*) as "n!" from jobs"#).fetch_one(db.pool()).await.unwrap();
    assert_eq!(jobs, 4, "three children and one completion job");
}

#[tokio::test]
async fn children_that_stand_for_other_jobs_are_not_of_the_batch() {
    let db = TestDb::new().await;
    let holder = stored(db.pool(), plain().unique("taken")).await;
    let children = vec![plain().unique("taken"), plain().unique("free"), plain().unique("free"), plain()];
    let mixed = stored_batch(db.pool(), NewBatch::of(children)).await;
    assert_eq!(mixed.children[0], Enqueued::Existing(holder));
    assert_eq!(counters(db.pool(), mixed.id).await, [0, 0, 0, 2]);

    let none = NewBatch::of(vec![plain().unique("taken")]).completion(completion());
    let none = stored_batch(db.pool(), none).await;
    assert_eq!(counters(db.pool(), none.id).await, [0; 4]);
    assert_eq!(state(db.pool(), none.completion.unwrap().id()).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn children_may_be_of_any_tenant_and_the_batch_is_seen_by_its_own() {
    let db = TestDb::new().await;
    let (owner, other) = (TenantId::from(PartnerId::new()), TenantId::from(PartnerId::new()));
    let children = vec![plain().tenant(owner), plain().tenant(other), plain()];
    let request = Some("req-7".to_owned());
    let stored =
        stored_batch(db.pool(), NewBatch::of(children).tenant(owner).request_id(request.clone())).await;
    let mut conn = db.pool().acquire().await.unwrap();
    assert_eq!(queue::batch(&mut conn, other, stored.id).await.unwrap(), None);
    let record = queue::batch(&mut conn, owner, stored.id).await.unwrap().unwrap();
    assert_eq!((record.total, &record.request_id), (3, &request));
    assert_eq!(record_of(db.pool(), other, stored.children[1].id()).await.request_id, request);
    let jobs = claim_some(db.pool(), process(db.pool()).await, 10).await;
    let all: Vec<_> = jobs.into_iter().map(|job| ended(job, done(json!(1)))).collect();
    queue::settle(db.pool(), &all).await.unwrap();
    let record = queue::batch(&mut conn, owner, stored.id).await.unwrap().unwrap();
    assert_eq!((record.completed, record.finished_at.is_some()), (3, true));
}

#[tokio::test]
async fn a_child_that_runs_adds_children_and_the_batch_ends_with_the_last_of_them() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(1).completion(completion())).await;
    let worker = process(db.pool()).await;
    let child = claimed(db.pool(), worker).await;
    let mut tx = lease(&child, db.pool()).begin().await.unwrap();
    let added = tx.add_to_batch(TenantId::SYSTEM, stored.id, vec![plain(), plain()]).await.unwrap().unwrap();
    let nested = tx.enqueue_batch(of(2)).await.unwrap();
    tx.done(None, None).await.unwrap();
    assert_eq!(added.len(), 2);
    assert_eq!(counters(db.pool(), stored.id).await, [1, 0, 0, 2]);
    assert_eq!(counters(db.pool(), nested.id).await, [0, 0, 0, 2]);

    let jobs = claim_some(db.pool(), worker, 10).await;
    let all: Vec<_> = jobs.into_iter().map(|job| ended(job, done(json!(1)))).collect();
    queue::settle(db.pool(), &all).await.unwrap();
    assert_eq!(counters(db.pool(), stored.id).await, [3, 0, 0, 0]);
    assert_eq!(state(db.pool(), stored.completion.unwrap().id()).await.as_deref(), Some("ready"));

    let mut tx = db::begin(db.pool()).await.unwrap();
    let late = queue::add_to_batch(&mut tx, TenantId::SYSTEM, stored.id, vec![plain()]).await.unwrap();
    assert_eq!(late, None, "a finished batch is never open again");
}

#[tokio::test]
async fn cancelling_ends_what_nobody_runs_asks_the_rest_to_stop_and_lets_the_completion_job_run() {
    let db = TestDb::new().await;
    let parked = stored_batch(db.pool(), of(2)).await.id;
    let worker = process(db.pool()).await;
    let jobs = claim_some(db.pool(), worker, 2).await;
    settle(db.pool(), jobs[0], Settlement::Park).await;
    let awaited = plain().awaited();
    let waiting = plain().after(TenantId::SYSTEM, awaited.job());
    let mut tx = db::begin(db.pool()).await.unwrap();
    let more = vec![plain(), plain().delay(LONG), awaited, waiting];
    queue::add_to_batch(&mut tx, TenantId::SYSTEM, parked, more).await.unwrap().unwrap();
    tx.commit().await.unwrap();

    let cancelled = cancel_batch(db.pool(), parked).await.unwrap();
    assert_eq!((cancelled.cancelled, cancelled.asked, cancelled.left), (5, 1, false));
    assert_eq!(counters(db.pool(), parked).await, [0, 0, 5, 1]);
    let again = cancel_batch(db.pool(), parked).await.unwrap();
    assert_eq!((again.cancelled, again.asked), (0, 0), "it may be repeated");
    let mut tx = db::begin(db.pool()).await.unwrap();
    let late = queue::add_to_batch(&mut tx, TenantId::SYSTEM, parked, vec![plain()]).await.unwrap();
    assert_eq!(late, None, "nothing joins a batch that was called off");
    drop(tx);

    // The one that runs fails first: it is not tried again but cancelled.
    let entry = json!({"code": "X", "message": "x", "attempt": 1});
    settle(db.pool(), jobs[1], Settlement::Retry(LONG, entry)).await;
    let last = claimed(db.pool(), worker).await;
    assert!(last.cancel_requested);
    end(db.pool(), last.lease, End::Cancelled(failure("CANCELLED"))).await;
    assert_eq!(counters(db.pool(), parked).await, [0, 0, 6, 0]);
    assert_eq!(cancel_batch(db.pool(), parked).await, None, "it has finished");

    let all = stored_batch(db.pool(), of(3).completion(completion())).await;
    let cancelled = cancel_batch(db.pool(), all.id).await.unwrap();
    assert_eq!(cancelled.released, [Queue::Enrich]);
    assert_eq!(state(db.pool(), all.completion.unwrap().id()).await.as_deref(), Some("ready"));
    let child = record(db.pool(), all.children[0].id()).await;
    assert_eq!(child.failure.unwrap().message, "cancelled by a test");
}

#[tokio::test]
async fn what_is_locked_while_a_batch_is_cancelled_is_cancelled_by_the_reconciler() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(3)).await;
    let child = claimed(db.pool(), process(db.pool()).await).await;
    let handler = lease(&child, db.pool()).begin().await.unwrap();
    let cancelled = cancel_batch(db.pool(), stored.id).await.unwrap();
    assert_eq!((cancelled.cancelled, cancelled.asked, cancelled.left), (2, 0, true));
    handler.commit().await.unwrap();
    let resumed = queue::resume_cancels(db.pool()).await.unwrap();
    assert_eq!((resumed.asked, resumed.left), (1, false));
    let asked =
        sqlx::query_scalar!("select cancel_requested from jobs where id = $1", child.lease.job.uuid())
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert!(asked);
}

#[tokio::test]
async fn the_reconciler_repairs_counters_and_finishes_what_is_finished() {
    let db = TestDb::new().await;
    let running = stored_batch(db.pool(), of(3)).await.id;
    let finished = stored_batch(db.pool(), of(1).completion(completion())).await;
    let right = stored_batch(db.pool(), of(2)).await.id;
    let worker = process(db.pool()).await;
    let jobs = claim_some(db.pool(), worker, 4).await;
    end(db.pool(), jobs[0], End::Failed(failure("BROKEN"))).await;
    sqlx::query!("update job_batches set total = 7, completed = 2 where id = $1", running.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    sqlx::query!("update job_batches set total = 2 where id = $1", finished.id.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    end(db.pool(), jobs[3], done(json!(1))).await;
    let completion = finished.completion.unwrap().id();
    assert_eq!(state(db.pool(), completion).await.as_deref(), Some("waiting"));

    let both = join_all((0..2).map(|_| queue::recount_batches(db.pool()))).await;
    let released: Vec<Queue> = both.into_iter().flat_map(|one| one.unwrap().released).collect();
    assert!(released.contains(&Queue::Enrich));
    assert_eq!(counters(db.pool(), running).await, [0, 1, 0, 2]);
    assert_eq!(counters(db.pool(), finished.id).await, [1, 0, 0, 0]);
    assert_eq!(counters(db.pool(), right).await, [0, 0, 0, 2]);
    assert_eq!(state(db.pool(), completion).await.as_deref(), Some("ready"));
    let idle = queue::recount_batches(db.pool()).await.unwrap();
    assert_eq!(idle, queue::Recounted::default(), "there is nothing left to repair");
}

#[tokio::test]
async fn a_batch_older_than_history_keeps_what_it_counted_and_ends_with_its_last_child() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(3).completion(completion())).await;
    let jobs = claim_some(db.pool(), process(db.pool()).await, 3).await;
    end(db.pool(), jobs[0], done(json!(1))).await;
    // History forgets, as weeks later.
    sqlx::query!("update job_batches set created_at = now() - interval '90 days'")
        .execute(db.pool())
        .await
        .unwrap();
    sqlx::query!("delete from jobs_finished").execute(db.pool()).await.unwrap();
    assert_eq!(queue::recount_batches(db.pool()).await.unwrap().repaired, 0);
    assert_eq!(counters(db.pool(), stored.id).await, [1, 0, 0, 2]);
    end(db.pool(), jobs[1], done(json!(1))).await;
    sqlx::query!("update job_batches set total = 4").execute(db.pool()).await.unwrap();
    end(db.pool(), jobs[2], done(json!(1))).await;
    assert_eq!(queue::recount_batches(db.pool()).await.unwrap().finished, 1);
    assert_eq!(counters(db.pool(), stored.id).await, [3, 0, 0, 0]);

    assert_eq!(queue::prune_batches(db.pool(), LONG).await.unwrap(), 0);
    assert_eq!(queue::prune_batches(db.pool(), Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn a_redriven_child_is_pending_again_in_an_open_batch_and_leaves_a_finished_one() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(2)).await;
    let worker = process(db.pool()).await;
    let jobs = claim_some(db.pool(), worker, 2).await;
    end(db.pool(), jobs[0], End::Failed(failure("BROKEN"))).await;
    assert_eq!(counters(db.pool(), stored.id).await, [0, 1, 0, 1]);
    let redrive = async |job: JobId| {
        let mut tx = db::begin(db.pool()).await.unwrap();
        let redriven = queue::redrive(&mut tx, TenantId::SYSTEM, job).await.unwrap();
        tx.commit().await.unwrap();
        redriven
    };
    assert_eq!(redrive(jobs[0].job).await, Redriven::Ready(Some(Queue::Enrich)));
    assert_eq!(counters(db.pool(), stored.id).await, [0, 0, 0, 2]);

    let again = claimed(db.pool(), worker).await.lease;
    end(db.pool(), again, End::Failed(failure("BROKEN"))).await;
    end(db.pool(), jobs[1], done(json!(1))).await;
    assert_eq!(counters(db.pool(), stored.id).await, [1, 1, 0, 0]);
    assert_eq!(redrive(again.job).await, Redriven::Ready(Some(Queue::Enrich)));
    assert_eq!(counters(db.pool(), stored.id).await, [1, 1, 0, 0], "a finished batch is never open again");
    let third = claimed(db.pool(), worker).await.lease;
    end(db.pool(), third, done(json!(1))).await;
    assert_eq!(counters(db.pool(), stored.id).await, [1, 1, 0, 0]);
    assert_eq!(queue::recount_batches(db.pool()).await.unwrap().repaired, 0);
}

#[tokio::test]
async fn children_that_share_the_end_of_another_job_or_miss_their_deadline_or_lose_their_worker_count() {
    let db = TestDb::new().await;
    let other = stored(db.pool(), plain().delay(LONG).awaited()).await;
    let sharer = stored_batch(db.pool(), of(1).completion(completion())).await;
    let child = claimed(db.pool(), process(db.pool()).await).await;
    let tx = lease(&child, db.pool()).begin().await.unwrap();
    tx.share_end_of(TenantId::SYSTEM, other).await.unwrap().unwrap();
    cancel(db.pool(), TenantId::SYSTEM, other).await;
    assert_eq!(counters(db.pool(), sharer.id).await, [0, 0, 1, 0]);
    assert_eq!(state(db.pool(), sharer.completion.unwrap().id()).await.as_deref(), Some("ready"));
    cancel(db.pool(), TenantId::SYSTEM, sharer.completion.unwrap().id()).await;

    let late = stored_batch(db.pool(), NewBatch::of(vec![plain().deadline(Duration::ZERO)])).await;
    queue::expire(db.pool()).await.unwrap();
    assert_eq!(counters(db.pool(), late.id).await, [0, 1, 0, 0]);

    let deadly = stored_batch(db.pool(), of(1)).await;
    for _ in 0..queue::TAKEN_BACK_MAX {
        let worker = process(db.pool()).await;
        claimed(db.pool(), worker).await;
        silence(db.pool(), worker).await;
        queue::sweep(db.pool(), LONG).await.unwrap();
    }
    assert_eq!(counters(db.pool(), deadly.id).await, [0, 1, 0, 0]);
}

#[tokio::test]
async fn acknowledgements_of_the_same_batches_in_opposite_orders_do_not_block_each_other() {
    const ROUNDS: usize = 30;
    let db = TestDb::new().await;
    let one = stored_batch(db.pool(), of(ROUNDS * 20)).await;
    let two = stored_batch(db.pool(), of(ROUNDS * 20)).await;
    let jobs = claim_some(db.pool(), process(db.pool()).await, CHILDREN).await;
    let is_of_one = |job: &LeaseKey| one.children.contains(&Enqueued::New(job.job));
    let (of_one, of_two): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_of_one);
    for (of_one, of_two) in of_one.chunks(20).zip(of_two.chunks(20)) {
        let forth: Vec<_> = of_one[..10].iter().chain(&of_two[..10]).collect();
        let back: Vec<_> = of_two[10..].iter().chain(&of_one[10..]).rev().collect();
        let settle = async |jobs: Vec<&LeaseKey>| {
            let all: Vec<_> = jobs.into_iter().map(|job| ended(*job, done(json!(1)))).collect();
            queue::settle(db.pool(), &all).await
        };
        let (forth, back) = tokio::join!(settle(forth), settle(back));
        assert_eq!((forth.unwrap().ended, back.unwrap().ended), (20, 20));
    }
    let all = i32::try_from(ROUNDS * 20).unwrap();
    assert_eq!(counters(db.pool(), one.id).await, [all, 0, 0, 0]);
    assert_eq!(counters(db.pool(), two.id).await, [all, 0, 0, 0]);
}

#[tokio::test]
async fn cancelling_recounting_and_acknowledging_at_once_leave_exact_counters() {
    let db = TestDb::new().await;
    let stored = stored_batch(db.pool(), of(600).completion(completion())).await;
    let worker = process(db.pool()).await;
    let working = async {
        loop {
            let jobs = claim(db.pool(), worker, Queue::Enrich, 20).await.unwrap();
            let children = jobs.iter().filter(|job| Some(Enqueued::New(job.lease.job)) != stored.completion);
            let all: Vec<_> = children.map(|job| ended(job.lease, done(json!(1)))).collect();
            if all.is_empty() {
                break;
            }
            queue::settle(db.pool(), &all).await.unwrap();
        }
    };
    let recounting = async {
        for _ in 0..5 {
            assert_eq!(queue::recount_batches(db.pool()).await.unwrap().repaired, 0, "nothing is wrong");
        }
    };
    let cancelling = async {
        eventually("some children have ended", async || counters(db.pool(), stored.id).await[0] > 50).await;
        cancel_batch(db.pool(), stored.id).await
    };
    tokio::join!(working, recounting, cancelling);
    let counters = counters(db.pool(), stored.id).await;
    assert_eq!(counters, counted(db.pool(), stored.id).await);
    assert_eq!(counters[3], 0);
}

#[tokio::test]
async fn a_batch_with_failures_cancelled_half_way_by_somebody_who_dies_under_workers_that_die_ends_once() {
    let db = TestDb::new().await;
    let child = |n: usize| match n % FAILS_EVERY {
        0 => Scripted::job([Act::FailForGood]),
        _ => Scripted::job([]),
    };
    let children = (0..CHILDREN).map(child).collect();
    let stored = stored_batch(db.pool(), NewBatch::of(children).completion(completion())).await;
    let completion = stored.completion.unwrap().id();
    let start = || {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.slots.insert(Queue::Enrich, 200);
        options.start(&db)
    };
    let ended = async |share: usize| {
        let least = i32::try_from(CHILDREN * share / 10).unwrap();
        eventually("a share of the children has ended", async || {
            let [completed, failed, ..] = counters(db.pool(), stored.id).await;
            completed + failed >= least
        })
        .await;
    };
    let mut worker: TestWorker = start();
    for share in [1, 3] {
        ended(share).await;
        worker.crash();
        worker = start();
    }
    ended(5).await;
    // Whoever cancels dies in the middle of it, too.
    tokio::select! {
        cancelled = queue::cancel_batch(db.pool(), TenantId::SYSTEM, stored.id, "a test") => {
            cancelled.unwrap().expect("half of it is unfinished");
        }
        () = eventually("the batch is called off", async || {
            record_of_batch(db.pool(), stored.id).await.cancelled_by.is_some()
        }) => {}
    }
    eventually("the batch is finished", async || {
        queue::resume_cancels(db.pool()).await.unwrap();
        record_of_batch(db.pool(), stored.id).await.finished_at.is_some()
    })
    .await;
    eventually("the completion job has ended", async || {
        record(db.pool(), completion).await.status == JobStatus::Completed
    })
    .await;
    worker.stop().await;

    let counters = counters(db.pool(), stored.id).await;
    assert_eq!(counters, counted(db.pool(), stored.id).await);
    let [completed, failed, cancelled, pending] = counters;
    assert_eq!(completed + failed + cancelled, i32::try_from(CHILDREN).unwrap());
    assert!(failed > 0 && cancelled > 0 && pending == 0, "{counters:?}");
    assert_eq!(seen(completion).runs, 1);
}
