//! What is known of a queue for a while: what stands in it, how long its jobs ran lately, how estimates came true.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use db::Pool;
use kernel::ids::{JobId, TenantId};
use tokio::{sync::OnceCell, time::Instant};

use super::{
    Stage,
    rule::{Load, Scene, Times},
};
use crate::{
    Error, Policy, Queue,
    lane::lanes_of,
    standing::{State, Surroundings, standing, surroundings},
};

/// How long it is believed. What this process stores meanwhile is added to it.
const BELIEVED_FOR: Duration = Duration::from_millis(500);
/// It is believed for so many times as long as it took to read: where much stands in many lanes that is longer.
const READ_SHARE: u32 = 20;
/// How long run times and ratios are: they change more slowly, and take longer to read.
const TIMES_BELIEVED_FOR: Duration = Duration::from_secs(2);
/// Surroundings that are remembered, and counts.
const KNOWN_MAX: usize = 256;
/// Shares and kinds of which is remembered what was stored since.
const ADDED_MAX: usize = 256;

/// One look at a queue.
#[derive(Debug)]
pub(super) struct Outlook {
    queue: Queue,
    read_at: Instant,
    believed_for: Duration,
    seen_at: DateTime<Utc>,
    loads: Vec<Load>,
    past: Arc<Past>,
    around: Known<AroundKey, Surroundings>,
    /// What stands before the jobs of a share and kind that is too much to be counted for all.
    deep: Known<(TenantId, String), Deep>,
    /// What this process stored since.
    added: Mutex<Vec<Load>>,
}

/// Kind, key and share.
type AroundKey = (String, Option<String>, TenantId);

/// What is known by key, each read by one caller while those who want the same wait for it.
type Known<K, V> = Mutex<BTreeMap<K, Arc<OnceCell<Arc<V>>>>>;

/// What stood before a job, and how many of its share and kind this process had stored by then.
#[derive(Debug)]
struct Deep {
    ahead: Option<BTreeMap<String, i64>>,
    added: i64,
}

/// What ended lately.
#[derive(Debug)]
struct Past {
    read_at: Instant,
    times: Times,
    /// Of each kind and stage what came of estimates, actual / predicted, sorted.
    ratios: BTreeMap<(String, Stage), Vec<f64>>,
}

impl Outlook {
    pub(super) async fn read(
        pool: &Pool,
        queue: Queue,
        policies: &BTreeMap<&'static str, Policy>,
        last: Option<&Self>,
    ) -> Result<Self, Error> {
        let (from, to) = lanes_of(queue);
        let asked_at = Instant::now();
        let rows = sqlx::query!(
            r#"select now() as "now!", l.share_id, l.weight, l.kind, l.ready
               from (select) as one left join job_loads($1, $2) as l on true"#,
            from,
            to,
        )
        .fetch_all(pool)
        .await?;
        let read_at = Instant::now();
        let seen_at = rows.first().map_or_else(kernel::clock::now, |row| row.now);
        let loads = rows.into_iter().filter_map(|row| {
            let (share, weight, kind, ready) = (row.share_id?, row.weight?, row.kind?, row.ready?);
            Some(Load { share: TenantId::from_uuid(share), weight, kind, ready })
        });
        let loads = loads.collect();
        let past = match last.filter(|last| last.past.read_at.elapsed() < TIMES_BELIEVED_FOR) {
            Some(last) => last.past.clone(),
            None => Arc::new(Past::read(pool, queue, policies).await?),
        };
        Ok(Self {
            queue,
            read_at,
            believed_for: BELIEVED_FOR.max(asked_at.elapsed() * READ_SHARE),
            seen_at,
            loads,
            past,
            around: Known::default(),
            deep: Known::default(),
            added: Mutex::default(),
        })
    }

    /// Whether a newer one is to be read.
    pub(super) fn is_due(&self) -> bool {
        self.read_at.elapsed() >= self.believed_for
    }

    /// The database's now, as far as this process can tell without asking.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.seen_at + self.read_at.elapsed()
    }

    /// One more job is ready.
    pub(super) fn add(&self, share: TenantId, weight: i16, kind: &str) {
        let mut added = self.added();
        match added.iter().position(|load| load.share == share && load.kind == kind) {
            Some(at) => added[at].ready += 1,
            None if added.len() < ADDED_MAX => {
                added.push(Load { share, weight, kind: kind.to_owned(), ready: 1 });
            }
            None => {}
        }
    }

    /// The ready jobs by share and kind, with those that were stored since.
    pub(super) fn loads(&self) -> Vec<Load> {
        self.loads.iter().chain(self.added().iter()).cloned().collect()
    }

    fn added(&self) -> MutexGuard<'_, Vec<Load>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ratios(&self, kind: &str, stage: Stage) -> &[f64] {
        self.past.ratios.get(&(kind.to_owned(), stage)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn scene<'a>(
        &'a self,
        now: DateTime<Utc>,
        kind: &'a str,
        share: TenantId,
        around: &'a Surroundings,
        loads: &'a [Load],
    ) -> Scene<'a> {
        Scene { now, kind, share, around, loads, times: &self.past.times }
    }

    /// What holds for a kind, key and share, as of this look or later.
    pub(super) async fn around(
        &self,
        pool: &Pool,
        kind: &str,
        key: Option<&str>,
        share: TenantId,
    ) -> Result<Arc<Surroundings>, Error> {
        let of = (kind.to_owned(), key.map(str::to_owned), share);
        let cell = cell(&self.around, of);
        let read = async || surroundings(pool, self.queue.as_str(), kind, key, share).await.map(Arc::new);
        cell.get_or_try_init(read).await.cloned()
    }

    /// The jobs of the share before one that was stored just now, by kind, where they are too many to be counted for every
    /// share: looked up for the first such job of a share and kind, and for the others what was stored since is added. None
    /// when that first job was no longer ready.
    pub(super) async fn counted(
        &self,
        pool: &Pool,
        share: TenantId,
        kind: &str,
        job: JobId,
    ) -> Result<Option<BTreeMap<String, i64>>, Error> {
        let cell = cell(&self.deep, (share, kind.to_owned()));
        let read = async || {
            let added = self.added_of(share, kind);
            let standing = standing(pool, share, job).await?.filter(|one| one.state == State::Ready);
            Ok::<_, Error>(Arc::new(Deep { ahead: standing.map(|one| one.ahead.by_kind), added }))
        };
        let deep = cell.get_or_try_init(read).await?;
        let Some(mut ahead) = deep.ahead.clone() else { return Ok(None) };
        *ahead.entry(kind.to_owned()).or_default() += self.added_of(share, kind) - deep.added;
        Ok(Some(ahead))
    }

    /// Jobs of a share and kind that this process stored since.
    fn added_of(&self, share: TenantId, kind: &str) -> i64 {
        let added = self.added();
        added.iter().find(|load| load.share == share && load.kind == kind).map_or(0, |load| load.ready)
    }
}

fn cell<K: Ord, V>(known: &Known<K, V>, key: K) -> Arc<OnceCell<Arc<V>>> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= KNOWN_MAX && !known.contains_key(&key) {
        known.clear();
    }
    known.entry(key).or_default().clone()
}

/// Fewer runs in the sample say little.
const RUNS_MIN: usize = 10;

impl Past {
    async fn read(
        pool: &Pool,
        queue: Queue,
        policies: &BTreeMap<&'static str, Policy>,
    ) -> Result<Self, Error> {
        let in_queue = policies.iter().filter(|(_, policy)| policy.queue == queue);
        let leads_to: BTreeMap<_, _> =
            in_queue.clone().filter_map(|(kind, policy)| Some((*kind, policy.leads_to?))).collect();
        let mut kinds: Vec<&str> =
            in_queue.map(|(kind, _)| *kind).chain(leads_to.values().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut times = Times::new(leads_to);
        times.set(run_times(pool, &kinds).await?);
        let ends = sqlx::query!(
            "select e.kind, e.stage, e.actual_s / e.likely_s as ratio
             from job_estimate_ends e
             where e.kind = any($1) and e.ended_at > now() - interval '1 day'",
            &kinds as &[&str],
        )
        .fetch_all(pool)
        .await?;
        let mut ratios: BTreeMap<(String, Stage), Vec<f64>> = BTreeMap::new();
        for end in ends {
            if let (Some(stage), Some(ratio)) = (Stage::of_number(end.stage), end.ratio) {
                ratios.entry((end.kind, stage)).or_default().push(ratio);
            }
        }
        ratios.values_mut().for_each(|ratios| ratios.sort_by(f64::total_cmp));
        Ok(Self { read_at: Instant::now(), times, ratios })
    }
}

/// How long jobs of these kinds ran lately; of kinds that the sample has too few of, those that ended first within the hour.
async fn run_times(pool: &Pool, kinds: &[&str]) -> Result<Vec<(String, f64)>, Error> {
    let rows = sqlx::query!(
        r#"select kind as "kind!", seconds as "seconds!" from job_run_times($1)"#,
        kinds as &[&str],
    )
    .fetch_all(pool)
    .await?;
    let mut runs: Vec<(String, f64)> = rows.into_iter().map(|row| (row.kind, row.seconds)).collect();
    let count = |kind: &str| runs.iter().filter(|(of, _)| of == kind).count();
    let rare: Vec<&str> = kinds.iter().copied().filter(|kind| count(kind) < RUNS_MIN).collect();
    if rare.is_empty() {
        return Ok(runs);
    }
    let rows = sqlx::query!(
        r#"select kind, extract(epoch from finished_at - started_at)::float8 as "seconds!"
           from (
               select kind, ended, started_at, finished_at from jobs_finished
               where finished_at > now() - interval '1 hour'
               limit 5000
           ) as recent
           where kind = any($1) and ended <> 'cancelled' and started_at is not null"#,
        &rare as &[&str],
    )
    .fetch_all(pool)
    .await?;
    runs.retain(|(kind, _)| !rare.contains(&kind.as_str()));
    runs.extend(rows.into_iter().map(|row| (row.kind, row.seconds)));
    Ok(runs)
}
