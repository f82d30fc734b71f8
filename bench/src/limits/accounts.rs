//! What was drawn, and what of it died with processes: read from the database while the run lasts.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use db::Pool;
use queue::limits;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    counter::{Counter, Counts},
    kinds::{BUDGET, CALLS, PER_SECOND},
};

/// The running observation.
pub(super) struct Accounts {
    counter: Counter,
    dead: Arc<Mutex<HashSet<i32>>>,
    ended: CancellationToken,
    observer: JoinHandle<anyhow::Result<Observed>>,
    first: Counts,
}

/// What it came to.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Permits drawn, by number of window, as they were seen last.
    pub(super) calls: BTreeMap<i64, i64>,
    pub(super) per_second: BTreeMap<i64, i64>,
    /// Of the budget.
    pub(super) used: i64,
    /// Slot-seconds that processes held beyond their death.
    pub(super) dead_slot_s: f64,
    pub(super) seconds: f64,
}

/// What both sides say.
pub(super) struct Closed {
    pub(super) counted: Counts,
    pub(super) observed: Observed,
    /// Slot-seconds used while it was observed.
    pub(super) slot_s: f64,
}

/// How often the database is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(40);

impl Accounts {
    pub(super) fn open(pool: Pool, counter: Counter) -> Self {
        let (dead, ended) = (Arc::default(), CancellationToken::new());
        let observer = tokio::spawn(observe(pool, Arc::clone(&dead), ended.clone()));
        let first = counter.counts();
        Self { counter, dead, ended, observer, first }
    }

    /// The process was killed just now.
    pub(super) fn died(&self, pid: i32) {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    pub(super) async fn close(self) -> anyhow::Result<Closed> {
        let counted = self.counter.counts();
        self.ended.cancel();
        let observed = self.observer.await.context("the observer broke off")??;
        let slot_s = counted.slot_s - self.first.slot_s;
        Ok(Closed { counted, observed, slot_s })
    }
}

async fn observe(
    pool: Pool,
    dead: Arc<Mutex<HashSet<i32>>>,
    ended: CancellationToken,
) -> anyhow::Result<Observed> {
    let began = Instant::now();
    let mut observed = Observed::default();
    let mut looked_at = began;
    while !ended.is_cancelled() {
        for level in limits::levels(&pool).await? {
            let Some(ends_at) = level.ends_at else { continue };
            let (into, window_ms) = match (&*level.limit.name, level.limit.shape) {
                (CALLS, limits::Shape::Rate { window, .. }) => (&mut observed.calls, window.as_millis()),
                (PER_SECOND, limits::Shape::Rate { window, .. }) => {
                    (&mut observed.per_second, window.as_millis())
                }
                (BUDGET, _) => {
                    observed.used = level.used;
                    continue;
                }
                _ => continue,
            };
            let number = ends_at.timestamp_millis() / i64::try_from(window_ms)? - 1;
            let drawn = into.entry(number).or_default();
            *drawn = level.used.max(*drawn);
        }
        let pids: Vec<i32> = dead.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let held = sqlx::query_scalar!(
            r#"select count(*) as "n!" from job_limit_holds h join worker_processes p on p.id = h.process_id
               where p.pid = any($1)"#,
            &pids,
        )
        .fetch_one(&pool)
        .await?;
        let now = Instant::now();
        observed.dead_slot_s += held as f64 * (now - looked_at).as_secs_f64();
        looked_at = now;
        sleep(LOOK_EVERY).await;
    }
    observed.seconds = began.elapsed().as_secs_f64();
    Ok(observed)
}
