//! Reading jobs, live and finished, as one thing.

use chrono::{DateTime, Utc};
use db::Pool;
use kernel::ids::JobId;
use queue::{End, JobStatus, ListFilter};
use serde_json::json;

use super::kinds::Urgent;
use super::*;
use crate::support::{TestDb, TestPartner};

async fn listed(pool: &Pool, filter: &ListFilter) -> Vec<JobId> {
    let mut conn = pool.acquire().await.unwrap();
    let jobs = queue::list(&mut conn, filter, 100).await.unwrap();
    jobs.into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn another_tenants_job_is_not_there_and_operators_see_all() {
    let db = TestDb::new().await;
    let (ours, theirs) = (TestPartner::create(&db, "ours").await, TestPartner::create(&db, "theirs").await);
    let live = stored(db.pool(), plain().tenant(ours.tenant())).await;
    let ended = stored(db.pool(), plain().tenant(ours.tenant())).await;
    cancel(db.pool(), ours.tenant(), ended).await;
    let system = stored(db.pool(), plain()).await;
    let mut conn = db.pool().acquire().await.unwrap();
    let everybody = [TenantId::SYSTEM, theirs.tenant(), ours.tenant()];
    for job in [live, ended] {
        assert!(queue::get(&mut conn, ours.tenant(), job).await.unwrap().is_some());
        assert!(queue::get(&mut conn, theirs.tenant(), job).await.unwrap().is_none());
        assert!(queue::get(&mut conn, TenantId::SYSTEM, job).await.unwrap().is_none());
        assert_eq!(queue::find(&mut conn, &everybody, job).await.unwrap().unwrap().tenant, ours.tenant());
    }
    assert!(queue::find(&mut conn, &everybody, system).await.unwrap().is_some());
    drop(conn);

    let of = |tenant| ListFilter { tenant: Some(tenant), ..ListFilter::default() };
    assert_eq!(listed(db.pool(), &of(ours.tenant())).await, [ended, live]);
    assert!(listed(db.pool(), &of(theirs.tenant())).await.is_empty());
    assert_eq!(listed(db.pool(), &ListFilter::default()).await, [system, ended, live]);
}

/// A job in every state that an owner can tell apart, in the order of [`JobStatus::ALL`].
async fn one_of_each(pool: &Pool) -> [JobId; 5] {
    let mut claims = Vec::new();
    for _ in 0..4 {
        claims.push(running(pool, plain()).await);
    }
    end(pool, claims[1].lease, done(json!({"answer": 42}))).await;
    end(pool, claims[2].lease, End::Failed(failure("BROKEN"))).await;
    end(pool, claims[3].lease, End::Cancelled(failure("UNWANTED"))).await;
    let queued = stored(pool, plain()).await;
    [queued, claims[0].lease.job, claims[1].lease.job, claims[2].lease.job, claims[3].lease.job]
}

#[tokio::test]
async fn a_job_tells_where_it_stands_and_what_it_came_to() {
    let db = TestDb::new().await;
    let jobs = one_of_each(db.pool()).await;
    for (job, status) in jobs.into_iter().zip(JobStatus::ALL) {
        let record = record(db.pool(), job).await;
        assert_eq!(record.status, status);
        assert_eq!(record.result.is_some(), status == JobStatus::Completed);
        assert_eq!(record.failure.is_some(), matches!(status, JobStatus::Failed | JobStatus::Cancelled));
        assert_eq!(record.finished_at.is_some(), status.has_ended());
        assert_eq!(record.started_at.is_some(), status != JobStatus::Queued);
        assert_eq!((record.kind.as_str(), record.queue.as_str()), ("test.scripted", "enrich"));
        assert_eq!(
            listed(db.pool(), &ListFilter { status: Some(status), ..ListFilter::default() }).await,
            [job]
        );
    }
}

#[tokio::test]
async fn a_job_between_its_attempts_is_still_processing() {
    let db = TestDb::new().await;
    let claim = running(db.pool(), plain()).await;
    let entry = json!({"code": "X", "message": "x"});
    settle(db.pool(), claim.lease, Settlement::Retry(LONG, entry)).await;
    assert_eq!(record(db.pool(), claim.lease.job).await.status, JobStatus::Processing);
}

#[tokio::test]
async fn jobs_are_listed_by_kind_and_by_when_they_were_stored() {
    let db = TestDb::new().await;
    let old = stored(db.pool(), plain()).await;
    let urgent = stored(db.pool(), NewJob::of(&Urgent {}).unwrap()).await;
    let new = stored(db.pool(), plain()).await;
    cancel(db.pool(), TenantId::SYSTEM, new).await;
    sqlx::query!("update jobs set created_at = created_at - interval '1 hour' where id = $1", old.uuid())
        .execute(db.pool())
        .await
        .unwrap();
    let by_kind = ListFilter { kinds: vec!["test.urgent".to_owned()], ..ListFilter::default() };
    assert_eq!(listed(db.pool(), &by_kind).await, [urgent]);
    let half_an_hour_ago: DateTime<Utc> =
        record(db.pool(), old).await.created_at + chrono::TimeDelta::minutes(30);
    let young = ListFilter { created_from: Some(half_an_hour_ago), ..ListFilter::default() };
    assert_eq!(listed(db.pool(), &young).await, [new, urgent]);
    let aged = ListFilter { created_before: Some(half_an_hour_ago), ..ListFilter::default() };
    assert_eq!(listed(db.pool(), &aged).await, [old]);
    let none = ListFilter { kinds: vec!["test.nothing".to_owned()], ..ListFilter::default() };
    assert!(listed(db.pool(), &none).await.is_empty());
}

#[tokio::test]
async fn walking_by_cursor_meets_every_job_once_live_or_finished() {
    let db = TestDb::new().await;
    let mut expected = Vec::new();
    for number in 0..23 {
        let job = stored(db.pool(), plain()).await;
        if number % 3 == 0 {
            cancel(db.pool(), TenantId::SYSTEM, job).await;
        }
        expected.push(job);
    }
    expected.reverse();
    let mut conn = db.pool().acquire().await.unwrap();
    let mut met = Vec::new();
    let mut filter = ListFilter { tenant: Some(TenantId::SYSTEM), ..ListFilter::default() };
    loop {
        let page = queue::list(&mut conn, &filter, 5).await.unwrap();
        assert!(page.len() <= 5);
        let Some(last) = page.last() else { break };
        filter.older_than = Some(last.id);
        met.extend(page.iter().map(|job| job.id));
    }
    assert_eq!(met, expected);
}
