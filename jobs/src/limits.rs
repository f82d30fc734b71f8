//! Permits for calls, as handlers ask for them.
//!
//! What holds: a permit is drawn from the database right before the call that it is for ([`queue::limits`]). Who must
//! wait a moment waits within its attempt; who must wait longer is told so, and its job is set aside without using an
//! attempt. Of a process' jobs that want the same permits one at a time asks, in the order they came. What operators do to
//! limits is here too.

mod actions;
mod line;
mod usage;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use db::Pool;
use queue::{
    JobError, LeaseKey, LimitUse, Outcome,
    limits::{self, Draw, Permit, Permits, Shape},
};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

pub use actions::{LimitActionError, MAX_MAX, WINDOW_MS_MAX, reset, set, shape_as_json};
use line::Line;
pub use usage::Usage;

/// What a process knows of limits, and the permits it holds.
#[derive(Debug)]
pub struct Limits {
    pool: Pool,
    permits: Permits,
    defined: Mutex<Defined>,
    lines: Mutex<HashMap<String, Arc<Line>>>,
}

/// The limits there are, as they were last read.
#[derive(Debug, Default)]
struct Defined {
    shapes: Arc<HashMap<String, Shape>>,
    read_at: Option<Instant>,
}

/// Who asks for permits.
pub(crate) struct Asker {
    pub(crate) process: Uuid,
    pub(crate) lease: LeaseKey,
    /// When its attempt is over.
    pub(crate) ends_at: Instant,
}

/// There is no permit.
#[derive(Debug, thiserror::Error)]
pub enum PermitError {
    /// Not now: the job is to be set aside.
    #[error("the limit {limit} has no room for {} ms", wait.as_millis())]
    NotNow {
        /// The limit.
        limit: String,
        /// How long to set the job aside.
        wait: Duration,
    },
    /// The engine cannot tell, or the lease was lost.
    #[error("no permit could be drawn")]
    Queue(#[from] queue::Error),
}

impl PermitError {
    /// What it means for the attempt: set aside, or failed by us.
    ///
    /// # Errors
    /// The failure, when it is one.
    pub fn outcome(self) -> Result<Outcome, JobError> {
        match self {
            Self::NotNow { wait, .. } => Ok(Outcome::Snooze(wait)),
            Self::Queue(error) => Err(error.into()),
        }
    }
}

/// The longest wait within an attempt.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the list of limits is believed: a new limit bounds every process after this.
const DEFINED_FOR: Duration = Duration::from_secs(10);
/// How long a job is set aside that waited for a slot in vain; nobody knows when one will be free.
const SLOT_WAIT: Duration = Duration::from_millis(500);
/// How long whoever comes after the one with the last slot waits for another, before it asks.
const SLOT_LOOK: Duration = Duration::from_millis(10);
/// Lines kept, used or not.
const LINES_KEPT: usize = 4_096;

impl Limits {
    /// Nothing is known and nothing held yet.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let permits = Permits::new(pool.clone());
        Self { pool, permits, defined: Mutex::default(), lines: Mutex::default() }
    }

    /// The permits that this process holds.
    #[must_use]
    pub fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Draws one permit from each bucket, waiting a little if need be.
    pub(crate) async fn draw(&self, asker: &Asker, buckets: &[(&str, &str)]) -> Result<Permit, PermitError> {
        let shapes = self.defined().await?;
        let buckets: Vec<(&str, &str)> =
            buckets.iter().copied().filter(|(name, _)| shapes.contains_key(*name)).collect();
        let Some((first, _)) = buckets.first() else { return Ok(Permit::free()) };
        let asked_at = Instant::now();
        let answer = self.draw_from(asker, &buckets, &shapes).await;
        metrics::histogram!("millpond_limit_wait_seconds", "limit" => (*first).to_owned())
            .record(asked_at.elapsed());
        if let Err(PermitError::NotNow { limit, .. }) = &answer {
            metrics::counter!("millpond_limit_set_aside_total", "limit" => limit.clone()).increment(1);
        }
        answer
    }

    /// The same, of buckets that are known, at least one.
    async fn draw_from(
        &self,
        asker: &Asker,
        buckets: &[(&str, &str)],
        shapes: &HashMap<String, Shape>,
    ) -> Result<Permit, PermitError> {
        let until = asker.ends_at.min(Instant::now() + WAIT_MAX);
        let line = self.line(buckets, shapes);
        let not_now = |limit: &str, wait: Duration| PermitError::NotNow {
            limit: limit.to_owned(),
            wait: match shapes.get(limit) {
                Some(Shape::Concurrency { .. }) => wait.max(jittered(SLOT_WAIT)),
                // Not all at the same moment.
                _ => wait + wait.min(Duration::from_secs(1)).mul_f64(rand::rng().random_range(0.0..0.1)),
            },
        };
        let Ok(mut turn) = timeout_at(until, line.turn.lock()).await else {
            return Err(not_now(buckets[0].0, jittered(SLOT_WAIT)));
        };
        loop {
            if let Some((limit, wait)) = turn.blocked() {
                return Err(not_now(&limit, wait));
            }
            line.smooth(until).await;
            let returned = self.permits.returned();
            if turn.take_no_slot() && !self.permits.has_leaving() {
                // The one before took the last.
                let _ = timeout_at(until.min(Instant::now() + jittered(SLOT_LOOK)), returned).await;
                continue;
            }
            let draw =
                limits::draw(&self.pool, &self.permits, asker.process, Some(asker.lease), buckets).await?;
            let (wait, limit) = match draw {
                Draw::Granted(permit) => {
                    turn.note_slots(&permit);
                    return Ok(permit);
                }
                Draw::Wait { wait, limit } => (wait, limit),
            };
            if Instant::now() + wait > until {
                turn.block(&limit, wait);
                return Err(not_now(&limit, wait));
            }
            let waits_for_slot = matches!(shapes.get(&limit), Some(Shape::Concurrency { .. }));
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                // A slot that this very process gave back.
                () = returned, if waits_for_slot => {}
            }
        }
    }

    /// The other side wants fewer calls.
    pub(crate) async fn tighten(
        &self,
        name: &str,
        key: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), queue::Error> {
        limits::tighten(&self.pool, name, key, retry_after).await
    }

    /// The line of those who want these permits.
    fn line(&self, buckets: &[(&str, &str)], shapes: &HashMap<String, Shape>) -> Arc<Line> {
        let mut name = String::new();
        for (limit, key) in buckets {
            name.push_str(limit);
            name.push('\0');
            name.push_str(key);
            name.push('\0');
        }
        let rates = buckets.iter().filter_map(|(limit, _)| shapes.get(*limit)).copied();
        let slowest = line::slowest(rates);
        let mut lines = lock(&self.lines);
        if lines.len() > LINES_KEPT {
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        match lines.get(&name) {
            Some(line) if line.rate == slowest => line.clone(),
            _ => {
                let line = Arc::new(Line::new(slowest));
                lines.insert(name, line.clone());
                line
            }
        }
    }

    async fn defined(&self) -> Result<Arc<HashMap<String, Shape>>, queue::Error> {
        {
            let mut defined = lock(&self.defined);
            let now = Instant::now();
            if let Some(read_at) = defined.read_at {
                if read_at + DEFINED_FOR > now {
                    return Ok(defined.shapes.clone());
                }
                // One reads it anew; the others go on with what is known.
                defined.read_at = Some(now);
            }
        }
        let limits = limits::limits(&self.pool).await?;
        let shapes: HashMap<_, _> =
            limits.into_iter().map(|limit| (limit.name.into_owned(), limit.shape)).collect();
        let shapes = Arc::new(shapes);
        *lock(&self.defined) = Defined { shapes: shapes.clone(), read_at: Some(Instant::now()) };
        Ok(shapes)
    }
}

/// The buckets of these limits for a job with this key, as the kind's policy says.
pub(crate) fn buckets<'a>(
    names: &[&'a str],
    uses: &[LimitUse],
    key: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let bucket = |name: &&'a str| {
        let is_keyed = uses.iter().any(|one| one.name == *name && one.keyed);
        (*name, key.filter(|_| is_keyed).unwrap_or_default())
    };
    names.iter().map(bucket).collect()
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(1.0..1.5))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_limit_has_a_bucket_for_each_key_and_others_have_one() {
        let uses = [
            LimitUse { name: "calls", keyed: false, cost: 0 },
            LimitUse { name: "account", keyed: true, cost: 0 },
        ];
        assert_eq!(buckets(&["calls", "account"], &uses, Some("a")), [("calls", ""), ("account", "a")]);
        assert_eq!(buckets(&["account"], &uses, None), [("account", "")]);
    }
}
