//! How an attempt ends: the typed answer of a handler.

use std::{borrow::Cow, error::Error as StdError, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a handler's attempt came to when it did not fail.
#[derive(Debug)]
pub enum Outcome {
    /// The job is done; the value is its result.
    Done(Option<Value>),
    /// Not now: run again after the delay, without using up an attempt.
    Snooze(Duration),
    /// The job is no longer wanted; it ends as cancelled.
    Cancel(JobError),
    /// The handler's own transaction already ended or parked the job.
    Settled(Settled),
}

/// Proof that a [`JobTx`](crate::JobTx) committed the job's new state together with its business rows.
#[derive(Debug)]
pub struct Settled(pub(crate) ());

/// Why an attempt failed, in words for the job's owner and a code for programs.
#[derive(Debug, Clone)]
pub struct JobError {
    code: Cow<'static, str>,
    message: String,
    chain: Vec<String>,
    fatal: bool,
    retry_after: Option<Duration>,
}

impl JobError {
    /// Worth another attempt, as long as the policy allows one.
    pub fn retryable(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            chain: Vec::new(),
            fatal: false,
            retry_after: None,
        }
    }

    /// No attempt will ever succeed; the job fails now.
    pub fn fatal(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::retryable(code, message) }
    }

    /// Keeps the chain of causes for the attempt's history (never shown to partners).
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn StdError + 'static)) -> Self {
        let mut cause = Some(error);
        self.chain.clear();
        while let Some(error) = cause.filter(|_| self.chain.len() < CHAIN_LENGTH_MAX) {
            self.chain.push(clipped(&error.to_string()));
            cause = error.source();
        }
        self
    }

    /// The next attempt comes no earlier than this.
    #[must_use]
    pub fn after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// For programs, e.g. `NOT_FOUND`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// For people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the job fails without another attempt.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// What the other side asked us to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The final error as it is stored and shown.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure { code: self.code.to_string(), message: clipped(&self.message) }
    }

    pub(crate) fn chain(&self) -> &[String] {
        &self.chain
    }
}

/// A fault of ours: retried, and shown without its inner words.
impl From<sqlx::Error> for JobError {
    fn from(error: sqlx::Error) -> Self {
        Self::retryable(INTERNAL_ERROR, "the database could not be reached").caused_by(&error)
    }
}

impl From<crate::Error> for JobError {
    fn from(error: crate::Error) -> Self {
        Self::retryable(INTERNAL_ERROR, "the job store could not be reached").caused_by(&error)
    }
}

/// The code of faults on our side.
pub const INTERNAL_ERROR: &str = "INTERNAL_ERROR";
/// The code of jobs that somebody called off.
pub const CANCELLED: &str = "CANCELLED";
/// The code of jobs whose workers died again and again.
pub const WORKER_LOST: &str = "WORKER_LOST";
/// The code of jobs that were not done by their deadline.
pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
/// The code of attempts that outlived their policy's timeout.
pub const TIMEOUT: &str = "TIMEOUT";

/// Why a job failed or was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

const CHAIN_LENGTH_MAX: usize = 8;
const TEXT_BYTES_MAX: usize = 1_000;

/// Error texts come from anywhere: they are cut to [`TEXT_BYTES_MAX`] and stripped of what JSON cannot store.
fn clipped(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for character in text.chars().filter(|character| *character != '\0') {
        if kept.len() + character.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_messages_are_cut_and_nul_is_dropped() {
        let failure = JobError::fatal("X", "é\0".repeat(5_000)).failure();
        assert!(failure.message.len() <= TEXT_BYTES_MAX);
        assert!(!failure.message.contains('\0'));
    }

    #[test]
    fn the_chain_of_causes_is_kept_from_the_outside_in() {
        let inner = sqlx::Error::Io(std::io::Error::other("socket gone"));
        let error = JobError::from(crate::Error::Database(inner));
        assert_eq!(error.chain().len(), 3, "{:?}", error.chain());
        assert!(error.chain().last().is_some_and(|cause| cause.contains("socket gone")));
        assert_eq!(error.code(), INTERNAL_ERROR);
    }
}
