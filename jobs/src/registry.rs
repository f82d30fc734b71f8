//! The list of all kinds: one line each, in alphabetical order.

use std::{future::Future, pin::Pin};

use db::Pool;
use queue::{Estimator, INTERNAL_ERROR, Job, JobError, NewJob, Outcome, Policy, open_args};
use serde_json::Value;

use crate::{
    Context, Handler,
    email::SendEmail,
    maintenance::{PruneJobs, RollUpHistory},
    ops::Bulk,
    partners::FollowCalendar,
    people::SendReset,
    profiles::{Enrich, Fetch},
    webhooks::Deliver,
};

/// Every kind that this binary can run.
pub const ALL: &[Entry] = &[
    entry::<SendEmail>(),
    entry::<PruneJobs>(),
    entry::<RollUpHistory>(),
    entry::<Bulk>(),
    entry::<FollowCalendar>(),
    entry::<SendReset>(),
    entry::<Enrich>(),
    entry::<Fetch>(),
    entry::<Deliver>(),
];

/// A kind with its type erased: what a worker needs to run it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The kind's name.
    pub kind: &'static str,
    /// How it runs.
    pub policy: Policy,
    run: Run,
    make: Make,
}

/// Why there is no job of some kind with some arguments.
#[derive(Debug, thiserror::Error)]
pub enum NotAJob {
    /// This binary knows no such kind.
    #[error("no kind of job is called {kind:?}; there are: {known}")]
    UnknownKind {
        /// The name given.
        kind: String,
        /// The names there are.
        known: String,
    },
    /// The arguments are not those of the kind.
    #[error("these are not the arguments of a {kind} job")]
    Args {
        /// The kind.
        kind: &'static str,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// The kind's arguments hold what must be sealed, which only the code that enqueues it can do.
    #[error("arguments of {kind} are encrypted, so it cannot be made from text")]
    Sealed {
        /// The kind.
        kind: &'static str,
    },
    /// The job could not be made.
    #[error("the job could not be made")]
    Queue(#[from] queue::Error),
}

type Make = fn(Value) -> Result<NewJob, NotAJob>;
type Run = fn(Context, String) -> Attempt;
type Attempt = Pin<Box<dyn Future<Output = Result<Outcome, JobError>> + Send>>;

/// The registry's line for a kind.
#[must_use]
pub const fn entry<H: Handler>() -> Entry {
    Entry { kind: <H as Job>::KIND, policy: <H as Job>::POLICY, run: run::<H>, make: make::<H> }
}

impl Entry {
    /// Runs one attempt with the stored arguments, JSON text.
    pub fn run(&self, cx: Context, args: String) -> impl Future<Output = Result<Outcome, JobError>> + Send {
        (self.run)(cx, args)
    }

    /// A job of this kind with arguments that came as JSON, checked against the kind's type.
    ///
    /// # Errors
    /// [`NotAJob::Args`], [`NotAJob::Sealed`].
    pub fn new_job(&self, args: Value) -> Result<NewJob, NotAJob> {
        (self.make)(args)
    }
}

fn make<H: Handler>(args: Value) -> Result<NewJob, NotAJob> {
    let kind = <H as Job>::KIND;
    if !H::MARKED.encrypted.is_empty() {
        return Err(NotAJob::Sealed { kind });
    }
    let args: H = serde_json::from_value(args).map_err(|source| NotAJob::Args { kind, source })?;
    Ok(NewJob::of(&args)?)
}

fn run<H: Handler>(cx: Context, args: String) -> Attempt {
    let cx = cx.under(&<H as Job>::POLICY);
    Box::pin(async move { read::<H>(&cx, &args)?.run(cx).await })
}

fn read<H: Handler>(cx: &Context, args: &str) -> Result<H, JobError> {
    let is_private = !(H::MARKED.encrypted.is_empty() && H::MARKED.redacted.is_empty());
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        let unread = JobError::fatal(INTERNAL_ERROR, "the job's arguments cannot be read");
        // What serde says quotes the value that it did not expect.
        if is_private { unread } else { unread.caused_by(error) }
    };
    if H::MARKED.encrypted.is_empty() {
        return serde_json::from_str(args).map_err(|error| unreadable(&error));
    }
    let mut args: Value = serde_json::from_str(args).map_err(|error| unreadable(&error))?;
    open_args(&mut args, &H::MARKED, &cx.services().keyring, cx.tenant(), cx.job())
        .map_err(|error| unreadable(&error))?;
    serde_json::from_value(args).map_err(|error| unreadable(&error))
}

/// Estimates when jobs of these kinds end, and explains why they do not run.
#[must_use]
pub fn estimator(pool: Pool) -> Estimator {
    Estimator::new(pool, ALL.iter().map(|entry| (entry.kind, entry.policy)))
}

/// The line of a kind.
#[must_use]
pub fn find(kinds: &'static [Entry], kind: &str) -> Option<&'static Entry> {
    kinds.iter().find(|entry| entry.kind == kind)
}

/// A job of a kind that is given by name, with arguments that came as JSON.
///
/// # Errors
/// [`NotAJob`].
pub fn new_job(kinds: &'static [Entry], kind: &str, args: Value) -> Result<NewJob, NotAJob> {
    match find(kinds, kind) {
        Some(entry) => entry.new_job(args),
        None => {
            let known: Vec<&str> = kinds.iter().map(|entry| entry.kind).collect();
            Err(NotAJob::UnknownKind { kind: kind.to_owned(), known: known.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_once_and_in_order() {
        let kinds: Vec<_> = ALL.iter().map(|entry| entry.kind).collect();
        let mut sorted = kinds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(kinds, sorted);
    }

    #[test]
    fn every_policy_bounds_attempts_and_time() {
        for entry in ALL {
            assert!((1..=100).contains(&entry.policy.attempts_max), "{}", entry.kind);
            assert!((1..=3_600).contains(&entry.policy.timeout.as_secs()), "{}", entry.kind);
        }
    }
}
