//! Attempts that take too long.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use jobs::{Context, Entry, Handler, entry};
use queue::{Job, JobError, JobStatus, NewJob, Outcome, Policy, Queue, TIMEOUT};
use serde::{Deserialize, Serialize};

use super::*;
use crate::support::{TestDb, TestWorker, WAIT_MAX, WorkerOptions, eventually};

const KINDS: &[Entry] = &[entry::<HalfASecond>(), entry::<Stubborn>(), entry::<Scripted>()];
const LIMIT: Duration = Duration::from_millis(500);

/// Never ends, and may for half a second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct HalfASecond {}

impl Job for HalfASecond {
    const KIND: &'static str = "test.half_a_second";
    const POLICY: Policy =
        Policy { queue: Queue::Enrich, attempts_max: 1, timeout: LIMIT, ..Policy::DEFAULT };
}

impl Handler for HalfASecond {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        std::future::pending().await
    }
}

/// Holds its thread until the test lets go, whatever it is told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stubborn {}

static LET_GO: LazyLock<Mutex<HashSet<JobId>>> = LazyLock::new(Mutex::default);
static GONE: LazyLock<Mutex<HashSet<JobId>>> = LazyLock::new(Mutex::default);

impl Job for Stubborn {
    const KIND: &'static str = "test.stubborn";
    const POLICY: Policy =
        Policy { attempts_max: 1, timeout: Duration::from_millis(200), ..HalfASecond::POLICY };
}

impl Handler for Stubborn {
    async fn run(self, cx: Context) -> Result<Outcome, JobError> {
        let until = std::time::Instant::now() + WAIT_MAX;
        while !LET_GO.lock().unwrap().contains(&cx.job()) && std::time::Instant::now() < until {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
        }
        GONE.lock().unwrap().insert(cx.job());
        Ok(Outcome::Done(Some(Value::from("after all"))))
    }
}

async fn ended(db: &TestDb, job: JobId) -> JobRecord {
    eventually("the job ends", async || state(db.pool(), job).await.is_none()).await;
    record(db.pool(), job).await
}

#[tokio::test]
async fn a_timeout_is_kept_to_a_fifth_of_a_second() {
    let db = TestDb::new().await;
    let _worker = TestWorker::start(&db, KINDS);
    let mut late = Vec::new();
    for _ in 0..5 {
        let job = stored(db.pool(), NewJob::of(&HalfASecond {}).unwrap()).await;
        let record = ended(&db, job).await;
        assert_eq!(record.failure.unwrap().code, TIMEOUT);
        let took = (record.finished_at.unwrap() - record.started_at.unwrap()).to_std().unwrap();
        late.push(took.checked_sub(LIMIT).expect("not before its time"));
    }
    late.sort();
    // The median: a busy machine may delay one or two.
    assert!(late[2] < Duration::from_millis(200), "{late:?}");
}

#[tokio::test]
async fn a_handler_that_holds_its_thread_loses_its_slot_and_its_word() {
    let db = TestDb::new().await;
    let mut options = WorkerOptions::new(KINDS);
    options.settings.slots = [(Queue::Enrich, 1)].into();
    options.threads = 3;
    let _worker = options.start(&db);
    let stubborn = stored(db.pool(), NewJob::of(&Stubborn {}).unwrap()).await;
    eventually("it runs", async || state(db.pool(), stubborn).await.as_deref() == Some("running")).await;
    let next = stored(db.pool(), plain()).await;
    let next = ended(&db, next).await;
    assert_eq!(next.status, JobStatus::Completed, "in the only slot there is");
    assert!(!GONE.lock().unwrap().contains(&stubborn), "while the other still holds its thread");
    let failed = record(db.pool(), stubborn).await;
    assert_eq!((failed.status, failed.failure.unwrap().code.as_str()), (JobStatus::Failed, TIMEOUT));

    LET_GO.lock().unwrap().insert(stubborn);
    eventually("it lets go", async || GONE.lock().unwrap().contains(&stubborn)).await;
    let later = stored(db.pool(), plain()).await;
    assert_eq!(ended(&db, later).await.status, JobStatus::Completed, "and nobody is confused by it");
    assert_eq!(record(db.pool(), stubborn).await.result, None);
}
