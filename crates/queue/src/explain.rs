//! Why a job is not running: everything that holds it back, what must clear last first, and when each clears.
//!
//! All blockers must clear before a job runs, so the true one is the one that clears last: first what only a person can
//! clear, then what clears at a known time, the latest first, then what clears when other jobs end, and at last the
//! crowd in front of it. A job that waits for another is held by what holds that one, so that one is explained with it.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use kernel::ids::{JobId, TenantId};
use uuid::Uuid;

use crate::{
    Error,
    eta::{Estimator, Eta},
    standing::{
        Ahead, Awaited, LimitLevel, LimitShape, Link, Standing, State, Surroundings, chain, surroundings,
    },
};

/// Why a live job is not running.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// When the facts were read, by the database's clock.
    pub seen_at: DateTime<Utc>,
    /// Whose job.
    pub tenant: TenantId,
    /// Which.
    pub job: JobId,
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// `ready`, `scheduled`, `running`, `waiting` or `parked`.
    pub state: &'static str,
    /// What holds it back, the true one first. Empty for one that runs, and for one that is about to.
    pub blockers: Vec<Blocker>,
    /// When it ends; `None` while only a person can let it go on.
    pub eta: Option<Eta>,
    /// The job that it waits for.
    pub awaited: Option<Box<Explanation>>,
}

/// One thing that holds a job back.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocker {
    /// What.
    pub because: Because,
    /// When it clears; `None`: when somebody acts, or nobody can tell.
    pub clears_at: Option<DateTime<Utc>>,
    /// That instant is an estimate.
    pub is_estimated: bool,
}

/// What holds a job back. `Display` says it in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are what their sentences say")]
pub enum Because {
    /// A worker met it that did not know its kind.
    Parked { kind: String },
    /// Nobody works its queue, or knows its kind.
    NoWorker { queue: String, kind: String, serving: i64 },
    /// Its queue or kind is paused.
    Paused { queue: String, kind: Option<String>, by: String, since: DateTime<Utc> },
    /// A rate or a number of calls at once has no room.
    Limit { name: String, used: i64, max: i64, is_blocked: bool },
    /// The money of a period is spent or promised.
    Budget { name: String, used_minor: i64, max_minor: i64 },
    /// So many of its tenant's or its key's jobs run already.
    Concurrency { key: Option<String>, running: i64, max: i64 },
    /// Another job does the same work, and its end will be this one's.
    Unique { job: JobId },
    /// It runs after another job.
    Waiting { job: JobId },
    /// It runs after the jobs of a batch.
    Batch { batch: Uuid, ended: i64, total: i64 },
    /// Its time has not come.
    Delayed { why: Delay },
    /// Slots are taken, and others come before it by their share.
    Share { own_ahead: i64, others_ready: i64, running: i64, slots: i64, is_estimated: bool },
}

/// Why a job's time has not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delay {
    /// It was stored to run later.
    Scheduled,
    /// Its last attempt failed with this code, and it is tried again.
    Retry {
        /// The attempt's number.
        attempt: i16,
        /// The error's code.
        code: String,
    },
    /// It was set aside by its own handler.
    SetAside,
}

impl Because {
    /// The word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Parked { .. } => "parked",
            Self::NoWorker { .. } => "no_worker",
            Self::Paused { .. } => "paused",
            Self::Limit { .. } => "limit",
            Self::Budget { .. } => "budget",
            Self::Concurrency { .. } => "concurrency",
            Self::Unique { .. } => "unique",
            Self::Waiting { .. } => "waiting",
            Self::Batch { .. } => "batch",
            Self::Delayed { .. } => "delayed",
            Self::Share { .. } => "share",
        }
    }

    /// Nothing but a person's act clears it.
    fn needs_a_person(&self) -> bool {
        match self {
            Self::Parked { .. } | Self::NoWorker { .. } | Self::Paused { .. } => true,
            Self::Limit { max, .. } | Self::Budget { max_minor: max, .. } => *max == 0,
            _ => false,
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parked { kind } => write!(
                f,
                "parked: the worker that claimed it does not know the kind {kind}; start a version that does"
            ),
            Self::NoWorker { queue, serving: 0, .. } => {
                write!(f, "no worker serves the queue {queue}; start one")
            }
            Self::NoWorker { kind, serving, .. } => {
                write!(
                    f,
                    "none of the {serving} workers of its queue knows the kind {kind}; start a version that does"
                )
            }
            Self::Paused { queue, kind: None, by, .. } => write!(f, "the queue {queue} was paused by {by}"),
            Self::Paused { kind: Some(kind), by, .. } => write!(f, "the kind {kind} was paused by {by}"),
            Self::Limit { name, is_blocked: true, .. } => {
                write!(f, "the other side of the limit {name} said stop")
            }
            Self::Limit { name, used, max, .. } => write!(f, "the limit {name} is used up: {used} of {max}"),
            Self::Budget { name, used_minor, max_minor } => {
                write!(
                    f,
                    "the budget {name} has no room: {used_minor} of {max_minor} minor units are spent or promised"
                )
            }
            Self::Concurrency { key: None, running, max } => {
                write!(f, "its tenant runs {running} jobs, of {max} that it may run at once")
            }
            Self::Concurrency { key: Some(key), running, max } => {
                write!(f, "{running} jobs of its kind run for {key:?}, of {max} that may at once")
            }
            Self::Unique { job } => {
                write!(f, "{job} does the same work for several; its end will be this one's too")
            }
            Self::Waiting { job } => write!(f, "it runs after {job}"),
            Self::Batch { ended, total, .. } => {
                write!(f, "it runs after its batch, of which {ended} of {total} jobs have ended")
            }
            Self::Delayed { why: Delay::Scheduled } => write!(f, "its time has not come"),
            Self::Delayed { why: Delay::Retry { attempt, code } } => {
                write!(f, "attempt {attempt} failed with {code}; it is tried again")
            }
            Self::Delayed { why: Delay::SetAside } => {
                write!(f, "it was set aside until what it needs may be there")
            }
            Self::Share { own_ahead, others_ready, running, slots, is_estimated } => {
                let about = if *is_estimated { "about " } else { "" };
                write!(
                    f,
                    "{running} of {slots} slots are taken; {about}{own_ahead} of its tenant's jobs come before it, and \
                     those of others by their share ({others_ready} are ready)"
                )
            }
        }
    }
}

/// What clears this much earlier or later clears at the same time.
const SAME_TIME: TimeDelta = TimeDelta::seconds(2);

impl Estimator {
    /// Why a job of a tenant is not running, and when it ends; `None` when it is not live.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn explain(&self, tenant: TenantId, job: JobId) -> Result<Option<Explanation>, Error> {
        // From the job itself to what it waits for at last, and back.
        let chain = chain(self.pool(), tenant, job).await?;
        let mut explained = None;
        for from in (0..chain.links.len()).rev() {
            let eta = if chain.is_whole { self.end_of(&chain.links[from..]).await? } else { None };
            explained = Some(self.explained(&chain.links[from], eta, explained).await?);
        }
        Ok(explained)
    }

    async fn explained(
        &self,
        link: &Link,
        eta: Option<Eta>,
        awaited: Option<Explanation>,
    ) -> Result<Explanation, Error> {
        let one = &link.standing;
        let around = surroundings(self.pool(), &one.queue, &one.kind, one.key.as_deref(), one.share).await?;
        let crowd = self.crowd(one, &around).await?;
        let awaited_end = awaited.as_ref().and_then(|awaited| awaited.eta).map(|eta| eta.likely);
        let mut blockers = blockers(one, &around, &crowd, awaited_end);
        put_in_order(&mut blockers);
        Ok(Explanation {
            seen_at: one.seen_at,
            tenant: link.tenant,
            job: link.job,
            kind: one.kind.clone(),
            queue: one.queue.clone(),
            state: match one.state {
                State::Ready => "ready",
                State::Scheduled => "scheduled",
                State::Running => "running",
                State::Waiting => "waiting",
                State::Parked => "parked",
            },
            blockers,
            eta,
            awaited: awaited.map(Box::new),
        })
    }
}

/// The crowd in front of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Crowd {
    /// Ready jobs of other shares.
    pub(crate) others_ready: i64,
    /// When the job begins as far as slots and shares say.
    pub(crate) begins_at: Option<DateTime<Utc>>,
}

/// Everything that holds a job back, in no order.
fn blockers(
    one: &Standing,
    around: &Surroundings,
    crowd: &Crowd,
    awaited_end: Option<DateTime<Utc>>,
) -> Vec<Blocker> {
    let mut found = Vec::new();
    if one.state == State::Running {
        return found;
    }
    let mut add = |because: Because, clears_at: Option<DateTime<Utc>>, is_estimated: bool| {
        found.push(Blocker { because, clears_at, is_estimated: is_estimated && clears_at.is_some() });
    };
    match one.awaited {
        Some(Awaited::Job { job, is_unique, .. }) if is_unique || one.shares_end => {
            add(Because::Unique { job }, awaited_end, true);
        }
        Some(Awaited::Job { job, .. }) => add(Because::Waiting { job }, awaited_end, true),
        Some(Awaited::Batch { batch, ended, total }) => {
            add(Because::Batch { batch, ended, total }, crowd.begins_at, true);
        }
        None => {}
    }
    if one.shares_end {
        // It never runs itself: what holds its kind back does not hold it.
        return found;
    }
    if one.state == State::Parked {
        add(Because::Parked { kind: one.kind.clone() }, None, false);
    } else if around.workers.knowing == 0 {
        let (queue, kind) = (one.queue.clone(), one.kind.clone());
        add(Because::NoWorker { queue, kind, serving: around.workers.serving }, None, false);
    }
    for pause in &around.pauses {
        let (queue, kind) = (one.queue.clone(), pause.kind.clone());
        add(Because::Paused { queue, kind, by: pause.by.clone(), since: pause.since }, None, false);
    }
    if one.state == State::Scheduled {
        let why = match &one.failed_with {
            Some(code) => Delay::Retry { attempt: one.attempt, code: code.clone() },
            None if one.was_claimed => Delay::SetAside,
            None => Delay::Scheduled,
        };
        add(Because::Delayed { why }, Some(one.run_at), false);
    }
    if !matches!(one.state, State::Ready | State::Scheduled) {
        return found;
    }
    let ahead = one.ahead.in_lane;
    for limit in around.limits.iter().filter(|limit| limit.room() <= ahead) {
        add(
            of_limit(limit),
            clears_at(limit, ahead, crowd),
            limit.blocked_until.is_none() && ahead >= limit.max,
        );
    }
    if let Some(cap) = around.share_cap.filter(|cap| cap.max - cap.running <= one.ahead.jobs()) {
        add(Because::Concurrency { key: None, running: cap.running, max: cap.max }, crowd.begins_at, true);
    }
    if let Some(cap) = around.key_cap.filter(|cap| cap.max - cap.running <= ahead) {
        add(
            Because::Concurrency { key: one.key.clone(), running: cap.running, max: cap.max },
            crowd.begins_at,
            true,
        );
    }
    let free = (around.workers.slots - around.workers.running).max(0);
    let is_alone = found.is_empty();
    if one.state == State::Ready && is_held_by_share(free, &one.ahead, crowd, is_alone) {
        found.push(Blocker {
            because: Because::Share {
                own_ahead: one.ahead.jobs(),
                others_ready: crowd.others_ready,
                running: around.workers.running,
                slots: around.workers.slots,
                is_estimated: one.ahead.is_estimated,
            },
            clears_at: crowd.begins_at,
            is_estimated: crowd.begins_at.is_some(),
        });
    }
    found
}

/// Where something else holds its lane, those ahead of it are held too, and take no slots.
fn is_held_by_share(free: i64, ahead: &Ahead, crowd: &Crowd, is_alone: bool) -> bool {
    free == 0 || (is_alone && ahead.jobs() + crowd.others_ready >= free)
}

fn of_limit(limit: &LimitLevel) -> Because {
    let name = limit.name.clone();
    match limit.shape {
        LimitShape::Budget => Because::Budget { name, used_minor: limit.used, max_minor: limit.max },
        _ => Because::Limit {
            name,
            used: limit.used,
            max: limit.max,
            is_blocked: limit.blocked_until.is_some(),
        },
    }
}

/// When a limit has room for a job behind so many.
fn clears_at(limit: &LimitLevel, ahead: i64, crowd: &Crowd) -> Option<DateTime<Utc>> {
    let jobs_each = (limit.max / limit.takes.max(1)).max(0);
    if jobs_each == 0 {
        return None;
    }
    match limit.shape {
        LimitShape::Concurrency => limit.blocked_until.or(crowd.begins_at),
        LimitShape::Rate | LimitShape::Budget => {
            let opens_at = limit.blocked_until.into_iter().chain(limit.ends_at).max()?;
            let windows = (ahead - limit.room()).max(0) / jobs_each;
            let window_ms = limit.window_ms.unwrap_or_default() as i64;
            Some(
                opens_at
                    + TimeDelta::milliseconds(windows.saturating_mul(window_ms).min(i64::MAX / 2_000_000)),
            )
        }
    }
}

/// The true one first.
fn put_in_order(blockers: &mut [Blocker]) {
    let limits = blockers.iter().filter(|blocker| is_limit(&blocker.because));
    let last_limit = limits.filter_map(|blocker| blocker.clears_at).max();
    blockers.sort_by_key(|blocker| {
        let rank = match &blocker.because {
            because if because.needs_a_person() => match because {
                Because::Parked { .. } => 0,
                Because::NoWorker { .. } => 1,
                _ => 2,
            },
            Because::Share { .. } => 5,
            _ if blocker.clears_at.is_some() => 3,
            _ => 4,
        };
        // A job that a full limit set aside comes back when the limit has room again, and not all at the same moment:
        // the limit is why.
        let at = match (&blocker.because, blocker.clears_at, last_limit) {
            (Because::Delayed { .. }, Some(at), Some(limit)) if at - SAME_TIME <= limit => {
                Some(limit - SAME_TIME)
            }
            (_, at, _) => at,
        };
        (rank, std::cmp::Reverse(at))
    });
}

const fn is_limit(because: &Because) -> bool {
    matches!(because, Because::Limit { .. } | Because::Budget { .. })
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
