//! `profiles.fetch`: the one vendor call for a profile, however many partners ask. It belongs to the system
//! tenant and is unique per profile; everybody who waits for it ends with it, in its completing transaction.

use std::time::Duration;

use db::Connection;
use kernel::{
    ids::{JobId, PartnerId, TenantId},
    profile_url::ProfileUrl,
};
use queue::{Backoff, INTERNAL_ERROR, Job, JobError, JobTx, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use vendors::{Origin, Refused, VendorError, meter::MeterProfile};

use super::{
    enrich::pool_error,
    metered::{CALLS, Metered, USES},
};
use crate::{Context, Handler, PermitError};

/// The arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetch {
    /// The profile.
    pub profile: ProfileUrl,
    /// The partner that asked first, remembered when the pool gains an entry by it.
    #[serde(default)]
    pub asked_by: Option<PartnerId>,
}

impl Job for Fetch {
    const KIND: &'static str = "profiles.fetch";
    const POLICY: Policy = Policy {
        queue: Queue::Enrich,
        // Before enrich: many may wait for one fetch, and the vendor's time is the longest part.
        priority: -10,
        attempts_max: 8,
        // The vendor has 30 seconds; what comes on top is ours.
        timeout: Duration::from_secs(40),
        backoff: Backoff::Exponential { base: Duration::from_secs(2), max: Duration::from_secs(300) },
        limits: USES,
        ..Policy::DEFAULT
    };
}

/// As old as a result may be when the vendor cannot give a newer one. Crawls are forgotten after that.
pub(crate) const STALE_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

impl Handler for Fetch {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let services = cx.services();
        let call_key = cx.job().derive("meter.enrich").to_string();
        let gate = Metered(&cx);
        let origin = Origin { request_id: cx.request_id(), trace: Some(cx.trace()), gate: Some(&gate) };
        let error = match services.meter.enrich(&self.profile, origin, &call_key).await {
            Ok(profile) => return self.save(&cx, profile).await,
            // That there is no such profile is an answer, and newer than what we have.
            Err(VendorError::NotFound | VendorError::Private) => return self.miss(&cx).await,
            Err(VendorError::NotPermitted { source }) => return not_permitted(source),
            Err(error) => {
                if let VendorError::RateLimited { retry_after } = error {
                    tighten(&cx, retry_after).await;
                }
                job_error(&error)
            }
        };
        if error.is_fatal() || cx.is_last_attempt() {
            self.answer_stale(&cx, error).await
        } else {
            Err(error)
        }
    }
}

impl Fetch {
    async fn save(&self, cx: &Context, profile: MeterProfile) -> Result<Outcome, JobError> {
        let services = cx.services();
        let mut tx = cx.begin().await?;
        let crawl = self.crawl(profile);
        let influencer = match pool::save_crawl(&mut tx, &services.keyring, crawl).await {
            Ok(influencer) => influencer,
            Err(pool::PoolError::OtherPlatform) => {
                return Err(JobError::fatal(VENDOR_UNAVAILABLE, "the vendor mixed up two platforms"));
            }
            Err(error) => return Err(pool_error(error)),
        };
        let saved = pool::get(&mut tx, influencer).await.map_err(pool_error)?;
        let saved =
            saved.ok_or_else(|| JobError::retryable(INTERNAL_ERROR, "the saved profile is not there"))?;
        answer(tx, saved, false).await
    }

    /// Remembers that there is no such profile, so that asking again at once costs no call.
    async fn miss(&self, cx: &Context) -> Result<Outcome, JobError> {
        let mut tx = cx.begin().await?;
        let (platform, key) = (self.profile.platform(), self.profile.lookup_key());
        pool::save_miss(&mut tx, platform, key).await.map_err(pool_error)?;
        tx.commit().await?;
        Err(not_found())
    }

    /// The vendor did not answer to the last: an older result is better than none, and says that it is old.
    async fn answer_stale(&self, cx: &Context, error: JobError) -> Result<Outcome, JobError> {
        let mut tx = cx.begin().await?;
        let (platform, key) = (self.profile.platform(), self.profile.lookup_key());
        let Some(known) = pool::fresh(&mut tx, platform, key, STALE_AGE_MAX).await.map_err(pool_error)?
        else {
            return Err(error);
        };
        answer(tx, known, true).await
    }

    fn crawl(&self, profile: MeterProfile) -> pool::Crawl {
        pool::Crawl {
            platform: profile.platform,
            lookup_key: self.profile.lookup_key().to_owned(),
            vb_profile_id: profile.profile_id,
            username: profile.username,
            display_name: profile.display_name,
            avatar_url: profile.avatar_url,
            bio: profile.bio,
            followers: profile.followers,
            following: profile.following,
            engagement: profile.engagement,
            avg_views: profile.avg_views,
            avg_likes: profile.avg_likes,
            avg_comments: profile.avg_comments,
            score: profile.score.total,
            score_reach: profile.score.reach,
            score_engagement: profile.score.engagement,
            score_authenticity: profile.score.authenticity,
            contact_email: profile.contact.email,
            contact_phone: profile.contact.phone,
            crawled_at: profile.crawled_at,
            added_by_partner: self.asked_by,
        }
    }
}

/// Ends the fetch, and all who wait for it, with a profile.
async fn answer(mut tx: JobTx, profile: pool::PoolProfile, is_stale: bool) -> Result<Outcome, JobError> {
    let about = profile.id.uuid();
    let askers = tx.sharers().await?;
    remember_subject(&mut tx, &askers, about).await?;
    let mut result = json!({ "profile": pool::ProfileResult::from(profile) });
    if is_stale {
        result["stale"] = true.into();
    }
    Ok(tx.done(Some(result), Some(about)).await?)
}

/// The requests behind these jobs turned out to be about this creator.
pub(super) async fn remember_subject(
    conn: &mut Connection,
    jobs: &[(TenantId, JobId)],
    subject: Uuid,
) -> Result<(), JobError> {
    partners::idempotency::set_subject(conn, jobs, subject).await.map_err(|error| {
        JobError::retryable(INTERNAL_ERROR, "the request's key was not updated").caused_by(&error)
    })
}

const NOT_FOUND: &str = "NOT_FOUND";
const CRAWL_TIMEOUT: &str = "CRAWL_TIMEOUT";
const VENDOR_UNAVAILABLE: &str = "VENDOR_UNAVAILABLE";

/// The end of a job whose profile the vendor cannot see. Which of the two it is, is the creator's matter.
pub(super) fn not_found() -> JobError {
    JobError::fatal(NOT_FOUND, "the profile was not found or is private")
}

/// No call was made: the job waits for its turn and uses no attempt.
fn not_permitted(why: Refused) -> Result<Outcome, JobError> {
    match why.downcast::<PermitError>() {
        Ok(why) => why.outcome(),
        Err(why) => {
            Err(JobError::retryable(INTERNAL_ERROR, "the vendor was not called").caused_by(why.as_ref()))
        }
    }
}

/// The whole fleet leaves the vendor alone for as long as it wants.
async fn tighten(cx: &Context, retry_after: Option<Duration>) {
    if let Err(error) = cx.tighten(CALLS, retry_after).await {
        tracing::warn!(%error, "the other workers were not told that the meter wants fewer calls");
    }
}

/// What a vendor's failure means for the job, in words for the partner.
fn job_error(error: &VendorError) -> JobError {
    let unavailable = "the profile could not be crawled: the vendor is unavailable";
    let told = match error {
        VendorError::Timeout => {
            JobError::retryable(CRAWL_TIMEOUT, "the crawl took too long and was given up")
        }
        error if error.is_retryable() => JobError::retryable(VENDOR_UNAVAILABLE, unavailable),
        _ => JobError::fatal(VENDOR_UNAVAILABLE, unavailable),
    };
    told.after(error.retry_after()).caused_by(error)
}
