//! How far running jobs are.

use std::time::Duration;

use jobs::{Context, Entry, Handler, entry};
use queue::{End, Job, JobError, NewJob, Outcome, Policy, ProgressReport, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::kinds::{open_gate, seen};
use super::*;
use crate::support::{TestDb, TestWorker, eventually, until};

fn report(done: u64, note: Option<&str>) -> ProgressReport {
    ProgressReport { done, total: Some(10), note: note.map(str::to_owned) }
}

async fn written(pool: &Pool, lease: LeaseKey, report: ProgressReport) -> Option<queue::Progress> {
    queue::write_progress(pool, &[(lease, report)]).await.unwrap();
    record(pool, lease.job).await.progress
}

#[tokio::test]
async fn the_latest_report_is_shown_while_the_job_lives_and_goes_with_its_end() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    assert_eq!(record(db.pool(), claim.lease.job).await.progress, None);
    written(db.pool(), claim.lease, report(3, Some("three pages"))).await;
    let progress = written(db.pool(), claim.lease, report(4, None)).await.unwrap();
    assert_eq!((progress.done, progress.total, progress.note), (4, Some(10), None));
    assert!(progress.at >= record(db.pool(), claim.lease.job).await.created_at, "by the database's clock");
    end(db.pool(), claim.lease, End::Completed(None)).await;
    assert_eq!(record(db.pool(), claim.lease.job).await.progress, None);
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_reports_nothing() {
    let db = TestDb::new().await;
    let first = running(db.pool(), plain()).await;
    settle(db.pool(), first.lease, Settlement::Again(Duration::ZERO)).await;
    assert_eq!(written(db.pool(), first.lease, report(1, None)).await, None, "nobody runs it");
    let second = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!(written(db.pool(), first.lease, report(1, None)).await, None, "another runs it");
    assert_eq!(written(db.pool(), second.lease, report(2, None)).await.unwrap().done, 2);
}

#[tokio::test]
async fn a_note_is_cut_and_loses_what_cannot_be_stored() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let note = format!("\0{}", "é".repeat(1_000));
    let progress = written(db.pool(), claim.lease, report(1, Some(&note))).await.unwrap();
    assert_eq!(progress.note, Some("é".repeat(200)));
}

#[tokio::test]
async fn reports_of_many_jobs_are_one_statement_and_only_live_ones_count() {
    let db = TestDb::new().await;
    let mut reports = Vec::new();
    for n in 0..20 {
        let claim = running(db.pool(), plain()).await;
        if n % 2 == 0 {
            end(db.pool(), claim.lease, End::Completed(None)).await;
        }
        reports.push((claim.lease, report(n, None)));
    }
    queue::write_progress(db.pool(), &reports).await.unwrap();
    let counts = sqlx::query!(
        r#"select count(*) as "jobs!", count(distinct xmin::text) as "commits!" from jobs where progress is not null"#
    );
    let counts = counts.fetch_one(db.pool()).await.unwrap();
    assert_eq!((counts.jobs, counts.commits), (10, 1));
}

/// Reports far more often than anybody looks, and waits for its gate half-way.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Talkative {}

const STEPS: u64 = 10_000;
const KINDS: &[Entry] = &[entry::<Talkative>()];

impl Job for Talkative {
    const KIND: &'static str = "test.talkative";
    const POLICY: Policy = Policy { queue: Queue::Enrich, ..Policy::DEFAULT };
}

impl Handler for Talkative {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        for step in 1..=STEPS / 2 {
            cx.progress(step, Some(STEPS), Some("half of it"));
            tokio::task::yield_now().await;
        }
        until("a test opens the gate", || seen(cx.job()).gate_open).await;
        for step in STEPS / 2..=STEPS {
            cx.progress(step, Some(STEPS), None);
        }
        Ok(Outcome::Done(Some(json!("said enough"))))
    }
}

#[tokio::test]
async fn a_handler_may_report_at_every_step_and_little_of_it_is_written() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "create table writes (n integer);
         create function count_write() returns trigger language plpgsql as
             'begin insert into writes values (1); return null; end';
         create trigger count_writes after update of progress on jobs
             for each row execute function count_write();",
    )
    .execute(db.pool())
    .await
    .unwrap();
    let _worker = TestWorker::start(&db, KINDS);
    let job = stored(db.pool(), NewJob::of(&Talkative {}).unwrap()).await;
    eventually("half of it is shown", async || {
        record(db.pool(), job).await.progress.is_some_and(|progress| progress.done == STEPS / 2)
    })
    .await;
    let progress = record(db.pool(), job).await.progress.unwrap();
    assert_eq!((progress.total, progress.note.as_deref()), (Some(STEPS), Some("half of it")));
    open_gate(job);
    eventually("the job ends", async || state(db.pool(), job).await.is_none()).await;
    let writes = sqlx::raw_sql("select count(*) from writes").fetch_one(db.pool()).await.unwrap();
    let writes: i64 = sqlx::Row::get(&writes, 0);
    assert!((1..=5).contains(&writes), "{writes} writes of {STEPS} reports");
}
