//! `maintenance.prune_jobs`: removes what finished jobs left in the tables of the domains, when its time is over. The
//! queue keeps its own history in order. It takes no input and rereads the state, so it may run any number of times,
//! at any time.

use std::time::Duration;

use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Context, Handler, profiles::STALE_AGE_MAX};

/// No arguments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PruneJobs {}

impl Job for PruneJobs {
    const KIND: &'static str = "maintenance.prune_jobs";
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        priority: 0,
        attempts_max: 5,
        timeout: Duration::from_secs(600),
        backoff: Backoff::Exponential { base: Duration::from_secs(30), max: Duration::from_secs(600) },
        ..Policy::DEFAULT
    };
}

/// Rows of a table removed in one transaction: short ones, so that nothing else waits or bloats.
const BATCH_ROWS_MAX: u32 = 1_000;

impl Handler for PruneJobs {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let services = cx.services();
        let mut tx = cx.begin().await?;
        identity::prune(&mut tx).await.map_err(|error| not_pruned(&error))?;
        identity::forget_old_tries(&mut tx).await.map_err(|error| not_pruned(&error))?;
        tx.commit().await?;
        let mut rows = Rows::default();
        loop {
            let mut tx = cx.begin().await?;
            let batch = Rows {
                deliveries: ::webhooks::prune(&mut tx, services.retention, BATCH_ROWS_MAX.into())
                    .await
                    .map_err(|error| not_pruned(&error))?,
                idempotency_keys: partners::idempotency::prune(&mut tx, BATCH_ROWS_MAX)
                    .await
                    .map_err(|error| not_pruned(&error))?,
                crawls: pool::prune_crawls(&mut tx, STALE_AGE_MAX, BATCH_ROWS_MAX.into())
                    .await
                    .map_err(|error| not_pruned(&error))?,
                misses: pool::prune_misses(&mut tx, services.miss_reuse, BATCH_ROWS_MAX.into())
                    .await
                    .map_err(|error| not_pruned(&error))?,
                ticks: schedules::prune(&mut tx, BATCH_ROWS_MAX.into())
                    .await
                    .map_err(|error| not_pruned(&error))?,
            };
            tx.commit().await?;
            rows.deliveries += batch.deliveries;
            rows.idempotency_keys += batch.idempotency_keys;
            rows.crawls += batch.crawls;
            rows.misses += batch.misses;
            rows.ticks += batch.ticks;
            let most = [batch.deliveries, batch.idempotency_keys, batch.crawls, batch.misses, batch.ticks]
                .into_iter()
                .max();
            if most < Some(BATCH_ROWS_MAX.into()) {
                break;
            }
        }
        Ok(Outcome::Done(Some(json!({
            "deliveries": rows.deliveries,
            "idempotencyKeys": rows.idempotency_keys,
            "crawls": rows.crawls,
            "misses": rows.misses,
            "ticks": rows.ticks,
        }))))
    }
}

/// Rows removed, by table.
#[derive(Default)]
struct Rows {
    deliveries: u64,
    idempotency_keys: u64,
    crawls: u64,
    misses: u64,
    ticks: u64,
}

fn not_pruned(error: &(dyn std::error::Error + 'static)) -> JobError {
    JobError::retryable(INTERNAL_ERROR, "not everything was pruned").caused_by(error)
}
