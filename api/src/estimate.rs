//! How long an enrich job will take, from those that ended lately.
//!
//! The figure is a few seconds old at most while requests come; one request refreshes it while the others use the
//! old one, so that a burst costs one query. Without any history it is S0's sample, ten seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use db::Pool;
use jobs::profiles::Enrich;

const REFRESH_EVERY: Duration = Duration::from_secs(5);
const WITHOUT_HISTORY: Duration = Duration::from_secs(10);

/// The last figure, and when it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    asked_at: Option<Instant>,
    usual: Option<Duration>,
}

impl Estimates {
    /// How long an enrich job usually takes from request to result.
    pub(crate) async fn usual(&self, pool: &Pool) -> Duration {
        if self.is_due(Instant::now()) {
            match queue::usual_duration::<Enrich>(pool).await {
                Ok(usual) => self.last.lock().unwrap_or_else(PoisonError::into_inner).usual = Some(usual),
                Err(error) => tracing::warn!(%error, "no new estimate, keeping the last"),
            }
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.usual.unwrap_or(WITHOUT_HISTORY)
    }

    /// True for one caller each time the figure is old; that caller refreshes it.
    fn is_due(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.asked_at.is_none_or(|asked| now.saturating_duration_since(asked) >= REFRESH_EVERY);
        if due {
            last.asked_at = Some(now);
        }
        due
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
    fn one_caller_refreshes_an_old_figure() {
        let estimates = Estimates::default();
        let now = Instant::now();
        assert!(estimates.is_due(now));
        assert!(!estimates.is_due(now));
        assert!(estimates.is_due(now + REFRESH_EVERY));
    }

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
