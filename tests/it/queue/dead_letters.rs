//! Dead letters: seen in groups, given another life in bulk at a rate.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Pool;
use jobs::ops::{Bulk, BulkRequest, start_bulk};
use jobs::webhooks::Deliver;
use jobs::{Entry, entry};
use kernel::ids::{DeliveryId, JobId, PartnerId};
use queue::bulk::BulkAction;
use queue::{DeadFilter, Failure, JobSearch, JobStatus, NewBatch, claim};
use serde_json::json;
use webhooks::{DeliveryStatus, NewDelivery};

use super::kinds::Urgent;
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, door, found};

/// More than one chunk, and not a multiple of one.
const MANY: usize = 2_000 - 1;
const RATE: f64 = 50.0;

/// A worker that knows nothing else, and works no other queue: what it redrives stays where it is.
const BULK: &[Entry] = &[entry::<Bulk>()];

/// Fails all jobs of a queue that are ready, each as its position says.
async fn fail_all(pool: &Pool, why: impl Fn(usize) -> Failure) -> Vec<JobId> {
    let jobs = claim(pool, process(pool).await, Queue::Enrich, MANY).await.unwrap();
    let failed: Vec<Acknowledgement> = jobs
        .iter()
        .enumerate()
        .map(|(n, job)| Acknowledgement {
            lease: job.lease,
            row: None,
            settlement: Settlement::End(End::Failed(why(n)), None),
        })
        .collect();
    for some in failed.chunks(300) {
        queue::settle(pool, some).await.unwrap();
    }
    jobs.into_iter().map(|job| job.lease.job).collect()
}

async fn dead(pool: &Pool, jobs: Vec<NewJob>) -> Vec<JobId> {
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();
    fail_all(pool, |_| failure("BROKEN")).await
}

fn of_code(code: &str) -> DeadFilter {
    DeadFilter { code: Some(code.to_owned()), ..DeadFilter::default() }
}

fn bulk_worker(db: &TestDb) -> TestWorker {
    let mut options = WorkerOptions::new(BULK);
    options.settings.slots.retain(|queue, _| *queue == Queue::Maintenance);
    options.start(db)
}

/// Asks for all that match to be redriven.
async fn asked(db: &TestDb, filter: &JobSearch, rate_per_s: Option<f64>) -> (JobId, JobSearch) {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let request = BulkRequest { action: BulkAction::Redrive, filter: filter.clone(), rate_per_s };
    let started = start_bulk(&mut tx, &door(), request).await.unwrap();
    tx.commit().await.unwrap();
    (started.job, started.filter)
}

/// What came of a bulk job: how many were moved, and how many were left for their keys.
async fn outcome(db: &TestDb, job: JobId) -> (u64, u64) {
    let record = found("the bulk job ends", async || {
        let record = record(db.pool(), job).await;
        record.status.has_ended().then_some(record)
    })
    .await;
    assert_eq!(record.status, JobStatus::Completed, "{:?}", record.failure);
    let result = record.result.unwrap();
    (result["changed"].as_u64().unwrap(), result["keyTaken"].as_u64().unwrap())
}

/// Redrives all that match, and answers how many were moved and how many were left for their keys.
async fn redriven(db: &TestDb, filter: DeadFilter, rate_per_s: Option<f64>) -> (u64, u64) {
    let (job, _) = asked(db, &JobSearch::from(&filter), rate_per_s).await;
    let worker = bulk_worker(db);
    let outcome = outcome(db, job).await;
    worker.stop().await;
    outcome
}

async fn run_at(pool: &Pool) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar!("select run_at from jobs where kind = 'test.scripted' order by run_at")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn dead_jobs_are_grouped_by_kind_code_and_what_their_messages_have_in_common() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    queue::enqueue_many(&mut conn, (0..7).map(|_| plain()).collect()).await.unwrap();
    let by_position = |n: usize| {
        let (code, message) = match n {
            0..4 => ("GONE", format!("the receiver answered {}", 500 + n)),
            4 => ("GONE", "nobody is \"anna\"".to_owned()),
            _ => ("LATE", "took 12s".to_owned()),
        };
        Failure { code: code.into(), message }
    };
    let jobs = fail_all(db.pool(), by_position).await;
    queue::enqueue(&mut conn, NewJob::of(&Urgent::default()).unwrap()).await.unwrap();
    fail_all(db.pool(), |_| Failure { code: "LATE".into(), message: "took 3s".into() }).await;
    let alive = running(db.pool(), plain()).await;
    end(db.pool(), alive.lease, done(json!(1))).await;

    let all = queue::dead_letters(&mut conn, &DeadFilter::default(), 10).await.unwrap();
    assert_eq!((all.counted, all.is_capped), (8, false));
    let groups: Vec<_> = all
        .groups
        .iter()
        .map(|group| (group.kind.as_str(), group.code.as_str(), group.message.as_str(), group.jobs))
        .collect();
    assert_eq!(
        groups,
        [
            ("test.scripted", "GONE", "the receiver answered #", 4),
            ("test.scripted", "LATE", "took #s", 2),
            ("test.urgent", "LATE", "took #s", 1),
            ("test.scripted", "GONE", "nobody is \"…\"", 1),
        ]
    );
    let first = &all.groups[0];
    assert!(first.first_at <= first.last_at);
    assert_eq!(first.samples.len(), 3);
    assert!(first.samples.iter().all(|job| jobs[..4].contains(job)));

    let late = queue::dead_letters(&mut conn, &of_code("LATE"), 1).await.unwrap();
    assert_eq!((late.counted, late.groups.len()), (3, 1));
    let urgent = DeadFilter { kinds: vec!["test.urgent".into()], ..of_code("LATE") };
    let one_by_one = queue::dead_jobs(&mut conn, &urgent, 10).await.unwrap();
    assert_eq!(one_by_one.len(), 1);
    assert_eq!(one_by_one[0].failure.as_ref().unwrap().message, "took 3s");
}

#[tokio::test]
async fn only_what_the_filter_names_is_redriven() {
    let db = TestDb::new().await;
    let tenant = TenantId::from(PartnerId::new());
    let dead_ones = dead(db.pool(), vec![plain(), plain().tenant(tenant), plain()]).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let urgent = queue::enqueue(&mut conn, NewJob::of(&Urgent::default()).unwrap()).await.unwrap().id();
    fail_all(db.pool(), |_| failure("OTHER")).await;
    let cancelled = stored(db.pool(), plain()).await;
    cancel(db.pool(), TenantId::SYSTEM, cancelled).await;

    let none = [
        of_code("NONE"),
        DeadFilter { queue: Some("webhooks".into()), ..DeadFilter::default() },
        DeadFilter { kinds: vec!["test.none".into()], ..DeadFilter::default() },
        DeadFilter { finished_before: Some(DateTime::UNIX_EPOCH), ..DeadFilter::default() },
        DeadFilter { tenant: Some(TenantId::from(PartnerId::new())), ..DeadFilter::default() },
        DeadFilter { ids: vec![JobId::new(), cancelled], ..DeadFilter::default() },
    ];
    for filter in none {
        assert_eq!(redriven(&db, filter.clone(), None).await, (0, 0), "{filter:?}");
    }
    let by_tenant = DeadFilter { tenant: Some(tenant), ..DeadFilter::default() };
    assert_eq!(redriven(&db, by_tenant, None).await, (1, 0));
    let by_kind = DeadFilter { kinds: vec!["test.urgent".into()], ..DeadFilter::default() };
    assert_eq!(redriven(&db, by_kind, None).await, (1, 0));
    assert_eq!(record(db.pool(), urgent).await.status, JobStatus::Queued);
    let by_id = DeadFilter { ids: dead_ones.clone(), ..DeadFilter::default() };
    assert_eq!(redriven(&db, by_id, None).await, (2, 0));
    assert_eq!(record(db.pool(), cancelled).await.status, JobStatus::Cancelled);
    let again = record(db.pool(), dead_ones[0]).await;
    assert_eq!((again.attempts, again.errors.len(), again.errors[0].code.as_str()), (0, 1, "BROKEN"));
}

#[tokio::test]
async fn thousands_are_redriven_at_a_rate_by_workers_that_die_none_twice_and_none_left() {
    const QUICK: usize = 800;
    let db = TestDb::new().await;
    let all: HashSet<JobId> =
        dead(db.pool(), (0..MANY).map(|_| plain()).collect()).await.into_iter().collect();
    assert_eq!(all.len(), MANY);
    let (job, filter) = asked(&db, &JobSearch::from(&of_code("BROKEN")), Some(QUICK as f64)).await;

    // More of them die than any job survives that does not get on.
    for death in 1..=4 {
        let worker = bulk_worker(&db);
        let moved = found("some more are moved", async || {
            let state = state_of(&db, job).await;
            (state.changed >= death * 300).then_some(state.changed)
        })
        .await;
        worker.crash();
        assert!(moved < MANY as u64);
    }
    // What fails again meanwhile is younger than the filter.
    let again = claimed(db.pool(), process(db.pool()).await).await.lease;
    end(db.pool(), again, End::Failed(failure("BROKEN"))).await;

    let worker = bulk_worker(&db);
    assert_eq!(outcome(&db, job).await, (MANY as u64, 0));
    let (same, frozen_again) = asked(&db, &filter, None).await;
    assert_eq!(frozen_again, filter);
    assert_eq!(outcome(&db, same).await, (0, 0), "none is left");
    worker.stop().await;

    let mut conn = db.pool().acquire().await.unwrap();
    let dead_again = queue::dead_letters(&mut conn, &DeadFilter::default(), 10).await.unwrap();
    assert_eq!(dead_again.counted, 1);
    let times = run_at(db.pool()).await;
    assert_eq!(times.len(), MANY - 1);
    // No second sees more than the rate, also where one took over from another.
    for window in times.windows(QUICK + 2) {
        assert!(window[QUICK + 1] - window[0] >= chrono::Duration::seconds(1), "{window:?}");
    }
}

async fn state_of(db: &TestDb, job: JobId) -> queue::bulk::BulkState {
    let mut conn = db.pool().acquire().await.unwrap();
    queue::bulk::state(&mut conn, job).await.unwrap()
}

#[tokio::test]
async fn two_who_redrive_the_same_at_once_redrive_each_job_once() {
    let db = TestDb::new().await;
    let all = dead(db.pool(), (0..MANY).map(|n| plain().unique(format!("key {n}"))).collect()).await;
    let every = JobSearch::from(&DeadFilter::default());
    let (one, other) = tokio::join!(asked(&db, &every, None), asked(&db, &every, None));
    let workers = [bulk_worker(&db), bulk_worker(&db)];
    let both = (outcome(&db, one.0).await, outcome(&db, other.0).await);
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!((both.0.0 + both.1.0, both.0.1 + both.1.1), (all.len() as u64, 0));
    let ready = sqlx::query_scalar!(r#"select count(*) as "n!" from jobs where state = 'ready'"#)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(usize::try_from(ready).unwrap(), MANY);
}

#[tokio::test]
async fn jobs_whose_key_another_holds_stay_dead_and_are_counted() {
    let db = TestDb::new().await;
    dead(db.pool(), vec![plain().unique("a"), plain().unique("b")]).await;
    dead(db.pool(), vec![plain().unique("b"), plain()]).await;
    let kept = plain().unique_for("c", Duration::from_secs(3_600));
    let with_period = dead(db.pool(), vec![kept]).await;
    let holder = stored(db.pool(), plain().unique("a").delay(LONG)).await;
    // Of the two with key b one lives; a is held by another; c is its own still.
    assert_eq!(redriven(&db, DeadFilter::default(), None).await, (3, 2));
    assert_eq!(record(db.pool(), with_period[0]).await.status, JobStatus::Queued);
    cancel(db.pool(), TenantId::SYSTEM, holder).await;
    assert_eq!(redriven(&db, DeadFilter::default(), None).await, (1, 1));
}

#[tokio::test]
async fn a_key_that_outlived_its_holder_and_its_time_is_nobodys() {
    let db = TestDb::new().await;
    let old = dead(db.pool(), vec![plain().unique("d")]).await;
    let holder = running(db.pool(), plain().unique_for("d", Duration::from_secs(3_600)).priority(-5)).await;
    end(db.pool(), holder.lease, done(json!(1))).await;
    let by_id = DeadFilter { ids: old, ..DeadFilter::default() };
    assert_eq!(redriven(&db, by_id.clone(), None).await, (0, 1));
    sqlx::query!("update job_unique_keys set held_until = now() - interval '1 second' where key = 'd'")
        .execute(db.pool())
        .await
        .unwrap();
    assert_eq!(redriven(&db, by_id, None).await, (1, 0));
}

#[tokio::test]
async fn redriven_children_are_pending_in_their_open_batch() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let mut children: Vec<NewJob> = (0..5).map(|_| plain()).collect();
    children.push(plain().delay(LONG));
    let stored = queue::enqueue_batch(&mut tx, NewBatch::of(children)).await.unwrap();
    tx.commit().await.unwrap();
    fail_all(db.pool(), |_| failure("BROKEN")).await;
    assert_eq!(redriven(&db, of_code("BROKEN"), Some(RATE)).await, (5, 0));
    let mut conn = db.pool().acquire().await.unwrap();
    let batch = queue::batch(&mut conn, TenantId::SYSTEM, stored.id).await.unwrap().unwrap();
    assert_eq!((batch.failed, batch.pending), (0, 6));
    assert_eq!(queue::recount_batches(db.pool()).await.unwrap().repaired, 0);
}

#[tokio::test]
async fn the_deliveries_of_redriven_jobs_are_pending_again() {
    let db = TestDb::new().await;
    let tenant = TenantId::from(PartnerId::new());
    let id = DeliveryId::new();
    let mut conn = db.pool().acquire().await.unwrap();
    let new = NewDelivery { tenant, id, job: JobId::new(), url: "https://example.org", subject: None };
    webhooks::create(&mut conn, new).await.unwrap();
    webhooks::mark_failed(&mut conn, tenant, id).await.unwrap();
    let deliver = NewJob::of(&Deliver { delivery: id }).unwrap().tenant(tenant);
    queue::enqueue(&mut conn, deliver).await.unwrap();
    let claimed = claim(db.pool(), process(db.pool()).await, Queue::Webhooks, 1).await.unwrap();
    end(db.pool(), claimed[0].lease, End::Failed(failure("NOT_DELIVERED"))).await;

    assert_eq!(redriven(&db, of_code("NOT_DELIVERED"), None).await, (1, 0));
    let delivery = webhooks::get(&mut conn, tenant, id).await.unwrap().unwrap();
    assert_eq!(delivery.status, DeliveryStatus::Pending);
}
