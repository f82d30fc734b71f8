//! The engine's promises, each on a real database: `crates/queue` by its statements, `workers` by what becomes of
//! jobs whose handlers do all that handlers may do.

mod batches;
mod bulk;
mod cancelling;
mod claim_plans;
mod claiming;
mod dead_letters;
mod deadlines;
mod enqueueing;
mod errors_history;
mod estimating;
mod explaining;
mod fair_share;
mod fencing;
mod history;
mod kinds;
mod leading;
mod limits;
mod maintaining;
mod overseeing;
mod pausing;
mod progress;
mod pruning;
mod reading;
mod redriving;
mod releasing;
mod running;
mod sealed_args;
mod searching;
mod settling;
mod sharing;
mod steering;
mod stopping;
mod surveying;
mod sweeping;
mod tenant_caps;
mod timeouts;
mod tracing;
mod turns;
mod unique_keys;
mod waking;
mod watching;

use std::time::Duration;

use db::Pool;
use kernel::ids::{JobId, TenantId};
use queue::{
    Acknowledgement, Claimed, End, Failure, JobRecord, Lease, LeaseKey, NewJob, Queue, SettledBatch,
    Settlement, Waker,
};
use serde_json::Value;
use uuid::Uuid;

use crate::support::process_info;
use kinds::Scripted;

/// A lease far longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// A job that has nothing special about it.
fn plain() -> NewJob {
    NewJob::of(&Scripted::default()).unwrap()
}

/// Stores a job on its own and answers its id.
async fn stored(pool: &Pool, job: NewJob) -> JobId {
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue(&mut conn, job).await.unwrap().id()
}

/// A live worker process.
async fn process(pool: &Pool) -> Uuid {
    queue::register(pool, &process_info(&[])).await.unwrap()
}

/// Lets a process have been silent for longer than any lease.
async fn silence(pool: &Pool, process: Uuid) {
    sqlx::query!(
        "update worker_processes set heartbeat_at = heartbeat_at - interval '1 hour' where id = $1",
        process
    )
    .execute(pool)
    .await
    .unwrap();
}

/// A transaction whose counts of rows the server tells at its commit, and not when its session has rested.
async fn promptly_counted(pool: &Pool) -> db::Transaction {
    let mut tx = db::begin(pool).await.unwrap();
    sqlx::raw_sql("select pg_stat_force_next_flush()").execute(&mut *tx).await.unwrap();
    tx
}

/// Claims the most urgent job there is.
async fn claimed(pool: &Pool, process: Uuid) -> Claimed {
    let jobs = queue::claim(pool, process, Queue::Enrich, 1).await.unwrap();
    jobs.into_iter().next().expect("a job was ready")
}

/// Stores a job, claims it for a new process, and answers its claim.
async fn running(pool: &Pool, job: NewJob) -> Claimed {
    let id = stored(pool, job).await;
    let claim = claimed(pool, process(pool).await).await;
    assert_eq!(claim.lease.job, id, "another job was more urgent");
    claim
}

/// The lease of a claim as a handler has it.
fn lease(claim: &Claimed, pool: &Pool) -> Lease {
    Lease::new(claim, pool.clone(), Waker::new())
}

/// Writes one settlement.
async fn settle(pool: &Pool, lease: LeaseKey, settlement: Settlement) -> SettledBatch {
    queue::settle(pool, &[Acknowledgement { lease, row: None, settlement }]).await.unwrap()
}

/// Ends a running job.
async fn end(pool: &Pool, lease: LeaseKey, end: End) {
    let settled = settle(pool, lease, Settlement::End(end, None)).await;
    assert!(settled.refused.is_empty(), "the lease was lost");
}

/// Cancels a job in a transaction of its own.
async fn cancel(pool: &Pool, tenant: TenantId, job: JobId) -> queue::Cancelled {
    let mut tx = db::begin(pool).await.unwrap();
    let cancelled = queue::cancel(&mut tx, tenant, job, "a test").await.unwrap();
    tx.commit().await.unwrap();
    cancelled
}

/// A job of the system's, live or finished.
async fn record(pool: &Pool, job: JobId) -> JobRecord {
    record_of(pool, TenantId::SYSTEM, job).await
}

async fn record_of(pool: &Pool, tenant: TenantId, job: JobId) -> JobRecord {
    let mut conn = pool.acquire().await.unwrap();
    queue::get(&mut conn, tenant, job).await.unwrap().expect("the job is there")
}

/// How the engine itself calls a live job's state; none once it has ended.
async fn state(pool: &Pool, job: JobId) -> Option<String> {
    sqlx::query_scalar!(r#"select state::text as "state!" from jobs where id = $1"#, job.uuid())
        .fetch_optional(pool)
        .await
        .unwrap()
}

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: format!("{code} it is") }
}

fn done(result: Value) -> End {
    End::Completed(Some(result))
}
