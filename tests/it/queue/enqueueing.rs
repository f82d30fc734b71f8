//! Storing jobs in the caller's transaction.

use std::time::Duration;

use kernel::ids::JobId;
use queue::{Enqueued, NewJob, Queue};

use super::kinds::Urgent;
use super::*;
use crate::support::TestDb;

#[tokio::test]
async fn a_job_is_seen_when_its_transaction_commits_and_not_before() {
    let db = TestDb::new().await;
    let process = process(db.pool()).await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let job = queue::enqueue(&mut tx, plain()).await.unwrap().id();

    assert!(queue::claim(db.pool(), process, Queue::Enrich, 10).await.unwrap().is_empty());
    assert_eq!(state(db.pool(), job).await, None);
    tx.commit().await.unwrap();
    assert_eq!(claimed(db.pool(), process).await.lease.job, job);
}

#[tokio::test]
async fn a_job_of_a_transaction_that_rolls_back_never_was() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let job = queue::enqueue(&mut tx, plain().unique("one")).await.unwrap().id();
    tx.rollback().await.unwrap();

    assert_eq!(state(db.pool(), job).await, None);
    let mut conn = db.pool().acquire().await.unwrap();
    let again = plain().unique("one");
    assert!(matches!(queue::enqueue(&mut conn, again).await.unwrap(), Enqueued::New(_)));
}

#[tokio::test]
async fn ten_thousand_jobs_are_stored_by_one_statement_and_answered_in_their_order() {
    let db = TestDb::new().await;
    let jobs: Vec<NewJob> = (0..10_000).map(|_| plain()).collect();
    let ids: Vec<JobId> = (0..10_000).map(|_| JobId::new()).collect();
    let jobs = jobs.into_iter().zip(&ids).map(|(job, id)| job.id(*id)).collect();

    let mut conn = db.pool().acquire().await.unwrap();
    let answers = queue::enqueue_many(&mut conn, jobs).await.unwrap();
    assert_eq!(answers, ids.into_iter().map(Enqueued::New).collect::<Vec<_>>());
    let row = sqlx::query!(
        r#"select count(*) as "jobs!", count(distinct xmin::text || '/' || cmin::text) as "statements!" from jobs"#
    )
    .fetch_one(db.pool())
    .await
    .unwrap();
    assert_eq!((row.jobs, row.statements), (10_000, 1));
}

#[tokio::test]
async fn storing_nothing_is_no_error() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    assert!(queue::enqueue_many(&mut conn, Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_step_that_is_repeated_under_its_derived_id_stores_one_job() {
    let db = TestDb::new().await;
    let id = JobId::from_uuid(JobId::new().derive("a step"));
    let mut conn = db.pool().acquire().await.unwrap();
    assert_eq!(queue::enqueue(&mut conn, plain().id(id)).await.unwrap(), Enqueued::New(id));
    assert_eq!(queue::enqueue(&mut conn, plain().id(id)).await.unwrap(), Enqueued::Existing(id));
}

#[tokio::test]
async fn a_delay_is_counted_by_the_databases_clock() {
    let db = TestDb::new().await;
    let job = stored(db.pool(), plain().delay(Duration::from_secs(90))).await;
    let record = record(db.pool(), job).await;
    assert_eq!((record.run_at.unwrap() - record.created_at).num_milliseconds(), 90_000);
}

#[tokio::test]
async fn what_the_caller_says_about_a_job_is_kept() {
    let db = TestDb::new().await;
    let subject = uuid::Uuid::now_v7();
    let job = plain().subject(subject).request_id(Some("req-7".to_owned()));
    let claim = running(db.pool(), job).await;
    assert_eq!(claim.request_id.as_deref(), Some("req-7"));
    assert_eq!((claim.kind.as_str(), claim.attempt, claim.attempts_max), ("test.scripted", 1, 3));
    assert_eq!(record(db.pool(), claim.lease.job).await.subject, Some(subject));
}

#[test]
fn only_queues_of_jobs_that_may_run_at_once_are_woken() {
    let waiting = plain().after(kernel::ids::TenantId::SYSTEM, JobId::new());
    assert!(queue::queues_of(&[waiting]).is_empty());
    let both = [plain(), NewJob::of(&Urgent {}).unwrap()];
    assert_eq!(queue::queues_of(&both), [Queue::Enrich]);
}
