//! How long the jobs of some tenants wait, alone and beside one that has queued a great many.
//!
//! The others ask for half of what the slots can do, by chance in time (exponential gaps), so that alone a slot is
//! nearly always free. Their share beside the flood is greater than what they ask for, so all they may lose is the
//! time until a slot is free and the next claim. How long a job holds its slot is by chance too, as with calls to a
//! vendor: slots that all took the same time would be free all at once, and then for a whole job's time none.

use std::time::Duration;

use anyhow::ensure;
use db::Pool;
use kernel::ids::TenantId;
use queue::{NewJob, Queue, Waker};
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::held::{Held, take_waits};
use super::pools::{Pools, fill, tenant};
use crate::machine;
use crate::server::TestServer;

/// Tenants beside the flooding one; all have weight 1.
const OTHERS: usize = 4;
/// What they ask for, of what the slots can do.
const LOAD: f64 = 0.5;
const SLOTS: usize = 64;
/// How long a job holds its slot, on average.
const HOLD: Duration = Duration::from_millis(20);
/// Connections that store jobs.
const STORERS: usize = 8;
const SETTLE: Duration = Duration::from_secs(2);
const MEASURE: Duration = Duration::from_secs(15);

/// Waits of the others' jobs, from before they are stored until their body begins, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// Jobs measured.
    pub jobs: usize,
    /// Half of them waited no longer.
    pub p50_ms: f64,
    /// Nineteen of twenty waited no longer.
    pub p95_ms: f64,
    /// All but one in a hundred.
    pub p99_ms: f64,
}

/// What the flood came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flood {
    /// Jobs of the flooding tenant.
    pub flood_jobs: u64,
    /// Without it.
    pub alone: Waits,
    /// With it.
    pub beside: Waits,
    /// Jobs of the flood done in a second meanwhile.
    pub flood_per_s: f64,
}

/// Measures both.
///
/// # Errors
/// When the flood ended too soon, or the database failed.
pub(super) async fn measure(server: &TestServer, flood_jobs: u64) -> anyhow::Result<Flood> {
    let database = server.fresh_database("bench_fairness").await?;
    let pool = &database.pool;
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(tenant(pool, 1).await?);
    }
    let waker = Waker::new();
    let pools = Pools::start(&database, 1, SLOTS, &waker).await?;
    let alone = waits(pool, &others, &waker).await?;
    let flooding = tenant(pool, 1).await?;
    let held = |stored_at_us| Held { hold_us: hold_us(), tenant: 0, stored_at_us };
    fill(pool, flood_jobs, |_| Ok(NewJob::of(&held(None))?.tenant(flooding))).await?;
    // What storing so many left the server to do is not what is measured.
    for statement in ["vacuum (analyze) jobs", "checkpoint"] {
        sqlx::raw_sql(statement).execute(pool).await?;
    }
    let (before, began) = (super::held::done()[0], Instant::now());
    let beside = waits(pool, &others, &waker).await?;
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let flood_per_s = (super::held::done()[0] - before) as f64 / began.elapsed().as_secs_f64();
    let left = sqlx::query_scalar!(
        r#"select exists (select from jobs where state = 'ready' and share_id = $1) as "is!""#,
        flooding.uuid(),
    )
    .fetch_one(pool)
    .await?;
    pools.stop().await?;
    database.pool.close().await;
    ensure!(left, "the flood was over before the measurement: ask for more --jobs");
    Ok(Flood { flood_jobs, alone, beside, flood_per_s })
}

/// Lets the others ask for a while and tells how long they waited.
async fn waits(pool: &Pool, others: &[TenantId], waker: &Waker) -> anyhow::Result<Waits> {
    let until = Instant::now() + SETTLE + MEASURE;
    let mut storers = JoinSet::new();
    for storer in 0..STORERS {
        let tenant = others[storer % others.len()];
        storers.spawn(store(pool.clone(), tenant, waker.clone(), until));
    }
    sleep(SETTLE).await;
    take_waits();
    while let Some(ended) = storers.join_next().await {
        ended??;
    }
    // What is still queued of the others begins soon.
    sleep(Duration::from_millis(500)).await;
    let mut waits = take_waits();
    ensure!(!waits.is_empty(), "no job was measured");
    waits.sort_unstable();
    let at = |hundredths: usize| {
        #[allow(clippy::cast_precision_loss, reason = "microseconds far below 2^53")]
        let ms = waits[(waits.len() * hundredths / 100).min(waits.len() - 1)] as f64 / 1_000.0;
        ms
    };
    Ok(Waits { jobs: waits.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99) })
}

/// Stores single jobs with exponential gaps.
async fn store(pool: Pool, tenant: TenantId, waker: Waker, until: Instant) -> anyhow::Result<()> {
    let per_s = LOAD * SLOTS as f64 / HOLD.as_secs_f64() / STORERS as f64;
    let mut next = Instant::now();
    let mut conn = pool.acquire().await?;
    while next < until {
        next += Duration::from_secs_f64(exponential(1.0 / per_s));
        sleep_until(next).await;
        let job = Held { hold_us: hold_us(), tenant: 1, stored_at_us: Some(machine::monotonic_us()) };
        queue::enqueue(&mut conn, NewJob::of(&job)?.tenant(tenant)).await?;
        waker.wake(Queue::Enrich);
    }
    Ok(())
}

fn hold_us() -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive time far below 2^53 us"
    )]
    let us = (exponential(HOLD.as_secs_f64()) * 1e6) as u64;
    us
}

/// A time by chance, exponentially distributed with this mean.
fn exponential(mean: f64) -> f64 {
    let chance: f64 = rand::rng().random_range(f64::EPSILON..1.0);
    -chance.ln() * mean
}
