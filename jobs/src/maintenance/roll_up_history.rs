//! `maintenance.roll_up_history`: what became of jobs, into minutes and hours for charts. It takes no input and goes on
//! where the last one ended, so it may run any number of times, at any time; each step is a short transaction.

use std::time::Duration;

use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Context, Handler};

/// No arguments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RollUpHistory {}

impl Job for RollUpHistory {
    const KIND: &'static str = "maintenance.roll_up_history";
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        // Before other upkeep: it comes every minute and takes milliseconds.
        priority: -1,
        attempts_max: 3,
        timeout: Duration::from_secs(300),
        backoff: Backoff::Exponential { base: Duration::from_secs(5), max: Duration::from_secs(60) },
        ..Policy::DEFAULT
    };
}

impl Handler for RollUpHistory {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let mut tx = cx.begin().await?;
        queue::history::sample_depths(&mut tx).await.map_err(|error| not_done(&error))?;
        tx.commit().await?;
        let (mut minutes, mut hours, mut jobs, mut dropped) = (0, 0, 0, 0);
        loop {
            let mut tx = cx.begin().await?;
            let rolled_up = queue::history::roll_up(&mut tx).await.map_err(|error| not_done(&error))?;
            let rows = queue::history::drop_old(&mut tx).await.map_err(|error| not_done(&error))?;
            tx.commit().await?;
            minutes += rolled_up.minutes;
            hours += rolled_up.hours;
            jobs += rolled_up.jobs;
            dropped += rows;
            if !rolled_up.did_something() && rows == 0 {
                break;
            }
        }
        Ok(Outcome::Done(Some(
            json!({ "minutes": minutes, "hours": hours, "jobs": jobs, "dropped": dropped }),
        )))
    }
}

fn not_done(error: &(dyn std::error::Error + 'static)) -> JobError {
    JobError::retryable(INTERNAL_ERROR, "history was not rolled up").caused_by(error)
}
