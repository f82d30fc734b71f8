//! Schedulers that die without a word, while clocks are changed.
//!
//! Five processes of the real binary on a database whose clock the test moves: in short steps over both changes of the
//! clock in Europe and in America, in one leap over the summer with nobody alive. Whoever is killed when, what becomes
//! of every tick is decided by the moments at which something was alive, and so known beforehand.

mod oracle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kernel::ids::JobId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schedules::{Change, TickOutcome, TickRow};

use crate::support::{MillpondProcess, TestClock, TestDb, door, eventually};
use oracle::{CASES, Case, Fate};

const SCHEDULERS: usize = 5;
/// A tick that is stored later counts as missed; steps of the clock are shorter.
const GRACE: TimeDelta = TimeDelta::hours(1);
const STEP_MINUTES_MAX: i64 = 55;
/// One step in so many has a death in it.
const STEPS_A_DEATH: u32 = 5;
const KIND: &str = "maintenance.prune_jobs";
/// The variable that repeats a run.
const SEED: &str = "MILLPOND_TEST_SEED";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Schedulers, a clock, and the moments at which everything due was decided.
struct Stage {
    db: TestDb,
    clock: TestClock,
    alive: Vec<MillpondProcess>,
    moments: Vec<DateTime<Utc>>,
    random: StdRng,
    deaths: usize,
}

impl Stage {
    async fn new(began: DateTime<Utc>, seed: u64) -> Self {
        let db = TestDb::new().await;
        let clock = TestClock::install(&db).await;
        clock.set(began).await;
        let mut conn = db.pool().acquire().await.unwrap();
        for case in CASES {
            let change = Change {
                cron: Some(case.cron.to_owned()),
                time_zone: Some(case.zone.name().to_owned()),
                kind: Some(KIND.to_owned()),
                missed: Some(case.missed),
                ..Change::default()
            };
            jobs::schedules::change(&mut conn, jobs::ALL, case.name, &change, &door()).await.unwrap();
        }
        drop(conn);
        let random = StdRng::seed_from_u64(seed);
        let mut stage = Self { db, clock, alive: Vec::new(), moments: vec![began], random, deaths: 0 };
        stage.revive();
        stage
    }

    /// Starts as many as are dead.
    fn revive(&mut self) {
        let grace = GRACE.num_seconds().to_string();
        let settings = [
            ("MILLPOND_SCHEDULER__LOOK_MS", "10"),
            ("MILLPOND_SCHEDULER__MISSED_AFTER_S", &*grace),
            ("MILLPOND_DATABASE__CONNECTIONS_MAX", "2"),
        ];
        while self.alive.len() < SCHEDULERS {
            self.alive.push(MillpondProcess::start(&self.db, &["scheduler"], &settings));
        }
    }

    fn kill(&mut self, count: usize) {
        for _ in 0..count.min(self.alive.len()) {
            let victim = self.random.random_range(0..self.alive.len());
            self.alive.swap_remove(victim).kill_9();
            self.deaths += 1;
        }
    }

    /// Time passes up to `until` step by step, and all that is due is decided at each; now and then some die.
    async fn live_until(&mut self, until: DateTime<Utc>) {
        let mut now = *self.moments.last().unwrap();
        while now < until {
            now += TimeDelta::minutes(self.random.random_range(1..=STEP_MINUTES_MAX));
            self.clock.set(now).await;
            if self.random.random_ratio(1, STEPS_A_DEATH) {
                // At whatever they are doing then.
                tokio::time::sleep(Duration::from_millis(self.random.random_range(0..15))).await;
                let count = self.random.random_range(1..=2);
                self.kill(count);
                self.revive();
            }
            self.all_decided(now).await;
        }
    }

    /// Everybody is dead until then.
    async fn dead_until(&mut self, until: DateTime<Utc>) {
        self.kill(SCHEDULERS);
        self.clock.set(until).await;
        self.revive();
        self.all_decided(until).await;
    }

    async fn all_decided(&mut self, now: DateTime<Utc>) {
        let pool = self.db.pool();
        eventually("all that is due is decided", async || {
            let due = sqlx::query_scalar!(
                r#"select count(*) as "n!" from schedules where enabled and next_at <= $1"#,
                now
            );
            due.fetch_one(pool).await.unwrap() == 0
        })
        .await;
        self.moments.push(now);
    }

    async fn ticks(&self, case: &Case) -> Vec<TickRow> {
        let mut conn = self.db.pool().acquire().await.unwrap();
        schedules::ticks(&mut conn, case.name, 1_000_000).await.unwrap()
    }
}

/// Compares what is recorded with what must be; answers how many ticks ran and how many were missed.
fn compare(case: &Case, expected: &BTreeMap<DateTime<Utc>, Fate>, found: &[TickRow]) -> (usize, usize) {
    let of = |fate: Fate| -> BTreeSet<DateTime<Utc>> {
        expected.iter().filter(|(_, is)| **is == fate).map(|(tick, _)| *tick).collect()
    };
    let (runs, mut missed) = (of(Fate::Runs), of(Fate::Missed));
    let (run, missed_count) = (runs.len(), missed.len());
    let ran: Vec<_> = found.iter().filter(|tick| tick.outcome == TickOutcome::Enqueued).collect();
    let ran_once: BTreeSet<_> = ran.iter().map(|tick| tick.tick_at).collect();
    assert_eq!(ran.len(), ran_once.len(), "{}: a tick ran twice", case.name);
    let lost: Vec<_> = runs.difference(&ran_once).collect();
    let surplus: Vec<_> = ran_once.difference(&runs).collect();
    assert!(lost.is_empty() && surplus.is_empty(), "{}: lost {lost:?}, surplus {surplus:?}", case.name);
    for tick in ran {
        assert_eq!(tick.job, Some(JobId::of_tick(case.name, tick.tick_at)), "{}", case.name);
    }
    for tick in found.iter().filter(|tick| tick.outcome == TickOutcome::Missed) {
        let span: Vec<_> =
            missed.range(tick.tick_at..=tick.last_at.unwrap_or(tick.tick_at)).copied().collect();
        assert_eq!(span.len() as u64, tick.ticks, "{}: {tick:?}", case.name);
        for told in span {
            missed.remove(&told);
        }
    }
    assert!(missed.is_empty(), "{}: missed and not recorded: {missed:?}", case.name);
    (run, missed_count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_schedulers_killed_over_both_changes_of_the_clock_decide_every_tick_once() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("{SEED}={seed} repeats this run");
    let mut stage = Stage::new(at("2026-03-08T00:00:00Z"), seed).await;
    // America changes at 07:00 UTC.
    stage.live_until(at("2026-03-08T20:00:00Z")).await;
    stage.dead_until(at("2026-03-28T15:10:00Z")).await;
    // Europe changes at 01:00 UTC.
    stage.live_until(at("2026-03-29T10:00:00Z")).await;
    stage.dead_until(at("2026-10-24T17:40:00Z")).await;
    stage.live_until(at("2026-10-24T23:30:00Z")).await;
    // Dead over Europe's repeated hour, which begins at 01:00 UTC.
    stage.dead_until(at("2026-10-25T05:05:00Z")).await;
    stage.live_until(at("2026-10-25T12:00:00Z")).await;
    stage.dead_until(at("2026-11-01T01:00:00Z")).await;
    // America repeats its hour from 06:00 UTC.
    stage.live_until(at("2026-11-01T14:00:00Z")).await;
    stage.kill(SCHEDULERS);

    let (mut run, mut missed) = (0, 0);
    for case in CASES {
        let expected = case.fates(&stage.moments, GRACE);
        let found = stage.ticks(case).await;
        let (ran, skipped) = compare(case, &expected, &found);
        run += ran;
        missed += skipped;
    }
    assert!(run > 500 && missed > 10_000, "{run} ran, {missed} missed: too few to show anything");
    assert!(stage.deaths > 20, "only {} deaths", stage.deaths);
    let untied = sqlx::query_scalar!(
        r#"select count(*) as "n!"
           from jobs j
           full join (select job_id from schedule_ticks where job_id is not null) t on t.job_id = j.id
           where j.id is null or t.job_id is null"#
    );
    assert_eq!(untied.fetch_one(stage.db.pool()).await.unwrap(), 0, "jobs and ticks are tied one to one");
    eprintln!("{} deaths; {run} ticks ran, {missed} were missed", stage.deaths);
}
