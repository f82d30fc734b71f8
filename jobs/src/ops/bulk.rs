//! `ops.bulk`: carries out what an operator asked of every job that a frozen search matches, chunk by chunk and at a rate.
//!
//! How far it is is kept in the transaction of each chunk, so that it may die at any instant: it goes on behind the last chunk,
//! repeats none and leaves none out. Between chunks it can be cancelled. A long one is set aside now and then, without
//! using up attempts, and so lasts as long as its rate says. A chunk that gave way to others is done anew after a rest, also
//! without using up attempts.

use std::time::Duration;

use queue::{
    Backoff, INTERNAL_ERROR, Job, JobError, JobSearch, Outcome, Policy, Queue,
    bulk::{BulkAction, BulkState, CHUNK_MAX},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::{Context, Handler, webhooks};

/// What to do, and to which jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bulk {
    /// What.
    pub action: BulkAction,
    /// To which: [frozen](queue::bulk::freeze).
    pub filter: JobSearch,
    /// Jobs in a second at the most; all at once without one.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// How many matched when it was asked for, about.
    #[serde(default)]
    pub matched: u64,
    /// Who asked, as cancelled jobs are told.
    pub by: String,
}

impl Job for Bulk {
    const KIND: &'static str = queue::bulk::BULK_KIND;
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        // Somebody waits for it.
        priority: -2,
        attempts_max: 20,
        timeout: Duration::from_secs(600),
        backoff: Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(30) },
        ..Policy::DEFAULT
    };
}

/// One attempt works so long, and is then set aside: well within its timeout.
const ATTEMPT_MAX: Duration = Duration::from_secs(240);
/// A longer wait for the rate is spent without a slot.
const HELD_WAIT_MAX: Duration = Duration::from_secs(3);
/// A chunk is taken so long before its first job may run: its jobs wait for their time in the queue.
const AHEAD: Duration = Duration::from_millis(500);
/// A chunk holds what the rate gives in this time.
const CHUNK_TIME: Duration = Duration::from_secs(1);
/// A chunk that gave way is done anew after this: whoever waited for it is through by then.
const GAVE_WAY_REST: Duration = Duration::from_millis(300);
/// After so many in a row that gave way it is set aside,
const GAVE_WAY_MAX: u32 = 10;
/// for this long.
const GAVE_WAY_WAIT: Duration = Duration::from_secs(5);

impl Handler for Bulk {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        if !queue::bulk::is_frozen(self.action, &self.filter) {
            // What it redrives and fails again it would meet for ever.
            return Err(JobError::fatal(
                "NOT_FROZEN",
                "the filter of a bulk change has no upper bound in time",
            ));
        }
        let until = Instant::now() + ATTEMPT_MAX;
        let mut state = {
            let mut conn = cx.services().pool.acquire().await?;
            queue::bulk::state(&mut conn, cx.job()).await.map_err(not_read)?
        };
        let mut gave_way = 0;
        while !state.is_over {
            let Some((wait, next)) = self.change_chunk(&cx, &state).await? else {
                gave_way += 1;
                if gave_way == GAVE_WAY_MAX || Instant::now() + GAVE_WAY_REST > until {
                    return Ok(Outcome::Snooze(GAVE_WAY_WAIT));
                }
                tokio::time::sleep(GAVE_WAY_REST).await;
                continue;
            };
            gave_way = 0;
            state = next;
            cx.progress(state.met(), Some(self.matched.max(state.met())), None);
            let wait = wait.saturating_sub(AHEAD);
            if state.is_over {
                break;
            }
            if wait > HELD_WAIT_MAX || Instant::now() + wait > until {
                return Ok(Outcome::Snooze(wait));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(Outcome::Done(Some(self.result(&state))))
    }
}

impl Bulk {
    /// Changes the next chunk in a transaction of its own. Answers how long the one after it is to wait, and how far the
    /// whole is then; nothing, with nothing changed, when the chunk gave way to others.
    async fn change_chunk(
        &self,
        cx: &Context,
        state: &BulkState,
    ) -> Result<Option<(Duration, BulkState)>, JobError> {
        let chunk = {
            let mut conn = cx.services().pool.acquire().await?;
            queue::bulk::next_chunk(&mut conn, &self.filter, state, self.chunk_max()).await?
        };
        let mut tx = cx.begin().await?;
        let mut next = state.clone();
        let (key, rate) = (cx.key(), self.rate_per_s);
        let changed = queue::bulk::change(&mut tx, key, self.action, &self.by, rate, &chunk, &mut next).await;
        let (wait, done) = match changed {
            Err(error) if error.is_contended() => return Ok(None),
            changed => changed?,
        };
        for job in &done.redriven {
            webhooks::reopen(&mut tx, job.tenant, &job.kind, &job.args)
                .await
                .map_err(|error| not_reopened(&error))?;
        }
        tx.tell(&done);
        tx.commit().await?;
        Ok(Some((wait, next)))
    }

    /// Jobs in a chunk: what the rate gives in a moment.
    fn chunk_max(&self) -> usize {
        let by_rate = self.rate_per_s.map(|rate| (rate * CHUNK_TIME.as_secs_f64()).ceil() as usize);
        by_rate.map_or(CHUNK_MAX, |jobs| jobs.clamp(1, CHUNK_MAX))
    }

    fn result(&self, state: &BulkState) -> serde_json::Value {
        json!({
            "action": self.action,
            "matched": self.matched,
            "changed": state.changed,
            "asked": state.asked,
            "keyTaken": state.key_taken,
            "gone": state.gone,
            "pacedUntil": state.next_at,
        })
    }
}

fn not_read(error: queue::Error) -> JobError {
    if matches!(error, queue::Error::BulkState { .. }) {
        let why = "how far it is cannot be read; ask anew for what is left";
        return JobError::fatal("UNREADABLE_STATE", why).caused_by(&error);
    }
    error.into()
}

fn not_reopened(error: &(dyn std::error::Error + 'static)) -> JobError {
    JobError::retryable(INTERNAL_ERROR, "deliveries of redriven jobs were not reopened").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_what_the_rate_gives_in_a_second() {
        let of = |rate_per_s| Bulk {
            action: BulkAction::Redrive,
            filter: JobSearch::default(),
            rate_per_s,
            matched: 0,
            by: String::new(),
        };
        for (rate, jobs) in [(None, 500), (Some(50.0), 50), (Some(0.1), 1), (Some(10_000.0), 500)] {
            assert_eq!(of(rate).chunk_max(), jobs, "{rate:?}");
        }
    }
}
