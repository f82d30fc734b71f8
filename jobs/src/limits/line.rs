//! The jobs of a process that want the same permits stand in a line: one at a time asks the database.

use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use queue::limits::{Permit, Shape};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) turn: Mutex<Turn>,
    /// The slowest rate among its limits.
    pub(super) rate: Option<Rate>,
    smoother: Option<DefaultDirectRateLimiter>,
}

/// Permits in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    max: i64,
    window: Duration,
}

/// What the one whose turn it is knows from those before it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    blocked: Option<Blocked>,
    /// The last draw took the last slot.
    no_slot: bool,
}

#[derive(Debug)]
struct Blocked {
    limit: String,
    until: Instant,
    /// After this the database is asked again: an operator may have made room.
    believed_until: Instant,
}

/// Smoothing is a kindness to the other side, never a limit of its own: nobody waits longer for it.
const SMOOTHED_FOR_MAX: Duration = Duration::from_millis(100);
/// Permits that may follow each other at once.
const BURST_MAX: i64 = 20;
const BELIEVED_FOR: Duration = Duration::from_secs(1);

impl Line {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { turn: Mutex::default(), rate, smoother: rate.and_then(smoother) }
    }

    /// Spreads calls over the window, at twice the average rate so that the window is used up in any case.
    pub(super) async fn smooth(&self, until: Instant) {
        if let Some(smoother) = &self.smoother {
            let until = until.min(Instant::now() + SMOOTHED_FOR_MAX);
            // Whoever waited long enough goes unsmoothed.
            let _ = timeout_at(until, smoother.until_ready()).await;
        }
    }
}

impl Turn {
    /// The limit that was found to have no room for long, and for how much longer.
    pub(super) fn blocked(&self) -> Option<(String, Duration)> {
        let now = Instant::now();
        let blocked = self.blocked.as_ref().filter(|one| one.until > now && one.believed_until > now)?;
        Some((blocked.limit.clone(), blocked.until - now))
    }

    /// Whether there is a slot is known by whoever draws.
    pub(super) fn note_slots(&mut self, permit: &Permit) {
        self.no_slot = permit.has_last_slot();
    }

    /// Whether the last draw took the last slot; told once.
    pub(super) fn take_no_slot(&mut self) -> bool {
        std::mem::take(&mut self.no_slot)
    }

    pub(super) fn block(&mut self, limit: &str, wait: Duration) {
        let now = Instant::now();
        self.blocked =
            Some(Blocked { limit: limit.to_owned(), until: now + wait, believed_until: now + BELIEVED_FOR });
    }
}

/// The slowest of these rates.
pub(super) fn slowest(shapes: impl Iterator<Item = Shape>) -> Option<Rate> {
    let rates = shapes.filter_map(|shape| match shape {
        Shape::Rate { max, window } => Some(Rate { max, window }),
        Shape::Concurrency { .. } | Shape::Budget { .. } => None,
    });
    rates.min_by(|one, other| {
        let per_second = |rate: &Rate| rate.max as f64 / rate.window.as_secs_f64();
        per_second(one).total_cmp(&per_second(other))
    })
}

fn smoother(rate: Rate) -> Option<DefaultDirectRateLimiter> {
    let between = rate.window.checked_div(u32::try_from(rate.max.checked_mul(2)?).ok()?)?;
    let burst = u32::try_from((rate.max / 10).clamp(1, BURST_MAX)).ok()?;
    Some(RateLimiter::direct(Quota::with_period(between)?.allow_burst(NonZeroU32::new(burst)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(max: i64, seconds: u64) -> Shape {
        Shape::Rate { max, window: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_slowest_rate_is_the_one_with_the_fewest_permits_in_a_second() {
        let shapes = [Shape::Concurrency { max: 1 }, rate(60, 1), rate(300, 900), rate(10_000, 60)];
        let expected = Rate { max: 300, window: Duration::from_secs(900) };
        assert_eq!(slowest(shapes.into_iter()), Some(expected));
        assert_eq!(slowest([Shape::Concurrency { max: 1 }].into_iter()), None);
    }

    #[tokio::test]
    async fn smoothing_never_holds_anybody_up_for_long() {
        let line = Line::new(slowest([rate(1, 3_600)].into_iter()));
        let began = Instant::now();
        for _ in 0..3 {
            line.smooth(began + Duration::from_secs(10)).await;
        }
        assert!(began.elapsed() < SMOOTHED_FOR_MAX * 4, "{:?}", began.elapsed());
    }

    #[test]
    fn limits_without_permits_and_limits_out_of_reach_are_not_smoothed() {
        for shape in [rate(0, 1), rate(i64::MAX, 1), rate(i64::from(u32::MAX), 1)] {
            assert!(slowest([shape].into_iter()).and_then(smoother).is_none(), "{shape:?}");
        }
    }
}
