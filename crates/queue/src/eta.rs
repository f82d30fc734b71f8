//! When jobs end: a range, from where they stand, what limits them and how long such jobs took lately, calibrated by how
//! earlier answers came true.
//!
//! What holds: estimates never slow down or fail what they are about. Facts are read at the most twice a second for
//! each queue, by one caller while the others use the old ones; nobody holds a connection while asking for another; what was
//! said is written aside, a sample of it, and losing it loses only what would have been learned. A job that only a person
//! can let go on has no estimate.

mod judge;
mod outlook;
mod rule;
mod said;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use db::Pool;
use kernel::ids::{JobId, TenantId};

use crate::{
    Error, Policy, Queue,
    explain::Crowd,
    standing::{Awaited, Link, Standing, State, Surroundings, chain, span},
};
pub use judge::{Calibration, Judged, RECENT_MAX, calibrations, judge_estimates};
use outlook::Outlook;
use rule::{Position, Range};
use said::{Said, Sayings};

/// When a job ends, by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eta {
    /// When the facts were read.
    pub seen_at: DateTime<Utc>,
    /// Hardly before.
    pub earliest: DateTime<Utc>,
    /// About then.
    pub likely: DateTime<Utc>,
    /// Hardly after.
    pub latest: DateTime<Utc>,
}

impl Eta {
    fn new(seen_at: DateTime<Utc>, range: Range) -> Self {
        // As far as a calendar goes for jobs; a range without end is none.
        let after =
            |seconds: f64| seen_at + TimeDelta::milliseconds((seconds.min(1e9) * 1_000.0).round() as i64);
        Self {
            seen_at,
            earliest: after(range.earliest),
            likely: after(range.likely),
            latest: after(range.latest),
        }
    }

    /// From when the facts were read to when it ends, most likely.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        span(self.seen_at, self.likely)
    }
}

/// How a job stood when its end was estimated. Each is calibrated on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing is in its way.
    Fresh,
    /// Others, or limits, are.
    Queued,
    /// It runs.
    Running,
    /// It is to begin later.
    Apart,
    /// It waits for another job.
    Waiting,
}

impl Stage {
    /// In the order of their numbers.
    const ALL: [Self; 5] = [Self::Fresh, Self::Queued, Self::Running, Self::Apart, Self::Waiting];

    /// The word in metrics and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Apart => "scheduled",
            Self::Waiting => "waiting",
        }
    }

    const fn number(self) -> i16 {
        self as i16
    }

    fn of_number(number: i16) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied())
    }
}

/// Estimates when jobs end; clones share what they know.
#[derive(Debug, Clone)]
pub struct Estimator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    policies: BTreeMap<&'static str, Policy>,
    outlooks: BTreeMap<Queue, Place>,
    sayings: Sayings,
}

impl Estimator {
    /// One that knows the kinds with these policies.
    #[must_use]
    pub fn new(pool: Pool, policies: impl IntoIterator<Item = (&'static str, Policy)>) -> Self {
        Self(Arc::new(Inner {
            pool,
            policies: policies.into_iter().collect(),
            outlooks: Queue::ALL.into_iter().map(|queue| (queue, Place::default())).collect(),
            sayings: Sayings::default(),
        }))
    }

    /// Writes what was said until it is dropped. Run it in a task of its own, once per process; without it nothing is
    /// learned.
    pub async fn run(self) {
        self.0.sayings.write(&self.0.pool).await;
    }

    /// When a job ends that was stored just now, to run at once. Asks the database at the most twice a second.
    ///
    /// # Errors
    /// [`Error::Database`]: there is no estimate then.
    pub async fn of_new(&self, kind: &str, tenant: TenantId, job: JobId) -> Result<Option<Eta>, Error> {
        let Some(queue) = self.queue_of(kind) else { return Ok(None) };
        let outlook = self.outlook(queue).await?;
        let around = self.around(&outlook, kind, None, tenant).await?;
        let loads = outlook.loads();
        let mut ahead = rule::ready_of(&loads, tenant);
        if ahead.values().any(|jobs| *jobs >= rule::LOAD_COUNTED_MAX) {
            // Not counted to the end.
            ahead = outlook.counted(&self.0.pool, tenant, kind, job).await?.unwrap_or(ahead);
        }
        let in_lane = ahead.get(kind).copied().unwrap_or_default();
        let now = outlook.now();
        let scene = outlook.scene(now, kind, tenant, &around, &loads);
        let predicted = rule::predict(&scene, Position::Ready { ahead: &ahead, in_lane });
        outlook.add(tenant, around.weight, kind);
        Ok(predicted.map(|(stage, raw)| self.say(&outlook, now, (tenant, job), kind, stage, raw)))
    }

    /// How long a job takes that a tenant would store now, to run at once.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn usual(&self, kind: &str, tenant: TenantId) -> Result<Option<Duration>, Error> {
        let Some(queue) = self.queue_of(kind) else { return Ok(None) };
        let outlook = self.outlook(queue).await?;
        let around = self.around(&outlook, kind, None, tenant).await?;
        let loads = outlook.loads();
        let ahead = rule::ready_of(&loads, tenant);
        let in_lane = ahead.get(kind).copied().unwrap_or_default();
        let scene = outlook.scene(outlook.now(), kind, tenant, &around, &loads);
        let predicted = rule::predict(&scene, Position::Ready { ahead: &ahead, in_lane });
        let ranged = predicted.map(|(stage, raw)| rule::calibrated(raw, outlook.ratios(kind, stage)));
        Ok(ranged.map(|range| Duration::from_secs_f64(range.likely)))
    }

    /// When a live job ends; `None` for one that is not live, or that only a person can let go on.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn of_live(&self, tenant: TenantId, job: JobId) -> Result<Option<Eta>, Error> {
        let chain = chain(&self.0.pool, tenant, job).await?;
        if chain.is_whole { self.end_of(&chain.links).await } else { Ok(None) }
    }

    /// When the first job of a whole chain ends.
    pub(crate) async fn end_of(&self, links: &[Link]) -> Result<Option<Eta>, Error> {
        let mut end: Option<(Stage, Range)> = None;
        for Link { standing, .. } in links.iter().rev() {
            let Some(own) = self.predicted(standing).await? else { return Ok(None) };
            end = Some(match end {
                None => own,
                Some((_, awaited)) if standing.shares_end => (Stage::Waiting, awaited),
                Some((_, awaited)) => (Stage::Waiting, rule::sum(awaited, own.1)),
            });
        }
        let (Some((stage, raw)), Some(Link { tenant, job, standing: first })) = (end, links.first()) else {
            return Ok(None);
        };
        let Some(queue) = self.queue_of(&first.kind) else { return Ok(None) };
        let outlook = self.outlook(queue).await?;
        Ok(Some(self.say(&outlook, first.seen_at, (*tenant, *job), &first.kind, stage, raw)))
    }

    /// Where facts are read.
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// The crowd in front of a job, and when that lets it begin.
    pub(crate) async fn crowd(&self, job: &Standing, around: &Surroundings) -> Result<Crowd, Error> {
        let Some(queue) = self.queue_of(&job.kind) else { return Ok(Crowd::default()) };
        let outlook = self.outlook(queue).await?;
        let loads = outlook.loads();
        let scene = outlook.scene(job.seen_at, &job.kind, job.share, around, &loads);
        let wait = rule::wait(&scene, &job.ahead.by_kind, job.ahead.in_lane);
        Ok(Crowd {
            others_ready: loads.iter().filter(|load| load.share != job.share).map(|load| load.ready).sum(),
            begins_at: wait.map(|wait| Eta::new(job.seen_at, wait).likely),
        })
    }

    /// What the model says of one job of a chain by itself.
    async fn predicted(&self, job: &Standing) -> Result<Option<(Stage, Range)>, Error> {
        let Some(queue) = self.queue_of(&job.kind) else { return Ok(None) };
        let outlook = self.outlook(queue).await?;
        let around = self.around(&outlook, &job.kind, job.key.as_deref(), job.share).await?;
        let loads = outlook.loads();
        let scene = outlook.scene(job.seen_at, &job.kind, job.share, &around, &loads);
        let nothing = BTreeMap::new();
        let position = match job.state {
            State::Ready => Position::Ready { ahead: &job.ahead.by_kind, in_lane: job.ahead.in_lane },
            State::Scheduled => Position::Scheduled(span(job.seen_at, job.run_at)),
            State::Running => Position::Running(span(job.leased_at.unwrap_or(job.seen_at), job.seen_at)),
            State::Waiting => match job.awaited {
                // Its children stand before it.
                Some(Awaited::Batch { ended, total, .. }) => {
                    let ahead = BTreeMap::from([(job.kind.clone(), total - ended)]);
                    return Ok(rule::predict(&scene, Position::Ready { ahead: &ahead, in_lane: 0 }));
                }
                _ => Position::Ready { ahead: &nothing, in_lane: 0 },
            },
            State::Parked => return Ok(None),
        };
        Ok(rule::predict(&scene, position))
    }

    /// The answer, noted to be checked later.
    fn say(
        &self,
        outlook: &Outlook,
        now: DateTime<Utc>,
        (tenant, job): (TenantId, JobId),
        kind: &str,
        stage: Stage,
        raw: Range,
    ) -> Eta {
        let range = rule::calibrated(raw, outlook.ratios(kind, stage));
        self.0.sayings.note(Said {
            tenant,
            job,
            kind: kind.to_owned(),
            stage,
            said_at: now,
            likely_s: raw.likely.max(rule::LIKELY_S_MIN),
            earliest_s: range.earliest,
            latest_s: range.latest,
        });
        Eta::new(now, range)
    }

    /// What holds for jobs of a kind, and for those that they lead to.
    async fn around(
        &self,
        outlook: &Outlook,
        kind: &str,
        key: Option<&str>,
        share: TenantId,
    ) -> Result<Arc<Surroundings>, Error> {
        let around = outlook.around(&self.0.pool, kind, key, share).await?;
        let Some(next) = self.0.policies.get(kind).and_then(|policy| policy.leads_to) else {
            return Ok(around);
        };
        let next = outlook.around(&self.0.pool, next, None, share).await?;
        let mut both = (*around).clone();
        both.limits.extend(next.limits.iter().cloned());
        both.pauses.extend(next.pauses.iter().cloned());
        Ok(Arc::new(both))
    }

    fn queue_of(&self, kind: &str) -> Option<Queue> {
        self.0.policies.get(kind).map(|policy| policy.queue)
    }

    /// What is known of a queue; not older than half a second, unless somebody is reading it anew.
    async fn outlook(&self, queue: Queue) -> Result<Arc<Outlook>, Error> {
        // Every queue has one.
        let Some(place) = self.0.outlooks.get(&queue) else { return Err(Error::Unanswered) };
        let Some(known) = place.known() else {
            // One caller reads, and whoever comes meanwhile waits for it.
            let _reading = place.reading.lock().await;
            return match place.known() {
                Some(read) => Ok(read),
                None => Ok(place.keep(Outlook::read(&self.0.pool, queue, &self.0.policies, None).await?)),
            };
        };
        let Some(_reading) = known.is_due().then(|| place.reading.try_lock().ok()).flatten() else {
            return Ok(known);
        };
        match Outlook::read(&self.0.pool, queue, &self.0.policies, Some(&known)).await {
            Ok(read) => Ok(place.keep(read)),
            Err(error) => {
                tracing::debug!(%error, %queue, "no newer outlook; the last one is used");
                Ok(known)
            }
        }
    }
}

/// Where the outlook on a queue is kept.
#[derive(Debug, Default)]
struct Place {
    known: Mutex<Option<Arc<Outlook>>>,
    /// Held by who reads a newer one; free again also when that caller is dropped or fails.
    reading: tokio::sync::Mutex<()>,
}

impl Place {
    fn known(&self) -> Option<Arc<Outlook>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, read: Outlook) -> Arc<Outlook> {
        let read = Arc::new(read);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(read.clone());
        read
    }
}
