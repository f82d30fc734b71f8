//! `maintenance.prune_jobs`: removes what has outlived its retention and prepares the coming weeks' partitions.
//! It takes no input and rereads the state, so it may run any number of times, at any time.

use std::time::Duration;

use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Context, Handler};

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
    };
}

/// Rows removed in one statement: short transactions, so that nothing else waits or bloats.
const BATCH_ROWS_MAX: i64 = 1_000;

impl Handler for PruneJobs {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let services = cx.services();
        let jobs = queue::prune(&services.pool, services.retention).await?;
        let mut deliveries = 0;
        let mut idempotency_keys = 0;
        loop {
            let mut tx = cx.begin().await?;
            let pruned = ::webhooks::deliveries::prune(&mut tx, services.retention, BATCH_ROWS_MAX)
                .await
                .map_err(|error| JobError::retryable(INTERNAL_ERROR, "deliveries not pruned").caused_by(&error))?;
            let keys = partners::idempotency::prune(&mut tx, BATCH_ROWS_MAX)
                .await
                .map_err(|error| JobError::retryable(INTERNAL_ERROR, "keys not pruned").caused_by(&error))?;
            tx.commit().await?;
            deliveries += pruned;
            idempotency_keys += keys;
            if pruned.max(keys) < BATCH_ROWS_MAX.unsigned_abs() {
                break;
            }
        }
        Ok(Outcome::Done(Some(json!({
            "partitionsCreated": jobs.partitions_created,
            "partitionsDropped": jobs.partitions_dropped,
            "uniqueKeys": jobs.keys_removed,
            "deliveries": deliveries,
            "idempotencyKeys": idempotency_keys,
        }))))
    }
}
