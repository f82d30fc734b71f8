//! A database whose clock the test moves, and looks at it as schedulers take them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::{Context, Entry, Handler, entry};
use kernel::ids::JobId;
use queue::{Job, JobError, JobRecord, JobStatus, ListFilter, Outcome, Policy, Queue, Waker};
use scheduler::{Declared, Look, Settings};
use schedules::{Change, Schedule, TickRow};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use crate::support::door;
use crate::support::{TestClock, TestDb};

/// Who asks.
pub const BY: &str = "a test";
/// Looks take these.
pub const KINDS: &[Entry] = &[entry::<Note>()];
/// Nothing is declared in code, unless a test says so.
pub const NOTHING: &[Declared] = &[];

/// A kind with an argument that it needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
}

impl Job for Note {
    const KIND: &'static str = "test.note";
    const POLICY: Policy = Policy { queue: Queue::Maintenance, ..Policy::DEFAULT };
}

impl Handler for Note {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        Ok(Outcome::Done(None))
    }
}

/// One test's schedules.
pub struct Stage {
    pub db: TestDb,
    pub clock: TestClock,
    pub waker: Waker,
}

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The definition of a new schedule of notes.
pub fn notes(cron: &str) -> Change {
    Change {
        cron: Some(cron.to_owned()),
        kind: Some(Note::KIND.to_owned()),
        args: Some(json!({"text": "water the plants"})),
        ..Change::default()
    }
}

impl Stage {
    /// It is noon of 2026-11-22, UTC, and nothing is scheduled.
    pub async fn new() -> Self {
        let db = TestDb::new().await;
        let clock = TestClock::install(&db).await;
        clock.set(at("2026-11-22T12:00:00Z")).await;
        Self { db, clock, waker: Waker::new() }
    }

    /// A scheduler that declares these.
    pub fn look_of(&self, declared: &'static [Declared]) -> Look {
        let settings = Settings { kinds: KINDS, declared, ..Settings::default() };
        Look { pool: self.db.pool().clone(), waker: self.waker.clone(), settings }
    }

    /// A scheduler looks once.
    pub async fn look(&self) {
        self.look_of(NOTHING).once().await.unwrap();
    }

    pub async fn set(&self, name: &str, change: &Change) -> Schedule {
        self.try_set(name, change).await.unwrap()
    }

    pub async fn try_set(
        &self,
        name: &str,
        change: &Change,
    ) -> Result<Schedule, jobs::schedules::ActionError> {
        let mut tx = db::begin(self.db.pool()).await.unwrap();
        let schedule = jobs::schedules::change(&mut tx, KINDS, name, change, &door()).await?;
        tx.commit().await.unwrap();
        Ok(schedule)
    }

    pub async fn schedule(&self, name: &str) -> Schedule {
        let mut conn = self.db.pool().acquire().await.unwrap();
        schedules::get(&mut conn, name).await.unwrap().expect("a schedule")
    }

    /// What became of all ticks, the oldest first.
    pub async fn ticks(&self, name: &str) -> Vec<TickRow> {
        let mut conn = self.db.pool().acquire().await.unwrap();
        let mut ticks = schedules::ticks(&mut conn, name, 100_000).await.unwrap();
        ticks.reverse();
        ticks
    }

    /// The same in short: `12:05 enqueued`, `12:01–12:04 missed`.
    pub async fn told(&self, name: &str) -> Vec<String> {
        let time = |at: DateTime<Utc>| at.format("%H:%M").to_string();
        let told = |tick: &TickRow| match tick.last_at {
            Some(last) => format!("{}–{} {} {}", time(tick.tick_at), time(last), tick.ticks, tick.outcome),
            None => format!("{} {}", time(tick.tick_at), tick.outcome),
        };
        self.ticks(name).await.iter().map(told).collect()
    }

    /// All jobs there are.
    pub async fn jobs(&self) -> Vec<JobRecord> {
        let mut conn = self.db.pool().acquire().await.unwrap();
        queue::list(&mut conn, &ListFilter::default(), 10_000).await.unwrap()
    }

    /// Checks that there is exactly one job for each tick that has one, under the id that says which.
    pub async fn assert_tied(&self, name: &str) {
        let mut expected: Vec<JobId> = self.ticks(name).await.iter().filter_map(|tick| tick.job).collect();
        for tick in self.ticks(name).await.iter().filter(|tick| tick.job.is_some()) {
            assert_eq!(tick.job, Some(JobId::of_tick(name, tick.tick_at)));
            assert_eq!(tick.job.unwrap().instant().timestamp_millis(), tick.tick_at.timestamp_millis());
        }
        let mut jobs: Vec<JobId> = self.jobs().await.iter().map(|job| job.id).collect();
        expected.sort_unstable();
        jobs.sort_unstable();
        assert_eq!(jobs, expected);
    }

    pub async fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds)).await;
    }

    /// Time passes minute by minute, and a scheduler looks each time.
    pub async fn pass(&self, minutes: u64) {
        for _ in 0..minutes {
            self.advance(60).await;
            self.look().await;
        }
    }
}

/// Whether a job is there and waits to be run.
pub fn is_queued(job: &JobRecord) -> bool {
    job.status == JobStatus::Queued
}
