//! What an attempt used of limits, for the settlement of its budgets when it is over.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::OnceCell;

/// What one attempt used.
#[derive(Debug, Default)]
pub struct Usage {
    drew: AtomicBool,
    spent: Mutex<Vec<(String, i64)>>,
    key: OnceCell<Option<String>>,
}

impl Usage {
    /// Whether it drew a permit, so that it may have spent.
    pub fn drew(&self) -> bool {
        self.drew.load(Ordering::Acquire)
    }

    /// What it said that it spent: (budget, minor units).
    pub fn spent(&self) -> Vec<(String, i64)> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The job's key, read once.
    pub(crate) async fn key<R>(&self, read: impl FnOnce() -> R) -> Result<Option<String>, queue::Error>
    where
        R: Future<Output = Result<Option<String>, queue::Error>>,
    {
        self.key.get_or_try_init(read).await.cloned()
    }

    pub(crate) fn note_draw(&self) {
        self.drew.store(true, Ordering::Release);
    }

    pub(crate) fn note_spending(&self, budget: &str, amount: i64) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match spent.iter_mut().find(|(name, _)| name == budget) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => spent.push((budget.to_owned(), amount)),
        }
    }
}
