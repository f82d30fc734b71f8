//! Bounds on how many jobs run at once: of a tenant, and of a kind's key. They hold for the whole fleet.

use std::time::Duration;

use futures::future::join_all;
use queue::TenantShare;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    fair_share::{Claimer, store, tenant},
    kinds::{Impatient, KINDS, Urgent},
    *,
};
use crate::support::{TestDb, WorkerOptions, eventually};

async fn cap(pool: &Pool, tenant: TenantId, concurrency_max: i32) {
    let mut conn = pool.acquire().await.unwrap();
    let share = TenantShare { concurrency_max: Some(concurrency_max), ..TenantShare::default() };
    queue::set_tenant(&mut conn, tenant, share).await.unwrap();
}

async fn cap_keys(pool: &Pool, kind: &str, concurrency_max: i32) {
    sqlx::query!(
        "insert into job_kinds (kind, key_concurrency_max) values ($1, $2)
         on conflict (kind) do update set key_concurrency_max = excluded.key_concurrency_max",
        kind,
        concurrency_max,
    )
    .execute(pool)
    .await
    .unwrap();
}

/// The most jobs of one share, and of one kind and key, that run now.
async fn most_at_once(pool: &Pool, share: TenantId) -> (i64, i64) {
    let row = sqlx::query!(
        r#"select
               (select count(*) from jobs where state = 'running' and share_id = $1) as "share!",
               coalesce((
                   select max(n) from (
                       select count(*) as n from jobs where state = 'running' and key is not null group by kind, key
                   ) as k
               ), 0) as "key!""#,
        share.uuid(),
    )
    .fetch_one(pool)
    .await
    .unwrap();
    (row.share, row.key)
}

fn of_three_kinds(number: usize) -> NewJob {
    match number % 3 {
        0 => plain(),
        1 => NewJob::of(&Urgent {}).unwrap(),
        _ => NewJob::of(&Impatient {}).unwrap(),
    }
}

#[tokio::test]
async fn one_claim_of_a_capped_tenants_many_kinds_stays_within_its_cap_and_gives_others_the_rest() {
    let db = TestDb::new().await;
    let (capped, other) = (tenant(db.pool(), 1).await, tenant(db.pool(), 1).await);
    cap(db.pool(), capped, 4).await;
    store(db.pool(), (0..60).map(|number| of_three_kinds(number).tenant(capped))).await;
    store(db.pool(), (0..90).map(|number| of_three_kinds(number).tenant(other))).await;
    let mut claimer = Claimer::new(db.pool()).await;
    for _ in 0..3 {
        let claimed = claimer.turn(30).await;
        let of_capped = claimed.iter().filter(|job| job.share == capped).count();
        // What its last jobs held is free as soon as they are acknowledged, in the same turn.
        assert_eq!((claimed.len(), of_capped), (30, 4));
        assert_eq!(most_at_once(db.pool(), capped).await.0, 4);
    }
}

#[tokio::test]
async fn a_keys_cap_reaches_over_the_tenants_whose_jobs_have_it() {
    let db = TestDb::new().await;
    cap_keys(db.pool(), "test.scripted", 2).await;
    for _ in 0..3 {
        let tenant = tenant(db.pool(), 1).await;
        let keyed = |number: usize| plain().key(["a", "b"][number % 2]).tenant(tenant);
        store(db.pool(), (0..10).map(keyed)).await;
    }
    let without = tenant(db.pool(), 1).await;
    store(db.pool(), (0..5).map(|_| plain().tenant(without))).await;
    let mut claimer = Claimer::new(db.pool()).await;
    let mut left = 30;
    while left > 0 {
        let claimed = claimer.turn(20).await;
        let keyed = claimed.iter().filter(|job| job.share != without).count();
        assert_eq!(keyed, 4.min(left), "two of each key, {left} left");
        assert!(most_at_once(db.pool(), without).await.1 <= 2);
        left -= keyed;
    }
}

#[tokio::test]
async fn caps_hold_under_concurrent_claimers_and_freed_slots_are_used_at_once() {
    let db = TestDb::new().await;
    let (capped, other) = (tenant(db.pool(), 8).await, tenant(db.pool(), 1).await);
    cap(db.pool(), capped, 5).await;
    cap_keys(db.pool(), "test.scripted", 2).await;
    let keyed = |number: usize| {
        let job = of_three_kinds(number);
        if number.is_multiple_of(3) { job.key(["a", "b", "c"][number % 9 / 3]) } else { job }
    };
    store(db.pool(), (0..300).map(|number| keyed(number).tenant(capped))).await;
    store(db.pool(), (0..300).map(|number| keyed(number).tenant(other))).await;
    let all_done = async || {
        let left = sqlx::query_scalar!(r#"select count(*) as "n!" from jobs"#).fetch_one(db.pool()).await;
        left.unwrap() == 0
    };
    let claimer = |number: u64| {
        let (db, all_done) = (&db, &all_done);
        async move {
            let mut random = StdRng::seed_from_u64(number);
            let mut claimer = Claimer::new(db.pool()).await;
            loop {
                claimer.turn(random.random_range(1..12)).await;
                let (share, key) = most_at_once(db.pool(), capped).await;
                assert!(share <= 5, "{share} of the tenant at once");
                assert!(key <= 2, "{key} of one key at once");
                if all_done().await {
                    return;
                }
            }
        }
    };
    crate::support::within("claimers to do all jobs", join_all((0..6).map(claimer))).await;
}

#[tokio::test]
async fn a_worker_keeps_a_capped_tenants_slots_full() {
    let db = TestDb::new().await;
    let capped = tenant(db.pool(), 1).await;
    cap(db.pool(), capped, 2).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(stored(db.pool(), Scripted::job([kinds::Act::WaitForGate]).tenant(capped)).await);
    }
    let mut options = WorkerOptions::new(KINDS);
    // Without the end of a job nobody would look again in time.
    options.settings.poll = Duration::from_secs(60);
    let worker = options.start(&db);
    let running = async |job: &JobId| state(db.pool(), *job).await.as_deref() == Some("running");
    eventually("two run", async || running(&jobs[0]).await && running(&jobs[1]).await).await;
    assert_eq!(state(db.pool(), jobs[2]).await.as_deref(), Some("ready"));
    kinds::open_gate(jobs[0]);
    eventually("the third runs", async || running(&jobs[2]).await).await;
    kinds::open_gate(jobs[1]);
    kinds::open_gate(jobs[2]);
    worker.stop().await;
}
