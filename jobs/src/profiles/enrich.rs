//! `profiles.enrich`: one partner's wish to know a profile. It calls nobody: it answers from a recent crawl or
//! shares the end of the one crawl under way, so a thousand wishes cost one vendor call.

use std::time::Duration;

use kernel::{
    ids::{PartnerId, TenantId},
    profile_url::ProfileUrl,
};
use queue::{Backoff, Enqueued, Job, JobError, NewJob, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Fetch;
use crate::{Context, Handler};

/// The arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrich {
    /// The profile.
    pub profile: ProfileUrl,
}

impl Job for Enrich {
    const KIND: &'static str = "profiles.enrich";
    const POLICY: Policy = Policy {
        queue: Queue::Enrich,
        priority: 0,
        attempts_max: 10,
        timeout: Duration::from_secs(10),
        backoff: Backoff::Exponential { base: Duration::from_millis(500), max: Duration::from_secs(60) },
    };
}

/// How often the crawl we found may end before we could join it.
const LOOKS_MAX: u8 = 10;

impl Handler for Enrich {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let platform = self.profile.platform();
        let key = self.profile.lookup_key();
        let reuse = cx.services().crawl_reuse;
        for _ in 0..LOOKS_MAX {
            let mut tx = cx.begin().await?;
            if let Some(known) = pool::fresh(&mut tx, platform, key, reuse).await.map_err(pool_error)? {
                let about = known.id.uuid();
                let result = json!({ "profile": pool::ProfileResult::from(known) });
                return Ok(tx.done(Some(result), Some(about)).await?);
            }
            let fetch = Fetch {
                profile: self.profile.clone(),
                asked_by: Some(PartnerId::from_uuid(cx.tenant().uuid())),
            };
            let fetch = NewJob::of(&fetch)?
                .unique(format!("{platform}/{key}"))
                .awaited()
                .request_id(cx.request_id().map(str::to_owned));
            let fetch = tx.enqueue(fetch).await?;
            // Ours may be new because another ended between our look and now: then its result is there, and
            // dropping the transaction takes ours back.
            if matches!(fetch, Enqueued::New(_))
                && pool::fresh(&mut tx, platform, key, reuse).await.map_err(pool_error)?.is_some()
            {
                continue;
            }
            if let Some(outcome) = tx.share_end_of(TenantId::SYSTEM, fetch.id()).await? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Snooze(Duration::from_secs(1)))
    }
}

pub(super) fn pool_error(error: pool::PoolError) -> JobError {
    JobError::retryable(queue::INTERNAL_ERROR, "the pool could not be read or written").caused_by(&error)
}
