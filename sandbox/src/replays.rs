//! The meter's memory of idempotency keys: what was asked and when it was crawled. That is enough to answer again,
//! because the values follow from the name and the instant. The last 10,000 keys are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};

const KEYS_MAX: usize = 10_000;
const KEPT_HOURS: i64 = 24;

/// The keys of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<Keys>);

#[derive(Debug, Default)]
struct Keys {
    crawls: HashMap<String, Crawl>,
    oldest_first: VecDeque<String>,
}

/// A crawl that a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crawl {
    asked: String,
    /// When the values were read.
    pub(crate) at: DateTime<Utc>,
    /// Whether it happened for an earlier call.
    pub(crate) replayed: bool,
}

/// The key was used for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyReused;

impl Replays {
    /// The crawl that this key stands for: an earlier one, or one that happens now.
    pub(crate) fn crawl(&self, key: &str, asked: &str, now: DateTime<Utc>) -> Result<Crawl, KeyReused> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) =
            keys.crawls.get(key).filter(|crawl| now - crawl.at < Duration::hours(KEPT_HOURS))
        {
            return match earlier.asked == asked {
                true => Ok(Crawl { replayed: true, ..earlier.clone() }),
                false => Err(KeyReused),
            };
        }
        let crawl = Crawl { asked: asked.to_owned(), at: now, replayed: false };
        if keys.crawls.insert(key.to_owned(), crawl.clone()).is_none() {
            keys.oldest_first.push_back(key.to_owned());
        }
        if keys.oldest_first.len() > KEYS_MAX
            && let Some(oldest) = keys.oldest_first.pop_front()
        {
            keys.crawls.remove(&oldest);
        }
        Ok(crawl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_crawl_for_a_day() {
        let replays = Replays::default();
        let now = kernel::clock::now();
        let first = replays.crawl("k", "amy", now).unwrap();
        assert!(!first.replayed);
        let again = replays.crawl("k", "amy", now + Duration::hours(23)).unwrap();
        assert_eq!((again.at, again.replayed), (first.at, true));
        assert_eq!(replays.crawl("k", "bob", now), Err(KeyReused));
        assert!(!replays.crawl("k", "bob", now + Duration::hours(25)).unwrap().replayed);
    }

    #[test]
    fn the_memory_of_keys_is_bounded() {
        let replays = Replays::default();
        let now = kernel::clock::now();
        for n in 0..KEYS_MAX + 50 {
            replays.crawl(&n.to_string(), "amy", now).unwrap();
        }
        let keys = replays.0.lock().unwrap();
        assert_eq!((keys.crawls.len(), keys.oldest_first.len()), (KEYS_MAX, KEYS_MAX));
    }
}
