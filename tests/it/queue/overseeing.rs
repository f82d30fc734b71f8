//! What operators look at: the whole at a glance, everybody's share, and all that is known of one job.

use kernel::ids::PartnerId;
use queue::ops::{Asks, Awaited, EventKind, JobDetail, Overview, QueueOverview, TenantStanding};
use queue::ops::{ask_worker, detail, overview, shares};
use queue::{JobState, Scope, TenantShare, WORKER_LOST, set_tenant};

use super::*;
use crate::support::TestDb;

async fn glance(pool: &Pool) -> Overview {
    overview(&mut pool.acquire().await.unwrap(), LONG).await.unwrap()
}

fn of(overview: &Overview, queue: Queue) -> &QueueOverview {
    overview.queues.iter().find(|one| one.depth.queue == queue).expect("every queue is there")
}

async fn standings(pool: &Pool) -> Vec<TenantStanding> {
    let now = kernel::clock::now();
    let mut conn = pool.acquire().await.unwrap();
    shares(&mut conn, now - chrono::TimeDelta::hours(1), now).await.unwrap().tenants
}

async fn detail_of(pool: &Pool, tenant: TenantId, job: JobId) -> Option<JobDetail> {
    detail(&mut pool.acquire().await.unwrap(), &[tenant], job).await.unwrap()
}

fn events(job: &JobDetail) -> Vec<&'static str> {
    job.timeline.iter().map(|event| event.what.as_str()).collect()
}

fn somebody() -> TenantId {
    TenantId::from_uuid(PartnerId::new().uuid())
}

#[tokio::test]
async fn an_overview_tells_what_stands_who_works_what_died_and_what_is_blocked() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let empty = glance(pool).await;
    assert_eq!((empty.workers_alive, empty.dead_last_day, empty.blocked.len()), (0, 0, 0));
    assert_eq!(
        (of(&empty, Queue::Enrich).oldest_ready, of(&empty, Queue::Enrich).paused.is_some()),
        (None, false)
    );

    let broken = running(pool, plain()).await;
    end(pool, broken.lease, End::Failed(failure("BROKEN"))).await;
    let long_ago = running(pool, plain()).await;
    end(pool, long_ago.lease, End::Failed(failure("BROKEN"))).await;
    sqlx::query!(
        "update jobs_finished set finished_at = finished_at - interval '3 hours' where id = $1",
        long_ago.lease.job.uuid()
    )
    .execute(pool)
    .await
    .unwrap();
    let claim = running(pool, plain()).await;
    stored(pool, plain().delay(LONG)).await;
    stored(pool, plain()).await;
    sqlx::query!("update jobs set run_at = now() - interval '90 s' where state = 'ready'")
        .execute(pool)
        .await
        .unwrap();
    sqlx::query!(
        "insert into job_limit_buckets (name, key, blocked_until)
         values ('test.vendor', 'a', now() + interval '1 minute'), ('test.vendor', 'b', now() - interval '1 minute')"
    )
    .execute(pool)
    .await
    .unwrap();
    let scope = Scope { queue: Queue::Enrich, kind: Some("test.scripted".to_owned()) };
    queue::pause(&mut pool.acquire().await.unwrap(), &scope, "a test").await.unwrap();

    let seen = glance(pool).await;
    let enrich = of(&seen, Queue::Enrich);
    assert_eq!((enrich.depth.ready, enrich.depth.running, enrich.depth.scheduled), (1, 1, 1));
    let age = enrich.oldest_ready.expect("one is ready").as_secs();
    assert!((90..120).contains(&age), "{age} s");
    assert_eq!(
        (enrich.paused.is_some(), enrich.paused_kinds.as_slice()),
        (false, &["test.scripted".to_owned()][..])
    );
    assert_eq!(of(&seen, Queue::Webhooks).depth.ready, 0);
    assert_eq!((seen.dead_last_hour, seen.dead_last_day), (1, 2));
    let blocked: Vec<_> =
        seen.blocked.iter().map(|limit| (limit.name.as_str(), limit.key.as_str())).collect();
    assert_eq!(blocked, [("test.vendor", "a")], "the other may be drawn on again");

    // Who is quiet, and who is lost, is not among those who claim.
    let (alive, claiming) = (seen.workers_alive, enrich.processes);
    let holder = claimed_by(pool, claim.lease.job).await;
    ask_worker(&mut pool.acquire().await.unwrap(), holder, Asks::Quiet, "a test").await.unwrap();
    let quiet = glance(pool).await;
    assert_eq!((quiet.workers_alive, quiet.workers_quiet), (alive, 1));
    assert_eq!(of(&quiet, Queue::Enrich).processes, claiming - 1);
    silence(pool, holder).await;
    assert_eq!(glance(pool).await.workers_alive, alive - 1);
}

async fn claimed_by(pool: &Pool, job: JobId) -> Uuid {
    sqlx::query_scalar!(r#"select leased_by as "by!" from jobs where id = $1"#, job.uuid())
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_share_is_the_weight_among_those_who_have_work_and_the_part_of_what_runs() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let (heavy, light, idle, unknown) = (somebody(), somebody(), somebody(), somebody());
    let mut conn = pool.acquire().await.unwrap();
    for (tenant, weight) in [(heavy, 3), (idle, 5)] {
        set_tenant(&mut conn, tenant, TenantShare { weight, concurrency_max: Some(7) }).await.unwrap();
    }
    drop(conn);
    running(pool, plain().tenant(heavy)).await;
    stored(pool, plain().tenant(light)).await;

    let standings = standings(pool).await;
    let of = |tenant| standings.iter().find(|one| one.tenant == tenant);
    let heavy = of(heavy).expect("it has work");
    assert_eq!((heavy.weight, heavy.concurrency_max, heavy.has_work, heavy.running), (3, Some(7), true, 1));
    assert!((heavy.target - 0.75).abs() < 1e-9 && (heavy.actual - 1.0).abs() < 1e-9, "{heavy:?}");
    let light = of(light).expect("it has work");
    assert_eq!((light.weight, light.has_work, light.running), (1, true, 0));
    assert!((light.target - 0.25).abs() < 1e-9 && light.actual.abs() < 1e-9, "{light:?}");
    let idle = of(idle).expect("its share was set");
    assert_eq!((idle.weight, idle.has_work), (5, false));
    assert!(idle.target.abs() < 1e-9, "who has no work is to have nothing: {idle:?}");
    assert!(of(unknown).is_none());
    assert_eq!(standings[0].tenant, heavy.tenant, "the largest actual share comes first");
}

#[tokio::test]
async fn a_job_tells_what_happened_to_it_in_the_order_of_its_happening() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let owner = somebody();
    let job = stored(pool, plain().tenant(owner).key("a key")).await;
    let dead = process(pool).await;
    let first = claimed(pool, dead).await;
    assert_eq!(first.lease.job, job);
    silence(pool, dead).await;
    queue::sweep(pool, LONG).await.unwrap();
    let alive = process(pool).await;
    let second = claimed(pool, alive).await;

    let seen = detail_of(pool, owner, job).await.expect("it is there");
    assert_eq!((seen.state, seen.key.as_deref(), seen.share), (JobState::Running, Some("a key"), owner));
    assert_eq!(seen.holder.map(|holder| holder.process), Some(alive));
    assert_eq!(events(&seen), ["stored", "started", "taken_back", "claimed"]);
    let lost = seen.timeline.iter().find_map(|event| match &event.what {
        EventKind::TakenBack { worker, .. } => *worker,
        _ => None,
    });
    assert_eq!(lost, Some(dead), "it says who was lost");
    assert_eq!(seen.record.errors[0].code, WORKER_LOST);

    end(pool, second.lease, End::Failed(failure("BROKEN"))).await;
    let seen = detail_of(pool, owner, job).await.expect("history has it");
    assert_eq!((seen.state, seen.holder.is_some()), (JobState::Failed, false));
    assert_eq!(events(&seen).last(), Some(&"ended"));
    assert!(seen.timeline.is_sorted_by_key(|event| event.at));
    assert!(detail_of(pool, somebody(), job).await.is_none(), "it is not another tenant's");
}

#[tokio::test]
async fn a_job_tells_what_it_waits_for_what_waits_for_it_and_what_else_its_request_asked_for() {
    let db = TestDb::new().await;
    let pool = db.pool();
    let tenant = TenantId::SYSTEM;
    let asked = || plain().request_id(Some("req-1".to_owned()));
    let leader = stored(pool, asked().awaited()).await;
    let follower = stored(pool, asked().after(tenant, leader)).await;
    let stranger = stored(pool, plain()).await;

    let first = detail_of(pool, tenant, leader).await.unwrap();
    let ids = |jobs: &[queue::FoundJob]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert!(first.waits_for.is_none());
    assert_eq!((ids(&first.waiters), ids(&first.of_request)), (vec![follower], vec![follower]));
    let second = detail_of(pool, tenant, follower).await.unwrap();
    assert_eq!((second.state, ids(&second.of_request)), (JobState::Waiting, vec![leader]));
    match second.waits_for {
        Some(Awaited::Job { job, .. }) => assert_eq!(job.id, leader),
        other => panic!("it waits for the other job: {other:?}"),
    }
    let alone = detail_of(pool, tenant, stranger).await.unwrap();
    assert!(alone.waits_for.is_none() && alone.waiters.is_empty() && alone.of_request.is_empty());
}
