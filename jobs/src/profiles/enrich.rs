//! `profiles.enrich`: one partner's wish to know a profile. It calls nobody: it answers from a recent crawl or
//! shares the end of the one crawl under way, so a thousand wishes cost one vendor call.

use std::time::Duration;

use db::Connection;
use kernel::{
    ids::{PartnerId, TenantId},
    profile_url::ProfileUrl,
};
use queue::{Backoff, Enqueued, Job, JobError, NewJob, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Fetch, fetch};
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
        leads_to: Some(Fetch::KIND),
        queue: Queue::Enrich,
        priority: 0,
        // As many as the fetch whose end it mostly shares, so that its owner sees one figure throughout.
        attempts_max: 8,
        timeout: Duration::from_secs(10),
        backoff: Backoff::Exponential { base: Duration::from_millis(500), max: Duration::from_secs(60) },
        ..Policy::DEFAULT
    };
}

/// How often the crawl we found may end before we could join it.
const LOOKS_MAX: u8 = 10;

impl Handler for Enrich {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        for _ in 0..LOOKS_MAX {
            let mut tx = cx.begin().await?;
            match self.known(&cx, &mut tx).await? {
                Known::Profile(profile) => {
                    let about = profile.id.uuid();
                    fetch::remember_subject(&mut tx, &[(cx.tenant(), cx.job())], about).await?;
                    let result = json!({ "profile": pool::ProfileResult::from(*profile) });
                    return Ok(tx.done(Some(result), Some(about)).await?);
                }
                Known::Missing => return Err(fetch::not_found()),
                Known::Nothing => {}
            }
            let fetch = tx.enqueue(self.fetch(&cx)?).await?;
            // Ours may be new because another ended between our look and now: then what it found is there, and
            // dropping the transaction takes ours back.
            if matches!(fetch, Enqueued::New(_)) && !matches!(self.known(&cx, &mut tx).await?, Known::Nothing)
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

/// What an earlier crawl tells.
enum Known {
    Profile(Box<pool::PoolProfile>),
    Missing,
    Nothing,
}

impl Enrich {
    async fn known(&self, cx: &Context, conn: &mut Connection) -> Result<Known, JobError> {
        let (platform, key) = (self.profile.platform(), self.profile.lookup_key());
        let services = cx.services();
        let fresh = pool::fresh(conn, platform, key, services.crawl_reuse).await.map_err(pool_error)?;
        if let Some(profile) = fresh {
            return Ok(Known::Profile(Box::new(profile)));
        }
        let missing = pool::missed(conn, platform, key, services.miss_reuse).await.map_err(pool_error)?;
        Ok(if missing { Known::Missing } else { Known::Nothing })
    }

    fn fetch(&self, cx: &Context) -> Result<NewJob, JobError> {
        let asked_by = Some(PartnerId::from_uuid(cx.tenant().uuid()));
        let fetch = Fetch { profile: self.profile.clone(), asked_by };
        Ok(NewJob::of(&fetch)?
            .unique(format!("{}/{}", self.profile.platform(), self.profile.lookup_key()))
            // Whoever asks first pays for the crawl with its share of the workers.
            .share_of(cx.share())
            .awaited())
    }
}

pub(super) fn pool_error(error: pool::PoolError) -> JobError {
    JobError::retryable(queue::INTERNAL_ERROR, "the pool could not be read or written").caused_by(&error)
}
