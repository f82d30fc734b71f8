//! Bulk changes: seen before they are made, carried out as they were seen, cancelled on the way.

use jobs::ops::{Bulk, BulkActionError, BulkPreview, BulkRequest, BulkStarted, preview_bulk, start_bulk};
use jobs::{Entry, entry};
use kernel::ids::{JobId, PartnerId};
use queue::bulk::BulkAction;
use queue::{JobSearch, JobState, JobStatus, SearchFault};
use serde_json::json;

use super::kinds::{Act, seen};
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, door, eventually, found, so_many_wait, until};

const KINDS: &[Entry] = &[entry::<Bulk>(), entry::<Scripted>()];
const ONLY_BULK: &[Entry] = &[entry::<Bulk>()];

fn maintenance_worker(db: &TestDb) -> TestWorker {
    let mut options = WorkerOptions::new(ONLY_BULK);
    options.settings.slots.retain(|queue, _| *queue == Queue::Maintenance);
    options.start(db)
}

async fn preview(db: &TestDb, action: BulkAction, filter: JobSearch) -> BulkPreview {
    let mut conn = db.pool().acquire().await.unwrap();
    preview_bulk(&mut conn, action, filter).await.unwrap()
}

async fn start(
    db: &TestDb,
    action: BulkAction,
    filter: JobSearch,
    rate_per_s: Option<f64>,
) -> Result<BulkStarted, BulkActionError> {
    let mut tx = db::begin(db.pool()).await.unwrap();
    let started = start_bulk(&mut tx, &door(), BulkRequest { action, filter, rate_per_s }).await?;
    tx.commit().await.unwrap();
    Ok(started)
}

async fn ended(db: &TestDb, job: JobId) -> queue::JobRecord {
    ended_of(db, TenantId::SYSTEM, job).await
}

async fn ended_of(db: &TestDb, tenant: TenantId, job: JobId) -> queue::JobRecord {
    found("the job ends", async || {
        let record = record_of(db.pool(), tenant, job).await;
        record.status.has_ended().then_some(record)
    })
    .await
}

async fn failed(db: &TestDb, jobs: usize) -> Vec<JobId> {
    let mut failed = Vec::new();
    for n in 0..jobs {
        let lease = running(db.pool(), plain().priority(-100)).await.lease;
        let why = Failure { code: "GONE".into(), message: format!("receiver {n} is off") };
        end(db.pool(), lease, End::Failed(why)).await;
        failed.push(lease.job);
    }
    failed
}

#[tokio::test]
async fn what_is_redriven_is_what_the_preview_showed_however_much_fails_meanwhile() {
    let db = TestDb::new().await;
    let shown = failed(&db, 3).await;
    let filter = JobSearch { code: Some("GONE".into()), ..JobSearch::default() };
    let preview = preview(&db, BulkAction::Redrive, filter).await;
    assert_eq!((preview.matched.count, preview.matched.is_estimated, preview.is_partial), (3, false, false));
    assert_eq!(preview.samples.iter().map(|job| job.id).collect::<Vec<_>>(), shown);
    assert_eq!(preview.groups.kinds["test.scripted"], 3);
    assert_eq!(preview.groups.tenants[&TenantId::SYSTEM], 3);
    assert_eq!(preview.groups.signatures[&("GONE".to_owned(), "receiver # is off".to_owned())], 3);
    let later = failed(&db, 2).await;

    let started = start(&db, BulkAction::Redrive, preview.filter.clone(), None).await.unwrap();
    assert_eq!((&started.filter, started.matched.count), (&preview.filter, 3));
    let worker = maintenance_worker(&db);
    let bulk = ended(&db, started.job).await;
    assert_eq!(bulk.status, JobStatus::Completed, "{:?}", bulk.failure);
    assert_eq!(
        (&bulk.result.as_ref().unwrap()["changed"], &bulk.result.as_ref().unwrap()["gone"]),
        (&json!(3), &json!(0))
    );
    worker.stop().await;
    for job in shown {
        assert_eq!(record(db.pool(), job).await.status, JobStatus::Queued);
    }
    for job in later {
        assert_eq!(record(db.pool(), job).await.status, JobStatus::Failed);
    }
    let entry = sqlx::query!(r#"select action, after::text as "after!", target from audit_log"#)
        .fetch_one(db.pool())
        .await
        .unwrap();
    let after: Value = serde_json::from_str(&entry.after).unwrap();
    assert_eq!((entry.action.as_str(), entry.target), ("jobs.bulk_redrive", started.job.to_string()));
    assert_eq!(serde_json::from_value::<JobSearch>(after["filter"].clone()).unwrap(), preview.filter);
}

#[tokio::test]
async fn live_jobs_are_called_off_in_bulk_wherever_they_stand_and_bulk_jobs_are_not() {
    let db = TestDb::new().await;
    let tenant = TenantId::from(PartnerId::new());
    let mut jobs = Vec::new();
    for n in 0..700 {
        let job = plain().tenant(tenant).key("many");
        jobs.push(if n % 2 == 0 { job } else { job.delay(LONG) });
    }
    let ids: Vec<JobId> = jobs.iter().map(NewJob::job).collect();
    let mut conn = db.pool().acquire().await.unwrap();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();
    let other = stored(db.pool(), plain().delay(LONG)).await;
    let runs = stored(db.pool(), Scripted::job([Act::Hang]).tenant(tenant).key("many").priority(-9)).await;
    let enrich = {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.slots = [(Queue::Enrich, 1)].into();
        options.start(&db)
    };
    until("it runs", || seen(runs).inside == 1).await;
    // Its slot is free again before all the others are called off.
    queue::pause(&mut conn, &queue::Scope { queue: Queue::Enrich, kind: None }, "a test").await.unwrap();

    let filter = JobSearch { key: Some("many".into()), ..JobSearch::default() };
    let started = start(&db, BulkAction::Cancel, filter, None).await.unwrap();
    // Everything, bulk jobs among it.
    let every = start(
        &db,
        BulkAction::Cancel,
        JobSearch { queues: vec!["maintenance".into()], ..JobSearch::default() },
        None,
    );
    let every = every.await.unwrap();
    let worker = maintenance_worker(&db);
    let bulk = ended(&db, started.job).await;
    let result = bulk.result.unwrap();
    assert_eq!((&result["changed"], &result["asked"]), (&json!(700), &json!(1)), "{result}");
    assert_eq!(ended(&db, every.job).await.result.unwrap()["changed"], json!(0));
    assert_eq!(ended_of(&db, tenant, runs).await.status, JobStatus::Cancelled, "its worker was told");
    for job in ids.iter().step_by(100) {
        let record = record_of(db.pool(), tenant, *job).await;
        assert_eq!(record.failure.unwrap().message, "cancelled by a test");
    }
    assert_eq!(record(db.pool(), other).await.status, JobStatus::Queued);
    worker.stop().await;
    enrich.stop().await;
}

#[tokio::test]
async fn a_bulk_job_is_cancelled_between_chunks_and_shows_how_far_it_is() {
    let db = TestDb::new().await;
    failed(&db, 12).await;
    let started = start(&db, BulkAction::Redrive, JobSearch::default(), Some(2.0)).await.unwrap();
    let worker = maintenance_worker(&db);
    eventually("it says how far it is", async || {
        record(db.pool(), started.job)
            .await
            .progress
            .is_some_and(|progress| progress.done >= 4 && progress.total == Some(12))
    })
    .await;
    cancel(db.pool(), TenantId::SYSTEM, started.job).await;
    assert_eq!(ended(&db, started.job).await.status, JobStatus::Cancelled);
    worker.stop().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let left = queue::count(&mut conn, &JobSearch { states: vec![JobState::Failed], ..JobSearch::default() })
        .await
        .unwrap();
    let state = queue::bulk::state(&mut conn, started.job).await.unwrap();
    assert_eq!(state.changed + left.count, 12, "what was moved is what it kept");
    assert!(left.count > 0);
}

#[tokio::test]
async fn a_bulk_cancel_gives_way_to_who_waits_for_a_job_that_it_has_locked() {
    let db = TestDb::new().await;
    let mut jobs = [stored(db.pool(), plain()).await, stored(db.pool(), plain()).await];
    jobs.sort_unstable();
    let lock = async |tx: &mut db::Transaction, job: JobId| {
        let locked = sqlx::query!("select from jobs where id = $1 for update", job.uuid());
        locked.execute(&mut **tx).await.unwrap();
    };
    // Somebody ends the second, and then the first, which waits for it.
    let mut tx = db::begin(db.pool()).await.unwrap();
    lock(&mut tx, jobs[1]).await;
    let filter = JobSearch { kinds: vec!["test.scripted".into()], ..JobSearch::default() };
    let started = start(&db, BulkAction::Cancel, filter, None).await.unwrap();
    let worker = maintenance_worker(&db);
    // The chunk has the first and waits for the second.
    so_many_wait(db.pool(), 1).await;
    lock(&mut tx, jobs[0]).await;
    tx.commit().await.unwrap();
    let bulk = ended(&db, started.job).await;
    assert_eq!((bulk.status, bulk.attempts, bulk.errors.len()), (JobStatus::Completed, 1, 0), "{bulk:?}");
    assert_eq!(bulk.result.unwrap()["changed"], json!(2));
    worker.stop().await;
}

#[tokio::test]
async fn a_bulk_job_that_cannot_read_how_far_it_is_fails_for_good_and_does_nothing_again() {
    let db = TestDb::new().await;
    let dead = failed(&db, 2).await;
    let started = start(&db, BulkAction::Redrive, JobSearch::default(), None).await.unwrap();
    let unreadable =
        r#"insert into job_bulks (job_id, behind, changed) values ($1, '{"nobody": "knows"}', 1)"#;
    sqlx::query(unreadable).bind(started.job.uuid()).execute(db.pool()).await.unwrap();
    let worker = maintenance_worker(&db);
    let bulk = ended(&db, started.job).await;
    worker.stop().await;
    assert_eq!((bulk.status, bulk.attempts), (JobStatus::Failed, 1), "{bulk:?}");
    assert_eq!(bulk.failure.unwrap().code, "UNREADABLE_STATE");
    for job in dead {
        assert_eq!(record(db.pool(), job).await.status, JobStatus::Failed);
    }
}

#[tokio::test]
async fn what_cannot_be_done_to_any_job_is_refused_before_it_is_stored() {
    let db = TestDb::new().await;
    let completed = JobSearch { states: vec![JobState::Completed], ..JobSearch::default() };
    for (action, filter) in [
        (BulkAction::Redrive, completed.clone()),
        (BulkAction::Redrive, JobSearch { states: vec![JobState::Ready], ..JobSearch::default() }),
        (BulkAction::Cancel, completed),
    ] {
        let refused = start(&db, action, filter, None).await;
        assert!(
            matches!(
                refused,
                Err(BulkActionError::Queue(queue::Error::Search(SearchFault::NothingToChange)))
            ),
            "{refused:?}"
        );
    }
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = start(&db, BulkAction::Redrive, JobSearch::default(), Some(rate)).await;
        assert!(matches!(refused, Err(BulkActionError::Rate)), "{rate}");
    }
    let unfrozen = Bulk {
        action: BulkAction::Redrive,
        filter: JobSearch::default(),
        rate_per_s: None,
        matched: 0,
        by: String::new(),
    };
    let job = stored(db.pool(), NewJob::of(&unfrozen).unwrap()).await;
    let worker = maintenance_worker(&db);
    assert_eq!(ended(&db, job).await.failure.unwrap().code, "NOT_FROZEN");
    worker.stop().await;
}
