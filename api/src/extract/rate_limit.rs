//! Partners whose window is used up, so that a client hammering on is refused without asking the database.
//!
//! Entries end with their window, so none outlives a minute; a clock that differs from the database's by less than
//! a request's round trip makes the refusal that much too long or too short, never the allowance larger.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kernel::ids::PartnerId;

use crate::middleware::context::RateStanding;

const ENTRIES_MAX: usize = 10_000;

/// Windows known to be used up.
#[derive(Debug, Default)]
pub struct UsedUp {
    windows: Mutex<HashMap<PartnerId, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    limit: u32,
    ends: Instant,
}

impl UsedUp {
    /// The partner's standing if its window is known to be used up. A limit raised meanwhile counts at once.
    pub fn standing(&self, partner: PartnerId, limit: u32, now: Instant) -> Option<RateStanding> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.get(&partner).filter(|window| window.limit == limit)?;
        let resets_in = window.ends.checked_duration_since(now)?;
        Some(RateStanding { limit, remaining: 0, resets_in })
    }

    /// Notes that a draw was refused.
    pub fn note(&self, partner: PartnerId, refused: &RateStanding, now: Instant) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= ENTRIES_MAX {
            windows.retain(|_, window| window.ends > now);
        }
        windows.insert(partner, Window { limit: refused.limit, ends: now + refused.resets_in });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_used_up_window_is_refused_until_it_ends_or_the_limit_changes() {
        let used_up = UsedUp::default();
        let (now, partner) = (Instant::now(), PartnerId::new());
        assert_eq!(used_up.standing(partner, 100, now), None);
        let refused = RateStanding { limit: 100, remaining: 0, resets_in: Duration::from_secs(20) };
        used_up.note(partner, &refused, now);
        let standing = used_up.standing(partner, 100, now + Duration::from_secs(5)).unwrap();
        assert_eq!(standing.resets_in, Duration::from_secs(15));
        assert_eq!(used_up.standing(partner, 200, now), None);
        assert_eq!(used_up.standing(partner, 100, now + Duration::from_secs(21)), None);
        assert_eq!(used_up.standing(PartnerId::new(), 100, now), None);
    }
}
