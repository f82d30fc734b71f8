//! When a delivery is tried again, and what an answer means: rules from values to values. The queue's backoff
//! applies the delays.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The waits between attempts, before jitter: about 75.5 hours in all.
pub const RETRY_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// The first attempt and one after each wait.
pub const ATTEMPTS_MAX: u16 = RETRY_DELAYS.len() as u16 + 1;

/// The longest wait that a receiver's `Retry-After` can ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * HOUR);

/// What an answer's status means for its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Delivered,
    /// The receiver wants no more of it: no further attempt.
    Gone,
    /// Not accepted now: try again by the schedule.
    Retry,
}

/// 2xx is delivered, 410 ends it, all else (redirects too) is tried again.
pub fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Gone,
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_delivers_and_only_410_ends() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(verdict(status), Verdict::Delivered, "{status}");
        }
        assert_eq!(verdict(410), Verdict::Gone);
        for status in [0, 100, 199, 300, 301, 302, 307, 400, 401, 404, 409, 411, 429, 500, 503, 599] {
            assert_eq!(verdict(status), Verdict::Retry, "{status}");
        }
    }

    #[test]
    fn there_is_a_wait_before_every_attempt_but_the_first() {
        assert_eq!(usize::from(ATTEMPTS_MAX), RETRY_DELAYS.len() + 1);
        assert!(RETRY_DELAYS.is_sorted());
    }
}
