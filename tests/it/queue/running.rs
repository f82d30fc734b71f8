//! `workers::run` with handlers that do all that handlers may do.

use queue::{CANCELLED, Cancelled, INTERNAL_ERROR, JobStatus, TIMEOUT};
use serde_json::json;

use super::kinds::{Act, Impatient, KINDS, OLD_KINDS, follow_up, open_gate, seen};
use super::*;
use crate::support::{TestDb, TestWorker, WorkerOptions, eventually, found};

/// The record of a job once it has ended.
async fn ended(db: &TestDb, job: JobId) -> JobRecord {
    found("the job to end", async || {
        let mut conn = db.pool().acquire().await.unwrap();
        let record = queue::get(&mut conn, TenantId::SYSTEM, job).await.unwrap();
        record.filter(|record| record.status.has_ended())
    })
    .await
}

/// Where a job ran; the worker goes on while this is kept.
struct Place {
    db: TestDb,
    _worker: TestWorker,
}

/// Runs one job to its end.
async fn run(acts: impl Into<Vec<Act>>) -> (JobRecord, Place) {
    let db = TestDb::new().await;
    let worker = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), Scripted::job(acts)).await;
    (ended(&db, job).await, Place { db, _worker: worker })
}

#[tokio::test]
async fn a_handlers_result_is_the_jobs() {
    let (job, _place) = run([Act::Done(json!({"followers": 7}))]).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Completed, 1));
    assert_eq!(job.result, Some(json!({"followers": 7})));
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_until_it_succeeds() {
    let (job, _place) = run([Act::Fail, Act::Fail, Act::Done(json!(1))]).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Completed, 3));
    let messages: Vec<_> = job.errors.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(messages, ["failed in run 1", "failed in run 2"]);
}

#[tokio::test]
async fn a_job_that_always_fails_fails_with_its_last_attempt() {
    let (job, _place) = run([Act::Fail]).await;
    assert_eq!((job.status, job.attempts, seen(job.id).runs), (JobStatus::Failed, 3, 3));
    assert_eq!(job.failure.unwrap().message, "failed in run 3");
}

#[tokio::test]
async fn an_error_for_good_is_not_tried_again() {
    let (job, _place) = run([Act::FailForGood]).await;
    assert_eq!((job.status, seen(job.id).runs), (JobStatus::Failed, 1));
}

#[tokio::test]
async fn a_panic_harms_one_attempt_and_nobody_else() {
    let (job, _place) = run([Act::Panic, Act::Panic, Act::Done(json!("recovered"))]).await;
    assert_eq!((job.status, job.attempts), (JobStatus::Completed, 3));
    let codes: Vec<_> = job.errors.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(codes, [INTERNAL_ERROR, INTERNAL_ERROR]);
    assert!(!format!("{:?}", job.errors).contains("on purpose"), "panics are for logs, not for partners");
}

#[tokio::test]
async fn panics_give_their_slots_back() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.slots = [(Queue::Enrich, 1)].into();
    let _worker = options.start(&db);
    for _ in 0..3 {
        stored(db.pool(), Scripted::job([Act::Panic])).await;
    }
    let last = stored(db.pool(), Scripted::job([])).await;
    assert_eq!(ended(&db, last).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_stopped_and_counted() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), NewJob::of(&Impatient {}).unwrap()).await;
    let job = ended(&db, job).await;
    assert_eq!(
        (job.status, job.attempts, job.failure.unwrap().code.as_str()),
        (JobStatus::Failed, 2, TIMEOUT)
    );
    assert_eq!((seen(job.id).runs, seen(job.id).inside), (2, 0));
}

#[tokio::test]
async fn a_snoozed_job_runs_more_often_than_it_has_attempts() {
    let mut acts = vec![Act::Snooze; 6];
    acts.push(Act::Done(json!(1)));
    let (job, _place) = run(acts).await;
    assert_eq!((job.status, job.attempts, seen(job.id).runs), (JobStatus::Completed, 1, 7));
}

#[tokio::test]
async fn a_handler_may_call_its_job_off() {
    let (job, _place) = run([Act::CallOff]).await;
    assert_eq!((job.status, job.failure.unwrap().code.as_str()), (JobStatus::Cancelled, "NOT_WANTED"));
}

#[tokio::test]
async fn cancelling_reaches_a_running_handler_and_frees_its_slot() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.slots = [(Queue::Enrich, 1)].into();
    let _worker = options.start(&db);
    let job = stored(db.pool(), Scripted::job([Act::Hang])).await;
    eventually("the handler runs", async || seen(job).inside == 1).await;
    assert_eq!(cancel(db.pool(), TenantId::SYSTEM, job).await, Cancelled::Asked);
    let record = ended(&db, job).await;
    assert_eq!((record.status, record.failure.unwrap().code.as_str()), (JobStatus::Cancelled, CANCELLED));
    assert_eq!((seen(job).runs, seen(job).inside), (1, 0));
    let next = stored(db.pool(), Scripted::job([])).await;
    ended(&db, next).await;
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_it_was_claimed_again_does_not_run() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), Scripted::job([Act::Hang])).await;
    cancel(db.pool(), TenantId::SYSTEM, claim.lease.job).await;
    settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
    let _worker = TestWorker::start(&db, KINDS);
    let job = ended(&db, claim.lease.job).await;
    assert_eq!((job.status, seen(job.id).runs), (JobStatus::Cancelled, 0));
}

#[tokio::test]
async fn a_job_may_end_in_its_own_transaction_together_with_what_it_wrote() {
    let (job, place) = run([Act::DoneInTransaction]).await;
    assert_eq!(job.result, Some(json!("in its transaction")));
    let next = JobId::from_uuid(job.id.derive("follow-up"));
    assert_eq!(ended(&place.db, next).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_transaction_that_the_handler_drops_leaves_nothing() {
    let (job, place) = run([Act::RollBack]).await;
    assert_eq!(job.status, JobStatus::Completed);
    let next = JobId::from_uuid(job.id.derive("follow-up"));
    let mut conn = place.db.pool().acquire().await.unwrap();
    assert!(queue::get(&mut conn, TenantId::SYSTEM, next).await.unwrap().is_none());
    // The id is free: nothing of the first try was stored.
    let again = queue::enqueue(&mut conn, follow_up(job.id)).await.unwrap();
    assert_eq!(again, queue::Enqueued::New(next));
}

#[tokio::test]
async fn arguments_that_cannot_be_read_fail_the_job_and_not_the_worker() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    let mut tx = db::begin(db.pool()).await.unwrap();
    let job = queue::enqueue(&mut tx, plain()).await.unwrap().id();
    sqlx::query!(r#"update jobs set args = '{"acts": "none"}'"#).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let record = ended(&db, job).await;
    assert_eq!((record.status, record.failure.unwrap().code.as_str()), (JobStatus::Failed, INTERNAL_ERROR));
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_fails_its_job_and_spares_the_others_of_its_batch() {
    let db = TestDb::new().await;
    // Whatever the reason may be: too deep, too large, a rule of some later schema.
    sqlx::query!("alter table jobs_finished add constraint refuses check (result::text <> '\"refused\"')")
        .execute(db.pool())
        .await
        .unwrap();
    let mut tx = db::begin(db.pool()).await.unwrap();
    let mut jobs = Vec::new();
    for act in [Act::Done(json!(1)), Act::Done(json!("refused")), Act::Done(json!(3)), Act::Fail] {
        jobs.push(queue::enqueue(&mut tx, Scripted::job([act])).await.unwrap().id());
    }
    tx.commit().await.unwrap();
    let _worker = TestWorker::start(&db, KINDS);
    assert_eq!(ended(&db, jobs[0]).await.result, Some(json!(1)));
    assert_eq!(ended(&db, jobs[1]).await.failure.unwrap().code, INTERNAL_ERROR);
    assert_eq!(ended(&db, jobs[2]).await.result, Some(json!(3)));
    assert_eq!(ended(&db, jobs[3]).await.failure.unwrap().code, "FAILED");
}

#[tokio::test]
async fn a_result_that_few_databases_like_is_stored_and_read_as_it_is() {
    let deep = (0..200).fold(json!("NUL \0 within"), |inner, _| json!([inner]));
    let (job, _place) = run([Act::Done(json!("a\0b"))]).await;
    assert_eq!(job.result, Some(json!("a\0b")));
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    end(db.pool(), claim.lease, done(deep.clone())).await;
    let told = record(db.pool(), claim.lease.job).await.result;
    assert_eq!(told, Some(json!(deep.to_string())), "deeper than we read: as its text, and not as nothing");
}

#[tokio::test]
async fn an_unknown_kind_is_parked_until_a_worker_comes_that_knows_it() {
    let db = TestDb::new().await;
    let old = TestWorker::start(&db, OLD_KINDS);
    let job = stored(db.pool(), Scripted::job([Act::Done(json!("known"))])).await;
    eventually("the job is parked", async || state(db.pool(), job).await.as_deref() == Some("parked")).await;
    old.stop().await;
    let _new = TestWorker::start(&db, KINDS);
    let record = ended(&db, job).await;
    assert_eq!((record.result, record.attempts, record.errors.len()), (Some(json!("known")), 1, 0));
}

#[tokio::test]
async fn slots_bound_how_many_handlers_run_and_a_blocked_one_does_not_hold_the_others() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.slots = [(Queue::Enrich, 2)].into();
    let _worker = options.start(&db);
    let blocked = stored(db.pool(), Scripted::job([Act::WaitForGate])).await;
    eventually("the blocked one runs", async || seen(blocked).inside == 1).await;
    for _ in 0..5 {
        let job = stored(db.pool(), plain()).await;
        ended(&db, job).await;
    }
    let (first, second) = (
        stored(db.pool(), Scripted::job([Act::Hang])).await,
        stored(db.pool(), Scripted::job([Act::Done(json!(1))])).await,
    );
    eventually("the second slot is taken", async || seen(first).inside == 1).await;
    assert_eq!(state(db.pool(), second).await.as_deref(), Some("ready"), "no slot is left for it");
    open_gate(blocked);
    ended(&db, second).await;
}

#[tokio::test]
async fn an_idle_worker_is_woken_at_once() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.poll = LONG;
    let waker = options.waker.clone();
    let _worker = options.start(&db);
    let job = stored(db.pool(), plain()).await;
    waker.wake(Queue::Enrich);
    ended(&db, job).await;
    // Asked again: the first may have been found by the look at the start.
    let job = stored(db.pool(), plain()).await;
    waker.wake(Queue::Enrich);
    ended(&db, job).await;
}

#[tokio::test]
async fn outcomes_whose_jobs_somebody_has_locked_hold_up_no_others_and_are_written_or_run_again_later() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.turns.connections = 1;
    let worker = options.start(&db);
    let [one, two] = [(); 2].map(|()| Scripted::job([Act::WaitForGate]));
    let locked = [stored(db.pool(), one).await, stored(db.pool(), two).await];
    eventually("both to run", async || locked.iter().all(|job| seen(*job).runs == 1)).await;
    // As on connections that fell silent: nobody knows when the server ends this.
    let mut tx = db::begin(db.pool()).await.unwrap();
    let ids = locked.map(JobId::uuid);
    sqlx::query!("select id from jobs where id = any($1) for update", &ids)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    // One after the other, so that each meets a turn of its own, also the one that goes out beside a slow one.
    for job in locked {
        open_gate(job);
        let other = stored(db.pool(), Scripted::job([])).await;
        assert_eq!(ended(&db, other).await.status, JobStatus::Completed);
    }
    tx.rollback().await.unwrap();
    for job in locked {
        let job = ended(&db, job).await;
        assert_eq!((job.status, job.attempts), (JobStatus::Completed, 1));
    }
    worker.stop().await;
}
