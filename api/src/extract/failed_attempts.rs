//! How often an address has presented wrong credentials of late (G-64).
//!
//! Only credentials that this process has not verified before are held up, so that somebody guessing behind the
//! same proxy does not lock out partners at work. A set of counters a process, bounded; losing them on restart costs
//! one more minute of guesses at 256-bit keys.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong credentials an address may present in a window.
pub const FAILED_ATTEMPTS_MAX: u32 = 300;
const WINDOW: Duration = Duration::from_secs(60);
/// Above this many addresses, those whose window is over are forgotten, and then all.
const ADDRESSES_MAX: usize = 10_000;

/// Counters by address.
#[derive(Debug, Default)]
pub struct FailedAttempts {
    windows: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    failures: u32,
}

impl FailedAttempts {
    /// If the address has used up its failures: how long until it may try again.
    pub fn refused_for(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.get(&network(address))?;
        let left = (window.began + WINDOW).checked_duration_since(now)?;
        (window.failures >= FAILED_ATTEMPTS_MAX).then_some(left)
    }

    /// Counts a failure.
    pub fn note(&self, address: IpAddr, now: Instant) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |window: &Window| now.saturating_duration_since(window.began) >= WINDOW;
        if windows.len() >= ADDRESSES_MAX {
            windows.retain(|_, window| !over(window));
            if windows.len() >= ADDRESSES_MAX {
                windows.clear();
            }
        }
        let fresh = Window { began: now, failures: 0 };
        let window = windows.entry(network(address)).or_insert(fresh);
        if over(window) {
            *window = fresh;
        }
        window.failures = window.failures.saturating_add(1);
    }
}

/// Whoever has one IPv6 address commonly has all 2^64 of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_refused_after_its_failures_until_the_window_ends() {
        let attempts = FailedAttempts::default();
        let (start, guesser) = (Instant::now(), address("203.0.113.7"));
        for _ in 0..FAILED_ATTEMPTS_MAX {
            assert_eq!(attempts.refused_for(guesser, start), None);
            attempts.note(guesser, start);
        }
        assert_eq!(attempts.refused_for(guesser, start), Some(WINDOW));
        assert_eq!(attempts.refused_for(address("203.0.113.8"), start), None);
        let later = start + WINDOW;
        attempts.note(guesser, later);
        assert_eq!(attempts.refused_for(guesser, later), None);
    }

    #[test]
    fn neighbours_in_an_ipv6_network_count_as_one() {
        assert_eq!(network(address("2001:db8::1")), network(address("2001:db8::ffff:0:0:1")));
        assert_ne!(network(address("2001:db8:0:1::1")), network(address("2001:db8:0:2::1")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn memory_stays_bounded_however_many_addresses_guess() {
        let attempts = FailedAttempts::default();
        let now = Instant::now();
        for number in 0..(ADDRESSES_MAX as u32 * 2) {
            attempts.note(IpAddr::V4(number.into()), now);
        }
        assert!(attempts.windows.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
