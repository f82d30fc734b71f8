//! `partners.follow_calendar`: takes the steps that the calendar asks of subscriptions (tell ahead, renew, begin the
//! grace period, expire) and forgets keys that nobody fetched in time. It takes no input and rereads the state, so it may
//! run any number of times, at any time; each step is a transaction of its own with its event, its mail and its records.

use std::time::Duration;

use ::partners::{directory, quota, renewal, reveals};
use audit::Actor;
use kernel::ids::PartnerId;
use queue::{Backoff, INTERNAL_ERROR, Job, JobError, Outcome, Policy, Queue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actions::PartnerActionError;
use super::subscription::tell_of_step;
use crate::{Context, Door, Handler};

/// No arguments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FollowCalendar {}

impl Job for FollowCalendar {
    const KIND: &'static str = "partners.follow_calendar";
    const POLICY: Policy = Policy {
        queue: Queue::Maintenance,
        priority: 0,
        attempts_max: 5,
        timeout: Duration::from_secs(300),
        backoff: Backoff::Exponential { base: Duration::from_secs(10), max: Duration::from_secs(600) },
        ..Policy::DEFAULT
    };
}

/// Partners looked at in one go.
const PAGE_ROWS_MAX: u32 = 500;
/// Steps of one partner in a run: one that nobody looked at for long may have several.
const STEPS_MAX: u64 = 100;
/// Keys forgotten in a run.
const PRUNED_MAX: u32 = 1_000;

impl Handler for FollowCalendar {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let (steps, forgotten) = follow(&cx).await.map_err(|error| {
            JobError::retryable(INTERNAL_ERROR, "not all subscriptions were looked at").caused_by(&error)
        })?;
        Ok(Outcome::Done(Some(json!({ "steps": steps, "keysForgotten": forgotten }))))
    }
}

async fn follow(cx: &Context) -> Result<(u64, u64), PartnerActionError> {
    let pool = &cx.services().pool;
    let (mut after, mut steps) = (None, 0u64);
    loop {
        let mut conn = pool.acquire().await.map_err(::partners::PartnerError::from)?;
        let page = renewal::due(&mut conn, after, PAGE_ROWS_MAX).await?;
        drop(conn);
        for partner in &page {
            steps += all_steps_of(cx, *partner).await?;
            cx.progress(steps, None, Some("steps of subscriptions"));
        }
        after = page.last().copied();
        if page.len() < PAGE_ROWS_MAX as usize {
            break;
        }
    }
    let mut conn = pool.acquire().await.map_err(::partners::PartnerError::from)?;
    let forgotten = reveals::prune(&mut conn, PRUNED_MAX).await?;
    Ok((steps, forgotten))
}

async fn all_steps_of(cx: &Context, partner: PartnerId) -> Result<u64, PartnerActionError> {
    for taken in 0..STEPS_MAX {
        if !next_step_of(cx, partner).await? {
            return Ok(taken);
        }
    }
    Ok(STEPS_MAX)
}

async fn next_step_of(cx: &Context, partner: PartnerId) -> Result<bool, PartnerActionError> {
    let services = cx.services();
    let mut tx = db::begin(&services.pool).await.map_err(::partners::PartnerError::from)?;
    let before = directory::lock(&mut tx, partner).await?;
    let at = quota::calendar_now(&mut tx).await?;
    let Some(step) = renewal::take_step(&mut tx, partner).await? else { return Ok(false) };
    let door = Door {
        actor: Actor::System("calendar"),
        request_id: cx.request_id().map(str::to_owned),
        keyring: &services.keyring,
    };
    tell_of_step(&mut tx, &door, &before, step, at).await?;
    tx.commit().await.map_err(::partners::PartnerError::from)?;
    Ok(true)
}
