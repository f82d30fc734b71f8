//! When a failed attempt is tried again: a pure rule from attempt number and chance to a delay.

use std::time::Duration;

use crate::turn::DELAY_MAX;

/// The rule for the delay before the next attempt.
#[derive(Debug, Clone, Copy)]
pub enum Backoff {
    /// Doubling from `base` up to `max`, the delay drawn evenly below that ("full jitter"; M. Brooker,
    /// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    Exponential {
        /// The ceiling of the first delay.
        base: Duration,
        /// The ceiling that doubling stops at.
        max: Duration,
    },
    /// Fixed steps, each lengthened by up to a tenth so that many receivers of one outage spread out.
    Steps(&'static [Duration]),
}

impl Backoff {
    /// The delay after attempt number `attempt` (1 is the first) failed.
    ///
    /// `chance` is a uniform draw from `0.0..1.0`; `at_least` is what the other side asked for
    /// (`Retry-After`), which is never undercut.
    #[must_use]
    pub fn next_retry(&self, attempt: i16, chance: f64, at_least: Option<Duration>) -> Duration {
        let step = attempt.max(1).unsigned_abs() - 1;
        let delay = match *self {
            Self::Exponential { base, max } => {
                let ceiling = base.saturating_mul(2_u32.saturating_pow(u32::from(step))).min(max);
                ceiling.mul_f64(chance)
            }
            Self::Steps(steps) => {
                let step = steps.get(usize::from(step)).or(steps.last()).copied().unwrap_or_default();
                step.mul_f64(1.0 + chance / 10.0)
            }
        };
        // A little above what was asked, so that all who were told one moment do not meet there.
        at_least.map_or(delay, |floor| delay.max(floor.min(DELAY_MAX).mul_f64(1.0 + chance / 10.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Backoff =
        Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn the_ceiling_doubles_and_stops_at_the_maximum() {
        let ceilings: Vec<u64> =
            (1..=8).map(|attempt| CURVE.next_retry(attempt, 1.0, None).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn chance_spreads_delays_over_the_whole_range() {
        assert_eq!(CURVE.next_retry(3, 0.0, None), Duration::ZERO);
        assert_eq!(CURVE.next_retry(3, 0.5, None), Duration::from_secs(2));
    }

    #[test]
    fn a_retry_after_is_never_undercut_and_never_shortens_the_delay() {
        let asked = Some(Duration::from_secs(10));
        for chance in [0.0, 0.3, 0.99] {
            for attempt in [1, 4, 9, i16::MAX] {
                let delay = CURVE.next_retry(attempt, chance, asked);
                assert!(delay >= Duration::from_secs(10));
                assert!(delay >= CURVE.next_retry(attempt, chance, None));
            }
        }
    }

    #[test]
    fn steps_are_lengthened_by_at_most_a_tenth_and_the_last_repeats() {
        const STEPS: &[Duration] = &[Duration::from_secs(10), Duration::from_secs(100)];
        let steps = Backoff::Steps(STEPS);
        assert_eq!(steps.next_retry(1, 0.0, None), Duration::from_secs(10));
        assert_eq!(steps.next_retry(2, 1.0, None), Duration::from_secs(110));
        assert_eq!(steps.next_retry(7, 0.0, None), Duration::from_secs(100));
    }

    #[test]
    fn absurd_attempt_numbers_do_not_overflow() {
        assert_eq!(CURVE.next_retry(i16::MAX, 1.0, None), Duration::from_secs(60));
        assert_eq!(CURVE.next_retry(-5, 1.0, None), Duration::from_secs(1));
    }
}
