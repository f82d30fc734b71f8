//! What becomes of jobs whose limit has no room.

use std::time::Instant;

use queue::JobStatus;
use serde_json::json;

use super::callers::{CALLS, Caller, Idle, KINDS, Vendor};
use super::*;
use crate::support::{SandboxControls, TestWorker, WorkerOptions, sandbox, within};

#[tokio::test]
async fn a_job_that_finds_no_permit_is_set_aside_and_uses_no_attempt() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let (vendor, counts) = Vendor::open(HOUR);
    let job = stored(pool, NewJob::of(&Caller { vendor }).unwrap()).await;
    // Blocked only when the job is running already: a claim would have passed it over.
    define(pool, &[(CALLS, rate(100, ERA))]).await;
    limits::tighten(pool, CALLS, "", Some(HOUR)).await.unwrap();
    let services = std::sync::Arc::new(crate::support::services(pool.clone(), None));
    let worker = crate::support::ManualWorker::register(services, KINDS).await;
    let record = worker.run_one(Caller::KIND).await;
    assert_eq!((record.id, record.status.has_ended(), record.attempts), (job, false, 0));
    assert_eq!(state(pool, job).await.as_deref(), Some("scheduled"));
    assert!(counts.counts().windows.is_empty(), "nobody was called");
}

#[tokio::test]
async fn a_lane_whose_limit_has_no_room_is_passed_over_and_holds_up_no_other() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[(CALLS, rate(0, ERA))]).await;
    let (vendor, _) = Vendor::open(HOUR);
    let mut blocked = Vec::new();
    for _ in 0..20 {
        blocked.push(stored(pool, NewJob::of(&Caller { vendor }).unwrap()).await);
    }
    let worker = TestWorker::start(&db, KINDS);
    let mut free = Vec::new();
    for _ in 0..20 {
        free.push(stored(pool, NewJob::of(&Idle::default()).unwrap()).await);
    }
    for job in free {
        eventually("jobs without a limit run", async || record(pool, job).await.status.has_ended()).await;
    }
    for job in blocked {
        assert_eq!(state(pool, job).await.as_deref(), Some("ready"), "never claimed");
    }
    worker.stop().await;
}

#[tokio::test]
async fn when_the_window_turns_the_next_jobs_run_at_once_and_not_at_the_next_poll() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let window = Duration::from_millis(400);
    define(pool, &[(CALLS, rate(2, window))]).await;
    let (vendor, counts) = Vendor::open(window);
    let mut jobs = Vec::new();
    for _ in 0..8 {
        jobs.push(stored(pool, NewJob::of(&Caller { vendor }).unwrap()).await);
    }
    let began = Instant::now();
    let mut options = WorkerOptions::new(KINDS);
    options.settings.poll = Duration::from_secs(60);
    let worker = options.start(&db);
    for job in jobs {
        eventually("every job runs", async || record(pool, job).await.status.has_ended()).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(counts.counts().windows.values().all(|calls| *calls <= 2), "{:?}", counts.counts());
    worker.stop().await;
}

#[tokio::test]
async fn a_vendor_that_wants_fewer_calls_stops_the_whole_fleet() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let sandbox = sandbox().await;
    let controls = SandboxControls::of(&sandbox);
    controls.put("limits", json!({ "callsMax": 1, "windowMs": 86_400_000 })).await;
    let (limits, _) = jobs::profiles::meter_limits(1_000, Duration::from_secs(86_400), 0);
    limits::define(&mut pool.acquire().await.unwrap(), &limits, &[]).await.unwrap();
    let fetch = |n: usize| {
        let profile = format!("https://www.tiktok.com/@creator.{n}").parse().unwrap();
        NewJob::of(&jobs::profiles::Fetch { profile, asked_by: None }).unwrap()
    };
    let fetched = async |n: usize| {
        let job = stored(pool, fetch(n)).await;
        let services = crate::support::services(pool.clone(), Some(&sandbox.meter_url()));
        let worker = crate::support::ManualWorker::register(std::sync::Arc::new(services), jobs::ALL).await;
        let record = worker.run_one("profiles.fetch").await;
        assert_eq!(record.id, job);
        (record.status, record.attempts)
    };
    assert_eq!(fetched(1).await, (JobStatus::Completed, 1));
    assert_eq!(level(pool, "meter.calls", "").await.used, 1);
    // The vendor's own limit is lower than ours: it says 429.
    assert_eq!(fetched(2).await, (JobStatus::Processing, 1));
    assert!(level(pool, "meter.calls", "").await.blocked_until.is_some());
    assert_eq!(fetched(3).await.1, 0, "another worker does not even ask, and no attempt is used");
    assert_eq!(controls.calls("vendor=meter").await["total"], json!(2));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn a_process_claims_no_more_jobs_than_can_call_soon_and_holds_up_no_other() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[(CALLS, rate(300, ERA))]).await;
    limits::register_kinds(pool, &[(Caller::KIND, &Caller::POLICY)]).await.unwrap();
    let (vendor, _) = Vendor::open(HOUR);
    let jobs = (0..50).map(|_| NewJob::of(&Caller { vendor }).unwrap()).collect();
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();
    let (one, other) = (process(pool).await, process(pool).await);
    let claim = async |process| queue::claim(pool, process, Queue::Enrich, 100).await.unwrap();
    let claimed = claim(one).await;
    assert_eq!(
        (claimed.len(), claim(one).await.len()),
        (4, 0),
        "the rest of its slots are left to other jobs"
    );
    assert_eq!(claim(other).await.len(), 4, "the first one may be dead");

    let permits = Permits::new(pool.clone());
    for job in &claimed[..3] {
        let drawn = limits::draw(pool, &permits, one, Some(job.lease), &[(CALLS, "")]).await.unwrap();
        let _ = granted(drawn);
    }
    assert_eq!(claim(one).await.len(), 3, "those that drew make room");
}

#[tokio::test]
async fn a_claim_waits_for_no_draw_and_for_no_other_claim_of_the_same_limit() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[(CALLS, rate(300, ERA))]).await;
    limits::register_kinds(pool, &[(Caller::KIND, &Caller::POLICY)]).await.unwrap();
    let (vendor, _) = Vendor::open(HOUR);
    let jobs = (0..10).map(|_| NewJob::of(&Caller { vendor }).unwrap()).collect();
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();
    let process = process(pool).await;
    let permits = Permits::new(pool.clone());
    let _ = granted(draw(pool, &permits, process, &[(CALLS, "")]).await);
    // As a draw has it until it is committed.
    let mut drawing = db::begin(pool).await.unwrap();
    sqlx::query!("select used from job_limit_buckets where name = $1 for update", CALLS)
        .fetch_one(&mut *drawing)
        .await
        .unwrap();
    let claim = within("a claim", queue::claim(pool, process, Queue::Enrich, 2)).await.unwrap();
    assert_eq!(claim.len(), 2);
    drawing.rollback().await.unwrap();

    // As a claim has it until it is committed.
    let mut claiming = db::begin(pool).await.unwrap();
    sqlx::query!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('millpond limit ' || $1 || ' ', 0)) as "got!""#,
        CALLS
    )
    .fetch_one(&mut *claiming)
    .await
    .unwrap();
    let claim = async || within("a claim", queue::claim(pool, process, Queue::Enrich, 2)).await.unwrap();
    assert_eq!(claim().await.len(), 0, "left for its next look");
    claiming.rollback().await.unwrap();
    assert_eq!(claim().await.len(), 2);
}
