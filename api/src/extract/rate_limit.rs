//! The requests that this process may let pass: leased from the database, spent here, so that most requests ask nobody.
//!
//! One lease at a time is asked for a partner; whoever comes meanwhile waits for it and is counted into it. A lease ends
//! with its minute by this process's own clock, measured from before the database was asked, so never later than the
//! minute itself. A partner whose minute is used up is refused without asking until the next one begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::ids::PartnerId;
use partners::rate_window::{RateLease, lease, lease_size};

use crate::error::ApiError;
use crate::middleware::context::RateStanding;

/// Above this many partners those whose minute is over are forgotten.
const ENTRIES_MAX: usize = 10_000;

/// What this process holds of all partners.
#[derive(Debug, Default)]
pub struct RateLeases {
    partners: Mutex<HashMap<PartnerId, Arc<Partner>>>,
}

#[derive(Debug, Default)]
struct Partner {
    /// Requests that want to pass and have not yet.
    waiting: AtomicU32,
    held: tokio::sync::Mutex<Option<Held>>,
}

/// What is held of a minute.
#[derive(Clone, Copy, Debug)]
struct Held {
    limit: u32,
    left: u32,
    spent: u32,
    remaining: u32,
    ends: Instant,
}

impl RateLeases {
    /// Draws one request: whether it may pass, and how the partner stands then.
    ///
    /// # Errors
    /// When the database had to be asked and did not answer.
    pub async fn draw(
        &self,
        pool: &db::Pool,
        partner: PartnerId,
        limit: u32,
    ) -> Result<(bool, RateStanding), ApiError> {
        let entry = self.entry(partner);
        entry.waiting.fetch_add(1, Ordering::Relaxed);
        // Also when this request is given up while it waits.
        let _waiting = Waiting(&entry.waiting);
        let mut held = entry.held.lock().await;
        let now = Instant::now();
        let known = held.filter(|held| held.ends > now && held.limit == limit);
        if let Some(mut known) = known {
            let decided = known.draw(now);
            *held = Some(known);
            if let Some(decided) = decided {
                return Ok(decided);
            }
        }
        let (spent, remaining) = known.map_or((0, limit), |known| (known.spent, known.remaining));
        let wanted = lease_size(entry.waiting.load(Ordering::Relaxed), spent, remaining);
        let mut conn = pool.acquire().await?;
        let asked_at = Instant::now();
        let leased = lease(&mut conn, partner.into(), limit, wanted).await?;
        let mut taken = Held::of(&leased, spent, asked_at);
        let decided = taken.draw(asked_at);
        *held = Some(taken);
        Ok(decided.unwrap_or((false, taken.standing(asked_at))))
    }

    fn entry(&self, partner: PartnerId) -> Arc<Partner> {
        let mut partners = self.partners.lock().unwrap_or_else(PoisonError::into_inner);
        if partners.len() >= ENTRIES_MAX && !partners.contains_key(&partner) {
            let now = Instant::now();
            partners.retain(|_, entry| match entry.held.try_lock() {
                Ok(held) => held.is_some_and(|held| held.ends > now),
                Err(_) => true,
            });
        }
        Arc::clone(partners.entry(partner).or_default())
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Held {
    fn of(leased: &RateLease, spent: u32, asked_at: Instant) -> Self {
        Self {
            limit: leased.limit,
            left: leased.granted,
            spent,
            remaining: leased.remaining,
            ends: asked_at + leased.resets_in,
        }
    }

    /// Spends one; none when another lease is to be asked for.
    fn draw(&mut self, now: Instant) -> Option<(bool, RateStanding)> {
        if self.left > 0 {
            (self.left, self.spent) = (self.left - 1, self.spent.saturating_add(1));
            return Some((true, self.standing(now)));
        }
        (self.remaining == 0).then(|| (false, self.standing(now)))
    }

    fn standing(&self, now: Instant) -> RateStanding {
        RateStanding {
            limit: self.limit,
            remaining: self.left.saturating_add(self.remaining),
            resets_in: self.ends.checked_duration_since(now).unwrap_or(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_spent_and_then_more_is_asked_for_until_nothing_is_left() {
        let now = Instant::now();
        let lease = |granted, remaining| RateLease {
            granted,
            limit: 100,
            remaining,
            resets_in: Duration::from_secs(20),
        };
        let mut held = Held::of(&lease(2, 30), 0, now);
        let (allowed, standing) = held.draw(now).unwrap();
        assert_eq!((allowed, standing.remaining, standing.resets_in), (true, 31, Duration::from_secs(20)));
        assert_eq!(held.draw(now).unwrap().1.remaining, 30);
        assert!(held.draw(now).is_none(), "another lease is to be asked for");
        let mut used_up = Held::of(&lease(0, 0), 2, now);
        let (allowed, standing) = used_up.draw(now + Duration::from_secs(5)).unwrap();
        assert_eq!((allowed, standing.remaining, standing.resets_in), (false, 0, Duration::from_secs(15)));
    }
}
