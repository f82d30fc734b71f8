//! Where jobs and their attempts stand in traces.

use std::collections::HashSet;

use kernel::trace::TraceParent;

use super::*;
use crate::support::TestDb;

/// Where a live job stands in a trace, as it is stored.
async fn stored_trace(pool: &Pool, job: JobId) -> Option<String> {
    let row = sqlx::query_scalar!("select traceparent from jobs where id = $1", job.uuid());
    row.fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn every_attempt_is_a_span_of_its_own_in_the_trace_of_who_asked() {
    let db = TestDb::new().await;
    let asked = TraceParent::begin();
    let id = stored(db.pool(), plain().traceparent(Some(asked))).await;
    let worker = process(db.pool()).await;
    let mut spans = HashSet::from([asked]);
    for _ in 0..3 {
        let claim = claimed(db.pool(), worker).await;
        assert_eq!(claim.lease.job, id);
        assert_eq!(lease(&claim, db.pool()).trace(), claim.trace());
        spans.insert(claim.trace());
        settle(db.pool(), claim.lease, Settlement::Again(Duration::ZERO)).await;
    }
    assert_eq!(spans.len(), 4);
    assert!(spans.iter().all(|span| span.trace_id() == asked.trace_id()));
}

#[tokio::test]
async fn all_attempts_at_a_job_that_nobody_traced_are_in_one_trace_and_so_is_what_it_starts() {
    let db = TestDb::new().await;
    let id = stored(db.pool(), plain()).await;
    assert_eq!(stored_trace(db.pool(), id).await, None);
    let worker = process(db.pool()).await;
    let first = claimed(db.pool(), worker).await;
    settle(db.pool(), first.lease, Settlement::Again(Duration::ZERO)).await;
    let second = claimed(db.pool(), worker).await;
    assert_eq!(first.trace().trace_id(), second.trace().trace_id());
    assert_ne!(first.trace(), second.trace());

    let mut tx = lease(&second, db.pool()).begin().await.unwrap();
    let follow_up = tx.enqueue(plain()).await.unwrap().id();
    tx.done(None, None).await.unwrap();
    assert_eq!(stored_trace(db.pool(), follow_up).await, Some(second.trace().to_string()));
    assert_eq!(record(db.pool(), id).await.trace().trace_id(), second.trace().trace_id());
}

#[tokio::test]
async fn what_a_job_starts_keeps_a_trace_that_it_has_already() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain().traceparent(Some(TraceParent::begin()))).await;
    let own = TraceParent::begin();
    let mut tx = lease(&claim, db.pool()).begin().await.unwrap();
    let follow_up = tx.enqueue(plain().traceparent(Some(own))).await.unwrap().id();
    tx.commit().await.unwrap();
    assert_eq!(stored_trace(db.pool(), follow_up).await, Some(own.to_string()));
}

#[tokio::test]
async fn what_is_no_trace_in_the_database_is_as_good_as_none() {
    let db = TestDb::new().await;
    let id = stored(db.pool(), plain()).await;
    let garbage = sqlx::query!("update jobs set traceparent = 'garbage' where id = $1", id.uuid());
    garbage.execute(db.pool()).await.unwrap();
    let claim = claimed(db.pool(), process(db.pool()).await).await;
    assert_eq!(claim.trace().trace_id(), TraceParent::of(id.uuid()).trace_id());
}
