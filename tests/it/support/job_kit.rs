//! The testing kit for authors of jobs: a database of the test's own with a clock that stands still until the test moves it,
//! and a worker that runs one attempt when the test says so.
//!
//! ```ignore
//! let kit = JobKit::new().await;
//! kit.enqueue(NewJob::of(&Remind { after_days: 3 })?).await;
//!
//! let first = kit.run_one::<Remind>().await;                    // one attempt, settled by the rules of real workers
//! assert_eq!(first.status, JobStatus::Queued);                  // it failed and will be tried again
//! kit.assert_none_ready().await;                                // but not now
//! kit.clock.advance(3 * DAY).await;                             // the database's now() and clock_timestamp()
//! let done = kit.drain().await;                                 // everything until nothing is ready
//! assert_eq!(done.last().unwrap().status, JobStatus::Completed);
//! kit.assert_enqueued::<Deliver>(|args| args.delivery == id).await;
//! kit.leaves::<Deliver>(1);                                     // or the test fails when it ends
//! ```
//!
//! What a kit promises:
//! - Nothing runs unless the test says so, in the order it says, without jitter: delays are those that policies name.
//! - A test that ends with unfinished jobs fails, unless it said which and how many with [`JobKit::leaves`]. A forgotten
//!   follow-up is found by the test that stored it, not by an operator.
//! - Every job must bear running twice: [`JobKit::run_twice`] runs an attempt, loses what came of it as a crash does,
//!   and runs the job again.
//! - The clock is the database's alone. What a handler takes from its process' clock (the time in a signature, say) goes on.
//!
//! Finer steps (a claim, an attempt that is not settled, a worker that dies between the two) are those of
//! [`ManualWorker`], which a kit derefs to.

mod clock;
mod left_behind;
mod manual_worker;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobs::{Entry, Handler, Services};
use kernel::ids::{JobId, TenantId};
use queue::{Enqueued, Job, JobRecord, NewJob, Queue};

pub use clock::TestClock;
pub use manual_worker::ManualWorker;

use super::{TestDb, eventually, keyring, services};

/// Attempts that one [`JobKit::drain`] makes at the most: jobs that put each other back for ever end the test.
const DRAIN_ATTEMPTS_MAX: usize = 1_000;

/// A database, its clock, and a worker by hand. See the module.
pub struct JobKit {
    /// The database's clock.
    pub clock: TestClock,
    /// What the test may leave unfinished: jobs by kind.
    leaves: Mutex<BTreeMap<&'static str, usize>>,
    worker: ManualWorker,
    /// The test's database.
    pub db: TestDb,
}

impl JobKit {
    /// With all kinds there are, and vendors that nobody answers for.
    pub async fn new() -> Self {
        Self::of(jobs::ALL, |_| {}).await
    }

    /// With these kinds and other services.
    pub async fn of(kinds: &'static [Entry], change: impl FnOnce(&mut Services)) -> Self {
        let db = TestDb::new().await;
        let clock = TestClock::install(&db).await;
        let mut services = services(db.connect_more(20), None);
        change(&mut services);
        let worker = ManualWorker::register(Arc::new(services), kinds).await;
        Self { clock, leaves: Mutex::default(), worker, db }
    }

    /// Stores a job on its own and answers its id.
    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let mut conn = self.db.pool().acquire().await.unwrap();
        let stored = queue::enqueue(&mut conn, job).await.unwrap();
        assert!(matches!(stored, Enqueued::New(_)), "{stored:?} stands for it already");
        stored.id()
    }

    /// Claims the oldest ready job of a kind, runs an attempt, settles it, and answers what the job is now.
    pub async fn run_one<H: Handler>(&self) -> JobRecord {
        self.worker.run_one(H::KIND).await
    }

    /// The same for all ready jobs of a kind, at once.
    pub async fn run_all<H: Handler>(&self) -> Vec<JobRecord> {
        self.worker.run_all(H::KIND).await
    }

    /// Runs an attempt, loses what it came to with its worker, has the job taken back, and runs it again.
    pub async fn run_twice<H: Handler>(&self) -> JobRecord {
        let first = self.worker.successor().await;
        let claimed = first.claim(H::KIND).await;
        // Lost, whatever it was. An attempt that ended its job in its own transaction has nothing to repeat.
        let lost = first.run(&claimed).await;
        first.die().await;
        if matches!(lost, Ok(queue::Outcome::Settled(_))) {
            return self.worker.record(claimed.lease.tenant, claimed.lease.job).await;
        }
        self.worker.run_one(H::KIND).await
    }

    /// Runs jobs of all kinds, and what they store, until nothing is ready; answers each attempt's job as it was after
    /// it. What is scheduled for later stays.
    pub async fn drain(&self) -> Vec<JobRecord> {
        let mut attempts = Vec::new();
        loop {
            let mut ready = Vec::new();
            for queue in Queue::ALL {
                ready.extend(self.worker.claim_any(queue).await);
            }
            if ready.is_empty() {
                return attempts;
            }
            for claimed in &ready {
                attempts.push(self.worker.attempt(claimed).await);
                assert!(
                    attempts.len() <= DRAIN_ATTEMPTS_MAX,
                    "no end after {DRAIN_ATTEMPTS_MAX} attempts; the last was of {:?}",
                    attempts.last()
                );
            }
        }
    }

    /// Waits until real workers have finished everything that there is.
    pub async fn all_done(&self) {
        eventually("every job ends", async || {
            let left = sqlx::query_scalar!(r#"select count(*) as "left!" from jobs"#);
            left.fetch_one(self.db.pool()).await.unwrap() == 0
        })
        .await;
    }

    /// Unfinished jobs of a kind that no worker holds, the oldest first, with their arguments as a handler gets them.
    pub async fn enqueued<J: Job>(&self) -> Vec<(JobId, J)> {
        let rows = sqlx::query!(
            r#"select tenant_id, id, args::text as "args!" from jobs where kind = $1 and leased_by is null order by id"#,
            J::KIND
        )
        .fetch_all(self.db.pool())
        .await
        .unwrap();
        let read = |tenant, job, args: &str| {
            let mut args = serde_json::from_str(args).unwrap();
            queue::open_args(&mut args, &J::MARKED, &keyring(), tenant, job).unwrap();
            (job, serde_json::from_value(args).unwrap())
        };
        rows.iter()
            .map(|row| read(TenantId::from_uuid(row.tenant_id), JobId::from_uuid(row.id), &row.args))
            .collect()
    }

    /// Fails the test unless such a job is unfinished, and answers the oldest.
    pub async fn assert_enqueued<J: Job>(&self, wanted: impl Fn(&J) -> bool) -> JobId {
        let jobs = self.enqueued::<J>().await;
        let Some((job, _)) = jobs.iter().find(|(_, args)| wanted(args)) else {
            let said: Vec<_> = jobs.iter().map(|(_, args)| serde_json::to_string(args).unwrap()).collect();
            panic!("no such {} among the {} that are enqueued: {said:?}", J::KIND, said.len());
        };
        *job
    }

    /// Fails the test if a job of the kind is unfinished.
    pub async fn assert_not_enqueued<J: Job>(&self) {
        let jobs = self.enqueued::<J>().await;
        assert!(jobs.is_empty(), "{} jobs of {} are enqueued", jobs.len(), J::KIND);
    }

    /// Fails the test if a job might run now.
    pub async fn assert_none_ready(&self) {
        let ready = sqlx::query_scalar!(
            "select kind from jobs where state in ('ready', 'scheduled') and run_at <= $1",
            self.clock.now().await
        );
        let ready = ready.fetch_all(self.db.pool()).await.unwrap();
        assert!(ready.is_empty(), "ready: {ready:?}");
    }

    /// How long until the next scheduled job is due.
    pub async fn next_due(&self) -> Option<Duration> {
        let next = sqlx::query_scalar!("select min(run_at) from jobs where state = 'scheduled'");
        let next = next.fetch_one(self.db.pool()).await.unwrap()?;
        Some((next - self.clock.now().await).to_std().unwrap_or_default())
    }

    /// Moves the clock to the next scheduled job's time.
    pub async fn advance_to_next(&self) -> Duration {
        let wait = self.next_due().await.expect("a job is scheduled");
        self.clock.advance(wait).await;
        wait
    }

    /// The test ends with so many unfinished jobs of this kind, on purpose.
    pub fn leaves<J: Job>(&self, jobs: usize) {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).insert(J::KIND, jobs);
    }
}

impl Deref for JobKit {
    type Target = ManualWorker;

    fn deref(&self) -> &ManualWorker {
        &self.worker
    }
}

impl Drop for JobKit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let expected = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let left = left_behind::in_database(self.db.server());
        let expected: BTreeMap<_, _> = expected.iter().filter(|(_, jobs)| **jobs > 0).collect();
        let differs = left.len() != expected.len()
            || left.iter().any(|(kind, jobs)| expected.get(&kind.as_str()).is_none_or(|n| **n != jobs.len()));
        assert!(!differs, "unfinished jobs at the end: {left:?}; the test said that it leaves {expected:?}");
    }
}
