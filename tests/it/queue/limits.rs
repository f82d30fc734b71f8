//! Limits: what bounds calls, and what becomes of jobs that have to wait for one.

mod budgets;
mod callers;
mod under_fire;
mod waiting;
mod windows;

use std::time::Duration;

use db::Pool;
use queue::limits::{self, Draw, Level, Limit, Permit, Permits, Shape};
use queue::{Error, Job, LimitUse, Policy};
use uuid::Uuid;

use super::*;
use crate::support::{TestDb, eventually};

const HOUR: Duration = Duration::from_secs(3_600);
/// A window that turns in no test: the next one begins in 2052.
const ERA: Duration = Duration::from_secs(10_000 * 86_400);

fn rate(max: i64, window: Duration) -> Shape {
    Shape::Rate { max, window }
}

/// Makes these the limits there are, as a process does when it starts.
async fn define(pool: &Pool, shapes: &[(&'static str, Shape)]) {
    let limits: Vec<Limit> = shapes.iter().map(|(name, shape)| Limit::new(*name, *shape)).collect();
    let mut conn = pool.acquire().await.unwrap();
    limits::define(&mut conn, &limits, &[]).await.unwrap();
}

/// One draw by a process.
async fn draw(pool: &Pool, permits: &Permits, process: Uuid, buckets: &[(&str, &str)]) -> Draw {
    limits::draw(pool, permits, process, None, buckets).await.unwrap()
}

/// A permit that there must be.
fn granted(draw: Draw) -> Permit {
    match draw {
        Draw::Granted(permit) => permit,
        Draw::Wait { wait, limit } => panic!("{limit} has none for {wait:?}"),
    }
}

/// The wait for a permit that there must not be, and the limit.
fn waits(draw: Draw) -> (Duration, String) {
    match draw {
        Draw::Granted(permit) => panic!("a permit too many: {permit:?}"),
        Draw::Wait { wait, limit } => (wait, limit),
    }
}

async fn level(pool: &Pool, name: &str, key: &str) -> Level {
    let levels = limits::levels(pool).await.unwrap();
    levels.into_iter().find(|level| level.limit.name == name && level.key == key).expect("a bucket")
}

#[tokio::test]
async fn defaults_are_registered_by_every_process_and_leave_alone_what_an_operator_set() {
    let db = TestDb::new().await;
    let pool = db.pool();
    for _ in 0..2 {
        define(pool, &[("calls", rate(60, HOUR)), ("slots", Shape::Concurrency { max: 20 })]).await;
    }
    assert_eq!(limits::limits(pool).await.unwrap().len(), 2);

    let mut conn = pool.acquire().await.unwrap();
    let edited = Limit::new("calls", rate(10, HOUR));
    limits::set_limit(&mut conn, &edited).await.unwrap();
    define(pool, &[("calls", rate(60, HOUR)), ("slots", Shape::Concurrency { max: 30 })]).await;
    limits::define(&mut conn, &[], &["calls"]).await.unwrap();
    let expected = [edited, Limit::new("slots", Shape::Concurrency { max: 30 })];
    assert_eq!(limits::limits(pool).await.unwrap(), expected, "the other follows its default");

    limits::define(&mut conn, &[], &["slots"]).await.unwrap();
    assert_eq!(limits::limits(pool).await.unwrap().len(), 1, "a limit that is switched off is gone");
}

#[tokio::test]
async fn kinds_draw_on_what_their_latest_policy_says() {
    const CALLS: LimitUse = LimitUse { name: "calls", keyed: false, cost: 0 };
    const UNKNOWN: LimitUse = LimitUse { name: "unknown", keyed: false, cost: 0 };
    const OLD: Policy = Policy { key_concurrency_max: Some(2), limits: &[CALLS, UNKNOWN], ..Policy::DEFAULT };
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[("calls", rate(60, HOUR))]).await;
    let known = async || {
        sqlx::query_scalar!(
            r#"select (select count(*) from job_kind_limits) + 10 * (select count(*) from job_kinds) as "n!""#
        )
        .fetch_one(pool)
        .await
        .unwrap()
    };
    limits::register_kinds(pool, &[("a", &OLD), ("b", &Policy::DEFAULT)]).await.unwrap();
    assert_eq!(known().await, 11, "limits that are not defined bound nothing");
    limits::register_kinds(pool, &[("a", &Policy::DEFAULT)]).await.unwrap();
    assert_eq!(known().await, 0);
}

#[tokio::test]
async fn a_limit_that_nobody_defined_bounds_nothing() {
    let db = TestDb::new().await;
    let permits = Permits::new(db.pool().clone());
    let process = process(db.pool()).await;
    for _ in 0..3 {
        drop(granted(draw(db.pool(), &permits, process, &[("unheard of", "")]).await));
    }
}

#[tokio::test]
async fn whoever_lost_its_lease_draws_nothing() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[("slots", Shape::Concurrency { max: 20 })]).await;
    let permits = Permits::new(pool.clone());
    let stranger = limits::draw(pool, &permits, Uuid::now_v7(), None, &[("slots", "")]).await;
    assert!(matches!(stranger, Err(Error::LeaseLost)), "{stranger:?}");

    let claim = running(pool, plain()).await;
    let asks = async |lease| limits::draw(pool, &permits, claim.process, Some(lease), &[("slots", "")]).await;
    drop(asks(claim.lease).await.unwrap());
    let former = LeaseKey { token: claim.lease.token - 1, ..claim.lease };
    assert!(matches!(asks(former).await, Err(Error::LeaseLost)));
    end(pool, claim.lease, done(Value::Null)).await;
    assert!(matches!(asks(claim.lease).await, Err(Error::LeaseLost)));
}
