//! `maintenance.prune_jobs`: what has outlived its time goes, what has not stays, and twice is as good as once.

use kernel::ids::{DeliveryId, JobId, TenantId};
use queue::{JobStatus, NewJob};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::jobs::stage::*;

/// Runs the kind once and answers what it says it removed.
async fn pruned(stage: &Stage) -> Value {
    let mut conn = stage.pool().acquire().await.unwrap();
    queue::enqueue(&mut conn, NewJob::of(&jobs::maintenance::PruneJobs {}).unwrap()).await.unwrap();
    drop(conn);
    let job = stage.kit.run_one::<PruneJobs>().await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    job.result.unwrap()
}

async fn execute(stage: &Stage, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(stage.pool()).await.unwrap();
}

async fn count(stage: &Stage, table: &str) -> i64 {
    use sqlx::Row;
    let counted = format!("select count(*) from {table}");
    sqlx::raw_sql(AssertSqlSafe(counted)).fetch_one(stage.pool()).await.unwrap().get(0)
}

const NOTHING: [&str; 5] = ["crawls", "deliveries", "idempotencyKeys", "misses", "ticks"];

fn assert_nothing(pruned: &Value) {
    let counts: Vec<_> = pruned.as_object().unwrap().iter().collect();
    assert_eq!(counts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), NOTHING);
    assert!(counts.iter().all(|(_, count)| **count == json!(0)), "{pruned}");
}

#[tokio::test]
async fn a_young_installation_loses_nothing() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, Some("told")).await;
    stage.kit.drain().await;
    assert_nothing(&pruned(&stage).await);
    assert_eq!(stage.record(asked).await.status, JobStatus::Completed);
    assert_eq!(stage.delivery(asked).await.1.len(), 1);
    let crawl = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    assert_eq!(stage.record(crawl).await.status, JobStatus::Completed, "the crawl is still there");
}

#[tokio::test]
async fn old_deliveries_go_with_their_attempts() {
    let stage = Stage::new().await;
    let old = stage.ended("told").await;
    stage.kit.run_one::<Deliver>().await;
    execute(&stage, "update webhook_deliveries set created_at = now() - interval '36 days'").await;
    let young = stage.ended("told").await;
    stage.kit.run_one::<Deliver>().await;
    execute(
        &stage,
        &format!(
            "update webhook_deliveries set created_at = now() - interval '34 days' where id = '{}'",
            young.delivery().uuid()
        ),
    )
    .await;

    assert_eq!(pruned(&stage).await["deliveries"], 1);
    assert_eq!(stage.delivery(young).await.1.len(), 1);
    assert_eq!((count(&stage, "webhook_deliveries").await, count(&stage, "webhook_attempts").await), (1, 1));
    let mut conn = stage.pool().acquire().await.unwrap();
    assert!(webhooks::get(&mut conn, old.tenant, old.delivery()).await.unwrap().is_none());
    assert_nothing(&pruned(&stage).await);
}

#[tokio::test]
async fn more_than_one_batch_of_everything_goes_in_one_run() {
    let stage = Stage::new().await;
    let tenant = stage.partner.id.uuid();
    execute(
        &stage,
        &format!(
            "insert into idempotency_keys (tenant_id, key, fingerprint, job_id, created_at)
             select '{tenant}', 'key-' || n, '', gen_random_uuid(), now() - interval '25 hours'
             from generate_series(1, 2500) n;
             insert into webhook_deliveries (tenant_id, id, job_id, url, created_at)
             select '{tenant}', gen_random_uuid(), gen_random_uuid(), 'https://example.com/',
                    now() - interval '40 days'
             from generate_series(1, 1500) n;
             insert into pool_misses (platform, lookup_key, missed_at)
             select 'tiktok', '@missing.' || n, now() - interval '1 day' from generate_series(1, 1001) n;"
        ),
    )
    .await;
    let result = pruned(&stage).await;
    assert_eq!(
        (&result["idempotencyKeys"], &result["deliveries"], &result["misses"]),
        (&json!(2_500), &json!(1_500), &json!(1_001))
    );
    assert_nothing(&pruned(&stage).await);
}

#[tokio::test]
async fn keys_and_crawls_go_when_their_time_is_over_and_not_before() {
    let stage = Stage::new().await;
    stage.crawled(AMY).await;
    stage.age_crawls(364.0 * 24.0).await;
    stage.crawled("https://www.tiktok.com/@bob").await;
    let tenant = stage.partner.id.uuid();
    execute(
        &stage,
        &format!(
            "insert into idempotency_keys (tenant_id, key, fingerprint, job_id, created_at)
             values ('{tenant}', 'old', '', gen_random_uuid(), now() - interval '25 hours'),
                    ('{tenant}', 'young', '', gen_random_uuid(), now() - interval '23 hours');
             insert into pool_misses (platform, lookup_key, missed_at)
             values ('tiktok', '@old', now() - interval '6 minutes'), ('tiktok', '@young', now());"
        ),
    )
    .await;
    let result = pruned(&stage).await;
    assert_eq!(
        (&result["idempotencyKeys"], &result["crawls"], &result["misses"]),
        (&json!(1), &json!(0), &json!(1))
    );
    stage.age_crawls(48.0).await;
    assert_eq!(pruned(&stage).await["crawls"], 1);
    assert_eq!(count(&stage, "pool_crawls").await, 1);
    assert_eq!(pool_entries(&stage).await, 2, "profiles stay");
    let kept: Vec<String> =
        sqlx::query_scalar!("select key from idempotency_keys").fetch_all(stage.pool()).await.unwrap();
    assert_eq!(kept, ["young"]);
}

#[tokio::test]
async fn a_run_that_lost_its_lease_is_made_good_by_the_next() {
    let stage = Stage::new().await;
    let tenant = TenantId::from(stage.partner.id);
    let mut conn = stage.pool().acquire().await.unwrap();
    let (id, job) = (DeliveryId::new(), JobId::new());
    let new = webhooks::NewDelivery { tenant, id, job, url: "https://example.com/", subject: None };
    webhooks::create(&mut conn, new).await.unwrap();
    execute(&stage, "update webhook_deliveries set created_at = now() - interval '36 days'").await;
    let job = queue::enqueue(&mut conn, NewJob::of(&jobs::maintenance::PruneJobs {}).unwrap()).await.unwrap();

    let claimed = stage.kit.claim(PRUNE).await;
    stage.kit.die().await;
    let answer = stage.kit.run(&claimed).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(!stage.kit.settle(&claimed, answer).await);
    assert_eq!(count(&stage, "webhook_deliveries").await, 1);
    let done = stage.kit.successor().await.run_one(PRUNE).await;
    assert_eq!((done.id, done.status), (job.id(), JobStatus::Completed));
    assert_eq!(count(&stage, "webhook_deliveries").await, 0);
}

#[tokio::test]
async fn several_may_prune_at_once() {
    let stage = Stage::new().await;
    execute(
        &stage,
        "insert into pool_misses (platform, lookup_key, missed_at)
         select 'tiktok', '@missing.' || n, now() - interval '1 day' from generate_series(1, 1500) n;",
    )
    .await;
    let mut conn = stage.pool().acquire().await.unwrap();
    for _ in 0..4 {
        queue::enqueue(&mut conn, NewJob::of(&jobs::maintenance::PruneJobs {}).unwrap()).await.unwrap();
    }
    let done = stage.kit.run_all::<PruneJobs>().await;
    assert!(done.iter().all(|job| job.status == JobStatus::Completed), "{done:?}");
    let sum = |name: &str| -> i64 {
        done.iter().map(|job| job.result.as_ref().unwrap()[name].as_i64().unwrap()).sum()
    };
    assert_eq!(sum("misses"), 1_500);
}
