//! Shares of tenants that all want more than there is, and of the rest when one of them wants nothing.

use std::time::Duration;

use anyhow::ensure;
use kernel::ids::TenantId;
use queue::{NewJob, Waker};
use tokio::time::{Instant, sleep};

use super::held::{Held, TENANTS_MAX, done};
use super::pools::{Pools, fill, tenant};
use crate::server::TestServer;

/// The tenants' weights.
pub(super) const WEIGHTS: [i16; 4] = [1, 2, 4, 8];
const WORKERS: usize = 2;
const SLOTS: usize = 16;
const HOLD: Duration = Duration::from_millis(3);
const SETTLE: Duration = Duration::from_secs(1);
const MEASURE: Duration = Duration::from_secs(6);

/// What was done while it was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    /// Jobs of each tenant.
    pub jobs: [u64; WEIGHTS.len()],
    /// Jobs of all in a second.
    pub jobs_per_s: f64,
}

/// What contention came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contention {
    /// All tenants have more jobs than can be done.
    pub all: Served,
    /// All but the last, which has none.
    pub rest: Served,
}

/// Measures both.
///
/// # Errors
/// When a tenant ran out of jobs, or the database failed.
pub(super) async fn measure(server: &TestServer) -> anyhow::Result<Contention> {
    Ok(Contention { all: serve(server, &WEIGHTS).await?, rest: serve(server, &WEIGHTS[..3]).await? })
}

/// Serves tenants of these weights for a while.
async fn serve(server: &TestServer, weights: &[i16]) -> anyhow::Result<Served> {
    let database = server.fresh_database("bench_fairness").await?;
    let capacity = (WORKERS * SLOTS) as f64 / HOLD.as_secs_f64();
    let total: i16 = weights.iter().sum();
    let seconds = (SETTLE + MEASURE).as_secs_f64() * 1.5;
    for (number, weight) in weights.iter().enumerate() {
        let tenant: TenantId = tenant(&database.pool, *weight).await?;
        let jobs = capacity * seconds * f64::from(*weight) / f64::from(total);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred thousand")]
        fill(&database.pool, jobs as u64, |_| {
            let hold_us = u64::try_from(HOLD.as_micros()).unwrap_or_default();
            Ok(NewJob::of(&Held { hold_us, tenant: number, stored_at_us: None })?.tenant(tenant))
        })
        .await?;
    }
    let pools = Pools::start(&database, WORKERS, SLOTS, &Waker::new()).await?;
    sleep(SETTLE).await;
    let (before, began) = (done(), Instant::now());
    sleep(MEASURE).await;
    let (after, took) = (done(), began.elapsed().as_secs_f64());
    let left = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select distinct share_id from jobs where state = 'ready') as s"#
    )
    .fetch_one(&database.pool)
    .await?;
    pools.stop().await?;
    database.pool.close().await;
    ensure!(usize::try_from(left)? == weights.len(), "a tenant ran out of jobs: its share is not known");
    let by_tenant: [u64; TENANTS_MAX] = std::array::from_fn(|tenant| after[tenant] - before[tenant]);
    let jobs: [u64; WEIGHTS.len()] = std::array::from_fn(|tenant| by_tenant[tenant]);
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let jobs_per_s = by_tenant.iter().sum::<u64>() as f64 / took;
    Ok(Served { jobs, jobs_per_s })
}
