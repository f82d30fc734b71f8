//! Credentials that were found right a moment ago, so that a burst of requests asks the database once.
//!
//! An entry counts as verified for the configured time (at most a few seconds: revocation must hold everywhere within
//! five); after that it only says that these credentials were once right, which spares their owner the limit on
//! guesses. Wrong credentials are never kept. What is kept is a hash, not the key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// Above this many entries those no longer verified are forgotten, and then all: a cache may forget.
const ENTRIES_MAX: usize = 10_000;

/// What is remembered of one pair of credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remembered<A> {
    /// Verified just now: the account they open.
    Verified(A),
    /// Right once, to be verified again.
    Known,
    /// Never seen, or forgotten.
    Unknown,
}

/// The cache; `A` is what a pair of credentials opens.
#[derive(Debug)]
pub struct CredentialCache<A> {
    fresh_for: Duration,
    entries: Mutex<HashMap<CredentialHash, Entry<A>>>,
}

/// One pair of credentials, hashed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CredentialHash([u8; 32]);

impl CredentialHash {
    /// The hash of a partner's code and key.
    pub fn of(code: &str, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((code.len() as u64).to_be_bytes());
        hash.update(code);
        hash.update(key);
        Self(hash.finalize().into())
    }
}

#[derive(Debug)]
struct Entry<A> {
    account: A,
    verified_at: Instant,
}

impl<A: Clone> CredentialCache<A> {
    /// A cache whose entries count as verified for `fresh_for`.
    pub fn new(fresh_for: Duration) -> Self {
        Self { fresh_for, entries: Mutex::new(HashMap::new()) }
    }

    /// What is known of these credentials.
    pub fn recall(&self, credentials: CredentialHash, now: Instant) -> Remembered<A> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&credentials) {
            None => Remembered::Unknown,
            Some(entry) if self.is_fresh(entry, now) => Remembered::Verified(entry.account.clone()),
            Some(_) => Remembered::Known,
        }
    }

    /// Keeps that they were right. `asked_at` is from before the database was asked: an answer may be older than it
    /// looks.
    pub fn remember(&self, credentials: CredentialHash, account: A, asked_at: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| self.is_fresh(entry, asked_at));
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        entries.insert(credentials, Entry { account, verified_at: asked_at });
    }

    /// Forgets credentials that are wrong now.
    pub fn forget(&self, credentials: CredentialHash) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&credentials);
    }

    fn is_fresh(&self, entry: &Entry<A>, now: Instant) -> bool {
        now.saturating_duration_since(entry.verified_at) < self.fresh_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(2);

    #[test]
    fn verified_credentials_are_verified_for_a_while_and_known_after() {
        let cache = CredentialCache::new(FRESH);
        let (start, credentials) = (Instant::now(), CredentialHash::of("techcombank", "key"));
        assert_eq!(cache.recall(credentials, start), Remembered::Unknown);
        cache.remember(credentials, 7, start);
        assert_eq!(cache.recall(credentials, start), Remembered::Verified(7));
        assert_eq!(cache.recall(credentials, start + FRESH), Remembered::Known);
        cache.forget(credentials);
        assert_eq!(cache.recall(credentials, start), Remembered::Unknown);
    }

    #[test]
    fn a_time_of_zero_asks_every_time() {
        let cache = CredentialCache::new(Duration::ZERO);
        let (start, credentials) = (Instant::now(), CredentialHash::of("a", "b"));
        cache.remember(credentials, (), start);
        assert_eq!(cache.recall(credentials, start), Remembered::Known);
    }

    #[test]
    fn moving_a_character_between_code_and_key_makes_other_credentials() {
        assert_ne!(CredentialHash::of("ab", "c"), CredentialHash::of("a", "bc"));
    }
}
