//! Why jobs do not run: every reason, the true one first, and when each clears.

use chrono::{DateTime, Utc};
use queue::eta::Estimator;
use queue::limits::{self, Limit, Period, Shape};
use queue::{
    Backoff, Because, Explanation, Job, LimitUse, NewBatch, Policy, ProcessInfo, Scope, TenantShare,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fair_share::tenant;
use super::kinds::{Impatient, Urgent};
use super::*;
use crate::support::{MillpondProcess, TestDb, eventually};

const HOUR: Duration = Duration::from_secs(3_600);

/// A kind that draws on these limits.
macro_rules! limited_kind {
    ($name:ident, $kind:literal, $limit:literal, $cost:literal, $key_max:expr) => {
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        struct $name {}

        impl Job for $name {
            const KIND: &'static str = $kind;
            const POLICY: Policy = Policy {
                queue: Queue::Enrich,
                limits: &[LimitUse { name: $limit, keyed: false, cost: $cost }],
                key_concurrency_max: $key_max,
                ..Policy::DEFAULT
            };
        }
    };
}
limited_kind!(Called, "test.called", "test.rate", 0, None);
limited_kind!(Slotted, "test.slotted", "test.slots", 0, None);
limited_kind!(Bought, "test.bought", "test.money", 5, None);
limited_kind!(Closed, "test.closed", "test.closed", 0, None);
limited_kind!(Keyed, "test.keyed", "test.nothing", 0, Some(1));

const POLICIES: [(&str, Policy); 8] = [
    (Scripted::KIND, Scripted::POLICY),
    (Urgent::KIND, Urgent::POLICY),
    (Impatient::KIND, Impatient::POLICY),
    (Called::KIND, Called::POLICY),
    (Slotted::KIND, Slotted::POLICY),
    (Bought::KIND, Bought::POLICY),
    (Closed::KIND, Closed::POLICY),
    (Keyed::KIND, Keyed::POLICY),
];

fn new<J: Job + Default>() -> NewJob {
    NewJob::of(&J::default()).unwrap()
}

/// A worker with two slots that knows all kinds but one.
async fn worker(pool: &Pool) -> Uuid {
    let kinds = POLICIES.iter().map(|(kind, _)| *kind).filter(|kind| *kind != Impatient::KIND);
    let info = ProcessInfo {
        host: "test".to_owned(),
        pid: 1,
        slots: [(Queue::Enrich, 2)].into(),
        kinds: kinds.collect(),
    };
    queue::register(pool, &info).await.unwrap()
}

async fn explained_of(pool: &Pool, tenant: TenantId, job: JobId) -> Explanation {
    let estimator = Estimator::new(pool.clone(), POLICIES);
    estimator.explain(tenant, job).await.unwrap().expect("it is live")
}

async fn explained(pool: &Pool, job: JobId) -> Explanation {
    explained_of(pool, TenantId::SYSTEM, job).await
}

fn codes(explanation: &Explanation) -> Vec<&'static str> {
    explanation.blockers.iter().map(|blocker| blocker.because.code()).collect()
}

/// The first reason, and when it clears.
async fn first(pool: &Pool, job: JobId) -> (Because, Option<DateTime<Utc>>) {
    let explanation = explained(pool, job).await;
    let first = explanation.blockers.first().unwrap_or_else(|| panic!("nothing blocks {explanation:?}"));
    (first.because.clone(), first.clears_at)
}

async fn define(pool: &Pool, name: &'static str, shape: Shape) {
    let mut conn = pool.acquire().await.unwrap();
    limits::define(&mut conn, &[Limit::new(name, shape)], &[]).await.unwrap();
    let kinds: Vec<_> = POLICIES.iter().map(|(kind, policy)| (*kind, policy)).collect();
    drop(conn);
    limits::register_kinds(pool, &kinds).await.unwrap();
}

async fn paused(pool: &Pool, kind: &str) {
    let mut conn = pool.acquire().await.unwrap();
    let scope = Scope { queue: Queue::Enrich, kind: Some(kind.to_owned()) };
    queue::pause(&mut conn, &scope, "the night shift").await.unwrap();
}

async fn claim_one(pool: &Pool, process: Uuid, job: JobId) -> Claimed {
    let claim = claimed(pool, process).await;
    assert_eq!(claim.lease.job, job);
    claim
}

#[tokio::test]
async fn a_job_that_nothing_holds_back_is_about_to_run() {
    let db = TestDb::new().await;
    worker(db.pool()).await;
    let job = stored(db.pool(), plain()).await;
    let explanation = explained(db.pool(), job).await;
    assert_eq!((explanation.state, codes(&explanation)), ("ready", vec![]));
    assert!(explanation.eta.is_some());
}

#[tokio::test]
async fn with_every_kind_of_blocker_at_once_each_waiting_job_names_its_own_first() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let process = worker(pool).await;
    define(pool, "test.rate", Shape::Rate { max: 1, window: HOUR }).await;
    define(pool, "test.slots", Shape::Concurrency { max: 1 }).await;
    define(pool, "test.money", Shape::Budget { max_minor: 7, period: Period::Month }).await;
    define(pool, "test.closed", Shape::Rate { max: 0, window: HOUR }).await;
    // One that runs holds each place that there is.
    let mut conn = pool.acquire().await.unwrap();
    let permits = limits::Permits::new(pool.clone());
    let _drawn = limits::draw(pool, &permits, process, None, &[("test.rate", "")]).await.unwrap();
    let _held = limits::draw(pool, &permits, process, None, &[("test.slots", "")]).await.unwrap();
    let capped = tenant(pool, 1).await;
    let share = TenantShare { concurrency_max: Some(1), ..TenantShare::default() };
    queue::set_tenant(&mut conn, capped, share).await.unwrap();
    let capped_runs = stored(pool, plain().tenant(capped)).await;
    claim_one(pool, process, capped_runs).await;
    let keyed_runs = stored(pool, new::<Keyed>().key("an endpoint")).await;
    claim_one(pool, process, keyed_runs).await;
    let bought_runs = stored(pool, new::<Bought>()).await;
    claim_one(pool, process, bought_runs).await;

    let limited = stored(pool, new::<Called>()).await;
    let slotted = stored(pool, new::<Slotted>()).await;
    let bought = stored(pool, new::<Bought>()).await;
    let closed = stored(pool, new::<Closed>()).await;
    let capped_waits = stored(pool, plain().tenant(capped)).await;
    let keyed_waits = stored(pool, new::<Keyed>().key("an endpoint")).await;
    let delayed = stored(pool, plain().delay(HOUR)).await;
    let unknown = stored(pool, new::<Impatient>()).await;
    paused(pool, Urgent::KIND).await;
    let held = stored(pool, new::<Urgent>()).await;
    let crowded = stored(pool, plain()).await;
    let expected = [
        (limited, "limit"),
        (slotted, "limit"),
        (bought, "budget"),
        (closed, "limit"),
        (keyed_waits, "concurrency"),
        (delayed, "delayed"),
        (unknown, "no_worker"),
        (held, "paused"),
        (crowded, "share"),
    ];
    for (job, code) in expected {
        let explanation = explained(pool, job).await;
        assert_eq!(codes(&explanation).first(), Some(&code), "{explanation:?}");
        let is_dated = explanation.blockers[0].clears_at.is_some();
        assert_eq!(is_dated, !["no_worker", "paused"].contains(&code) && job != closed, "{explanation:?}");
        assert_eq!(explanation.eta.is_some(), is_dated, "{explanation:?}");
    }
    let capped_waits = explained_of(pool, capped, capped_waits).await;
    assert_eq!(codes(&capped_waits)[0], "concurrency", "{capped_waits:?}");
}

#[tokio::test]
async fn a_full_limit_clears_when_its_window_ends_and_one_window_later_for_every_windowful_ahead() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let process = worker(pool).await;
    define(pool, "test.rate", Shape::Rate { max: 2, window: HOUR }).await;
    let permits = limits::Permits::new(pool.clone());
    for _ in 0..2 {
        limits::draw(pool, &permits, process, None, &[("test.rate", "")]).await.unwrap();
    }
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(stored(pool, new::<Called>()).await);
    }
    let (_, window_ends) = first(pool, jobs[0]).await;
    let window_ends = window_ends.expect("a rate has an end");
    assert_eq!(window_ends.timestamp() % 3_600, 0, "windows are counted from the epoch");
    for (n, job) in jobs.into_iter().enumerate() {
        let (because, clears_at) = first(pool, job).await;
        assert_eq!(because.code(), "limit");
        assert_eq!(clears_at, Some(window_ends + HOUR * u32::try_from(n / 2).unwrap()), "job {n}");
    }
    limits::tighten(pool, "test.rate", "", Some(HOUR * 5)).await.unwrap();
    let job = stored(pool, new::<Called>()).await;
    assert!(matches!(first(pool, job).await.0, Because::Limit { is_blocked: true, .. }));
}

#[tokio::test]
async fn of_several_blockers_the_one_that_needs_a_person_comes_first_and_then_the_last_to_clear() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let process = worker(pool).await;
    define(pool, "test.rate", Shape::Rate { max: 1, window: HOUR }).await;
    let permits = limits::Permits::new(pool.clone());
    limits::draw(pool, &permits, process, None, &[("test.rate", "")]).await.unwrap();
    let soon = stored(pool, new::<Called>().delay(Duration::from_millis(1))).await;
    let late = stored(pool, new::<Called>().delay(HOUR * 2)).await;
    assert_eq!(codes(&explained(pool, late).await), ["delayed", "limit"]);
    assert_eq!(codes(&explained(pool, soon).await)[0], "limit");
    paused(pool, Called::KIND).await;
    let explanation = explained(pool, late).await;
    assert_eq!(codes(&explanation), ["paused", "delayed", "limit"]);
    assert!(explanation.eta.is_none(), "nobody knows when somebody resumes it");
    let Because::Paused { by, .. } = &explanation.blockers[0].because else { panic!("{explanation:?}") };
    assert_eq!(by, "the night shift");
}

#[tokio::test]
async fn a_job_that_shares_anothers_end_is_explained_by_what_holds_the_other() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let work = stored(pool, new::<Urgent>().unique("the work").awaited()).await;
    let process = worker(pool).await;
    paused(pool, Urgent::KIND).await;
    let asker = stored(pool, plain()).await;
    let claim = claim_one(pool, process, asker).await;
    let tx = lease(&claim, pool).begin().await.unwrap();
    tx.share_end_of(TenantId::SYSTEM, work).await.unwrap().expect("it joined");
    let explanation = explained(pool, asker).await;
    assert_eq!((explanation.state, codes(&explanation)), ("waiting", vec!["unique"]));
    assert_eq!(explanation.blockers[0].because, Because::Unique { job: work });
    let awaited = explanation.awaited.expect("what it waits for is explained too");
    assert_eq!((awaited.job, codes(&awaited)), (work, vec!["paused"]));
}

#[tokio::test]
async fn a_retry_an_initial_delay_and_a_job_that_was_set_aside_are_told_apart() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let process = worker(pool).await;
    let job = stored(pool, plain()).await;
    let why = async || match first(pool, job).await.0 {
        Because::Delayed { why } => why,
        other => panic!("{other:?}"),
    };
    let claim = claim_one(pool, process, job).await;
    settle(pool, claim.lease, Settlement::Again(HOUR)).await;
    assert_eq!(why().await, queue::Delay::SetAside);
    sqlx::query!("update jobs set state = 'ready', run_at = now()").execute(pool).await.unwrap();
    let claim = claim_one(pool, process, job).await;
    let error = queue::JobError::retryable("VENDOR_UNAVAILABLE", "it said 503");
    let failed = Settlement::of_error(&error, claim.attempt, 3, &Backoff::Steps(&[HOUR]), process, 0.0);
    settle(pool, claim.lease, failed).await;
    let code = "VENDOR_UNAVAILABLE".to_owned();
    assert_eq!(why().await, queue::Delay::Retry { attempt: 1, code });
}

#[tokio::test]
async fn parked_jobs_and_those_that_run_after_others_say_so() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let process = worker(pool).await;
    let parked = stored(pool, plain()).await;
    let claim = claim_one(pool, process, parked).await;
    settle(pool, claim.lease, Settlement::Park).await;
    assert_eq!(first(pool, parked).await.0.code(), "parked");

    let mut tx = db::begin(pool).await.unwrap();
    let before = queue::enqueue(&mut tx, plain().delay(HOUR).awaited()).await.unwrap().id();
    let after = queue::enqueue(&mut tx, plain().after(TenantId::SYSTEM, before)).await.unwrap().id();
    tx.commit().await.unwrap();
    let explanation = explained(pool, after).await;
    assert_eq!(explanation.blockers[0].because, Because::Waiting { job: before });
    assert_eq!(codes(explanation.awaited.as_deref().unwrap()), ["delayed"]);
    assert!(explanation.eta.unwrap().likely > explanation.seen_at + HOUR, "it begins when the other ends");

    let mut conn = pool.acquire().await.unwrap();
    let batch = NewBatch::of(vec![plain(), plain()]).completion(plain());
    let stored_batch = queue::enqueue_batch(&mut conn, batch).await.unwrap();
    let completion = stored_batch.completion.expect("it has one").id();
    let (because, _) = first(pool, completion).await;
    assert!(matches!(because, Because::Batch { ended: 0, total: 2, .. }), "{because:?}");
}

#[tokio::test]
async fn another_tenants_job_and_one_that_has_ended_are_not_explained() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let claim = running(pool, plain()).await;
    let estimator = Estimator::new(pool.clone(), POLICIES);
    let stranger = tenant(pool, 1).await;
    assert!(estimator.explain(stranger, claim.lease.job).await.unwrap().is_none());
    let running = estimator.explain(TenantId::SYSTEM, claim.lease.job).await.unwrap().unwrap();
    assert_eq!((running.state, running.blockers.len()), ("running", 0));
    end(pool, claim.lease, done(Value::Null)).await;
    assert!(estimator.explain(TenantId::SYSTEM, claim.lease.job).await.unwrap().is_none());
}

#[tokio::test]
async fn the_command_line_says_why_in_words_and_for_programs() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let job = queue::enqueue(&mut conn, NewJob::of(&jobs::maintenance::PruneJobs::default()).unwrap())
        .await
        .unwrap();
    let job = job.id().to_string();
    let said = async |arguments: &[&str]| {
        let mut command = MillpondProcess::start(&db, arguments, &[]);
        assert!(command.ended().await.success(), "{}", command.log());
        let mut answer = String::new();
        eventually("the command's answer", async || {
            answer = command.log();
            answer.contains("no worker serves the queue maintenance")
        })
        .await;
        answer
    };
    said(&["jobs", "explain", &job]).await;
    let log = said(&["jobs", "explain", &job, "--json"]).await;
    let json: Value = serde_json::from_str(&log[log.find('{').unwrap()..=log.rfind('}').unwrap()]).unwrap();
    assert_eq!(json["blockers"][0]["because"], json!("no_worker"));
    assert_eq!(json["eta"], Value::Null);
}

#[tokio::test]
async fn the_command_line_lists_the_jobs_of_a_request_by_its_id_whoever_owns_them() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let partner = tenant(pool, 1).await;
    let asked = || plain().request_id(Some("req-1".to_owned()));
    let ended = running(pool, asked()).await;
    end(pool, ended.lease, done(Value::Null)).await;
    let live = stored(pool, asked().tenant(partner)).await;
    stored(pool, plain().request_id(Some("req-2".to_owned()))).await;
    let mut command = MillpondProcess::start(&db, &["requests", "show", "req-1", "--json"], &[]);
    assert!(command.ended().await.success(), "{}", command.log());
    let mut log = String::new();
    eventually("the command's answer", async || {
        log = command.log();
        log.contains(&live.to_string())
    })
    .await;
    let json: Value = serde_json::from_str(&log[log.find('{').unwrap()..=log.rfind('}').unwrap()]).unwrap();
    let found: Vec<&Value> = json["jobs"].as_array().unwrap().iter().map(|job| &job["jobId"]).collect();
    assert_eq!(found, [&json!(ended.lease.job), &json!(live)], "the oldest first, ended or not");
    let mut unknown = MillpondProcess::start(&db, &["requests", "show", "req-3"], &[]);
    assert!(!unknown.ended().await.success(), "a request that stored no job");
}
