//! How estimates of jobs' ends are told: whole seconds and instants.
//!
//! An estimate is a courtesy: when the database cannot be asked for one, the answer that it belongs to goes out without.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kernel::ids::{JobId, TenantId};
use queue::Eta;

use crate::state::ApiState;

/// S0's sample, for an answer that must name a time when nobody can: the queue is paused, or nobody works it.
pub(crate) const UNKNOWN: Duration = Duration::from_secs(10);

/// An answer waits no longer than this for an estimate.
const PATIENCE: Duration = Duration::from_secs(1);

/// When a job of this tenant ends that was just stored.
pub(crate) async fn of_new(state: &ApiState, kind: &str, tenant: TenantId, job: JobId) -> Option<Eta> {
    told(state.estimator().of_new(kind, tenant, job)).await
}

/// When a job ends that is under way; none when it has ended.
pub(crate) async fn of_live(state: &ApiState, tenant: TenantId, job: JobId) -> Option<Eta> {
    told(state.estimator().of_live(tenant, job)).await
}

/// How long a job of this kind takes that the tenant would store now; for lists, where no job is asked about in particular.
pub(crate) async fn usual(state: &ApiState, kind: &str, tenant: TenantId) -> Option<Duration> {
    told(state.estimator().usual(kind, tenant)).await
}

async fn told<T>(estimate: impl Future<Output = Result<Option<T>, queue::Error>>) -> Option<T> {
    match tokio::time::timeout(PATIENCE, estimate).await {
        Ok(Ok(estimate)) => estimate,
        Ok(Err(error)) => {
            tracing::warn!(%error, "no estimate");
            None
        }
        Err(_) => {
            tracing::warn!(waited_ms = PATIENCE.as_millis(), "no estimate in time");
            None
        }
    }
}

/// Whole seconds, at least one: 0 would read as "done".
pub(crate) fn seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    whole.max(1)
}

/// What is left of the usual time for a job stored at `created_at`. A job that is late may end any moment, which is
/// said as one second.
pub(crate) fn remaining(usual: Duration, created_at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    let age = (now - created_at).to_std().unwrap_or_default();
    usual.saturating_sub(age).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_whole_seconds_and_never_zero() {
        assert_eq!(seconds(Duration::from_millis(9_001)), 10);
        assert_eq!(seconds(Duration::from_secs(10)), 10);
        assert_eq!(seconds(Duration::ZERO), 1);
    }

    #[test]
    fn what_is_left_shrinks_with_age_to_a_second() {
        let created = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let after = |s| created + chrono::TimeDelta::seconds(s);
        let usual = Duration::from_secs(10);
        assert_eq!(remaining(usual, created, after(4)), Duration::from_secs(6));
        assert_eq!(remaining(usual, created, after(60)), Duration::from_secs(1));
        assert_eq!(remaining(usual, created, after(-5)), usual);
    }
}
