//! What became of an attempt, and the rule from there to what is written.

use std::time::Duration;

use jobs::Entry;
use kernel::trace::TraceParent;
use queue::{
    Acknowledgement, Backoff, CANCELLED, Claimed, DEADLINE_EXCEEDED, End, INTERNAL_ERROR, JobError, LeaseKey,
    Outcome, RowId, Settlement, TIMEOUT,
};
use rand::RngExt;
use telemetry::span::Span;
use uuid::Uuid;

use crate::{attempt_span, running::Stop};

/// What a pump is told about a job that left its handler.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) lease: LeaseKey,
    pub(crate) about: About,
    pub(crate) verdict: Verdict,
    /// How long the handler ran, if it came to its end.
    pub(crate) ran: Option<Duration>,
}

/// What is known of a job beside its lease.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) kind: String,
    pub(crate) attempt: i16,
    pub(crate) attempts_max: i16,
    pub(crate) process: Uuid,
    pub(crate) row: Option<RowId>,
    pub(crate) request_id: Option<String>,
    pub(crate) trace: TraceParent,
    /// The attempt's span, for the collector.
    pub(crate) span: Span,
}

impl About {
    pub(crate) fn of(job: &Claimed) -> Self {
        let trace = job.trace();
        Self {
            kind: job.kind.clone(),
            attempt: job.attempt,
            attempts_max: job.attempts_max,
            process: job.process,
            row: job.row,
            request_id: job.request_id.clone(),
            trace,
            span: attempt_span::begin(job, trace),
        }
    }
}

/// What became of an attempt, before it is written.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The handler's answer.
    Answered(Result<Outcome, JobError>),
    /// The handler panicked.
    Crashed(String),
    /// The process ends; the job is to be given back.
    GivenBack,
    /// The lease is gone: nothing may be written.
    Abandoned,
    /// No handler here knows the kind.
    UnknownKind,
}

impl Verdict {
    /// What a handler that was stopped has come to.
    pub(crate) fn of_stop(why: Stop) -> Self {
        match why {
            Stop::Cancelled => Self::cancelled(),
            Stop::TimedOut(limit) => Self::Answered(Err(JobError::retryable(
                TIMEOUT,
                format!("the attempt took longer than {} s", seconds(limit)),
            ))),
            Stop::Late => Self::late(),
            Stop::LeaseLost => Self::Abandoned,
            Stop::Shutdown => Self::GivenBack,
        }
    }

    pub(crate) fn cancelled() -> Self {
        Self::Answered(Ok(Outcome::Cancel(JobError::fatal(CANCELLED, "cancelled while it ran"))))
    }

    /// The job's deadline has passed.
    pub(crate) fn late() -> Self {
        Self::Answered(Err(JobError::fatal(DEADLINE_EXCEEDED, "not done by its deadline")))
    }

    /// One word, for metrics. What failed is dead, unless it turns out that it is retried.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Answered(Ok(Outcome::Done(_))) => "done",
            Self::Answered(Ok(Outcome::Settled(_))) => "settled",
            Self::Answered(Ok(Outcome::Snooze(_))) => "snoozed",
            Self::Answered(Ok(Outcome::Cancel(_))) => "cancelled",
            Self::Answered(Err(_)) | Self::Crashed(_) => "dead",
            Self::GivenBack => "given_back",
            Self::UnknownKind => "parked",
            Self::Abandoned => "abandoned",
        }
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds.fract() == 0.0 { format!("{seconds:.0}") } else { format!("{seconds:.1}") }
}

impl Report {
    /// What is to be written about it, `None` when there is nothing to write; and the word for it in metrics.
    pub(crate) fn acknowledgement(self, entry: Option<&Entry>) -> (Option<Acknowledgement>, &'static str) {
        let word = self.verdict.word();
        let acknowledgement = self.written(entry);
        let settlement = acknowledgement.as_ref().map(|one| &one.settlement);
        let is_retried = matches!(settlement, Some(Settlement::Retry(..)));
        (acknowledgement, if is_retried { "retried" } else { word })
    }

    fn written(self, entry: Option<&Entry>) -> Option<Acknowledgement> {
        let lease = self.lease;
        let settlement = match self.verdict {
            Verdict::Answered(Ok(Outcome::Done(result))) => Settlement::End(End::Completed(result), None),
            Verdict::Answered(Ok(Outcome::Settled(_))) | Verdict::Abandoned => return None,
            Verdict::Answered(Ok(Outcome::Snooze(delay))) => Settlement::Again(delay),
            Verdict::Answered(Ok(Outcome::Cancel(why))) => {
                Settlement::End(End::Cancelled(why.failure()), None)
            }
            Verdict::Answered(Err(error)) => failed(lease, &self.about, &error, entry),
            Verdict::Crashed(message) => {
                let about = &self.about;
                tracing::error!(
                    job.id = %lease.job,
                    job.kind = about.kind,
                    job.attempt = about.attempt,
                    request.id = about.request_id,
                    trace.id = about.trace.trace_id(),
                    trace.span = about.trace.span_id(),
                    message,
                    "a handler panicked"
                );
                let error = JobError::retryable(INTERNAL_ERROR, "the job's handler crashed");
                failed(lease, &self.about, &error, entry)
            }
            Verdict::GivenBack => Settlement::Again(Duration::ZERO),
            Verdict::UnknownKind => Settlement::Park,
        };
        Some(Acknowledgement { lease, row: self.about.row, settlement })
    }
}

fn failed(lease: LeaseKey, about: &About, error: &JobError, entry: Option<&Entry>) -> Settlement {
    debug_assert_ne!(error.code(), CANCELLED, "cancelling is an outcome, not a failure");
    let backoff = entry.map_or(
        Backoff::Exponential { base: Duration::from_secs(1), max: Duration::from_secs(60) },
        |entry| entry.policy.backoff,
    );
    tracing::info!(
        job.id = %lease.job,
        job.kind = about.kind,
        job.attempt = about.attempt,
        request.id = about.request_id,
        trace.id = about.trace.trace_id(),
        trace.span = about.trace.span_id(),
        error.code = error.code(),
        error.message = error.message(),
        "attempt failed"
    );
    let chance = rand::rng().random();
    Settlement::of_error(error, about.attempt, about.attempts_max, &backoff, about.process, chance)
}
