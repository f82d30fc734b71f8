//! The list of all kinds: one line each, in alphabetical order.

use std::{future::Future, pin::Pin};

use queue::{INTERNAL_ERROR, Job, JobError, Outcome, Policy, open_args};
use serde_json::Value;

use crate::{
    Context, Handler,
    maintenance::PruneJobs,
    profiles::{Enrich, Fetch},
    webhooks::Deliver,
};

/// Every kind that this binary can run.
pub const ALL: &[Entry] = &[entry::<PruneJobs>(), entry::<Enrich>(), entry::<Fetch>(), entry::<Deliver>()];

/// A kind with its type erased: what a worker needs to run it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The kind's name.
    pub kind: &'static str,
    /// How it runs.
    pub policy: Policy,
    run: Run,
}

type Run = fn(Context, String) -> Attempt;
type Attempt = Pin<Box<dyn Future<Output = Result<Outcome, JobError>> + Send>>;

/// The registry's line for a kind.
#[must_use]
pub const fn entry<H: Handler>() -> Entry {
    Entry { kind: <H as Job>::KIND, policy: <H as Job>::POLICY, run: run::<H> }
}

impl Entry {
    /// Runs one attempt with the stored arguments, JSON text.
    pub fn run(&self, cx: Context, args: String) -> impl Future<Output = Result<Outcome, JobError>> + Send {
        (self.run)(cx, args)
    }
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

/// The line of a kind.
#[must_use]
pub fn find(kinds: &'static [Entry], kind: &str) -> Option<&'static Entry> {
    kinds.iter().find(|entry| entry.kind == kind)
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
