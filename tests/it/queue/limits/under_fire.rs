//! Limits of every shape at once, under workers that die: `bench -- limits` in small.

use queue::limits::Period;

use super::callers::{Buyer, CALLS, COST, Caller, Counts, Holder, KINDS, SLOTS, Vendor};
use super::*;
use crate::support::{TestWorker, WorkerOptions};

const PER_WINDOW: i64 = 24;
const AT_ONCE: i64 = 5;
const BUDGET_JOBS: i64 = 20;
const WINDOW: Duration = Duration::from_secs(1);
/// Workers that have nothing to do look rarely, as in production: three that look all the time take the machine from each
/// other.
const POLL: Duration = Duration::from_millis(100);
/// Long enough for a busy machine to answer a heartbeat: what workers that live lose by being late is not measured here.
const LEASE: Duration = Duration::from_secs(2);
/// Windows in a row of which little is wasted.
const WINDOWS: i64 = 7;
/// Windows in which there have to be as many in a row: a busy machine may stand still for longer than a window lasts.
const WINDOWS_MAX: i64 = 20;

#[tokio::test]
async fn no_limit_is_exceeded_while_workers_are_killed_and_little_of_them_is_wasted() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(
        pool,
        &[
            (CALLS, rate(PER_WINDOW, WINDOW)),
            (SLOTS, Shape::Concurrency { max: AT_ONCE }),
            ("test.budget", Shape::Budget { max_minor: COST * BUDGET_JOBS, period: Period::Month }),
        ],
    )
    .await;
    let (rated, calls) = Vendor::open(WINDOW);
    let (slotted, slots) = Vendor::open(WINDOW);
    let (paid, budget) = Vendor::open(WINDOW);
    let mut jobs = Vec::new();
    for _ in 0..PER_WINDOW * (WINDOWS_MAX + 2) {
        jobs.push(NewJob::of(&Caller { vendor: rated }).unwrap());
    }
    for _ in 0..5_000 {
        jobs.push(NewJob::of(&Holder { vendor: slotted }).unwrap());
    }
    for _ in 0..BUDGET_JOBS * 2 {
        jobs.push(NewJob::of(&Buyer { vendor: Some(paid), ..Buyer::default() }).unwrap());
    }
    let mut conn = pool.acquire().await.unwrap();
    queue::enqueue_many(&mut conn, jobs).await.unwrap();

    let start = || {
        let mut options = WorkerOptions::new(KINDS);
        options.settings.slots = [(Queue::Enrich, 12)].into();
        options.settings.poll = POLL;
        options.settings.lease = LEASE;
        options.start(&db)
    };
    let mut fleet: Vec<TestWorker> = (0..3).map(|_| start()).collect();
    let first = calls.window();
    // Of each window what a dead worker had drawn and not used, and one call in twenty.
    let used = |counts: &Counts, window: i64| {
        let calls: i64 = counts.windows.range(window - WINDOWS..window).map(|(_, calls)| calls).sum();
        calls + WINDOWS >= PER_WINDOW * WINDOWS * 95 / 100
    };
    let (mut kills, mut worked) = (0, 0);
    for window in first + 1.. {
        eventually("the window turns", async || calls.window() >= window).await;
        let spent = budget.counts().spent + kills * 12 * COST >= COST * BUDGET_JOBS;
        if kills > 3 && spent && used(&calls.counts(), window) && slots.counts().inside_max == AT_ONCE {
            break;
        }
        assert!(window - first < WINDOWS_MAX, "wasted: {calls:?} {slots:?} {budget:?}");
        // Every other window in which there is anybody to kill: on a busy machine a worker's start may take longer than that.
        worked += u32::from(calls.counts().windows.contains_key(&(window - 1)));
        if worked == 2 {
            fleet.remove(0).crash();
            fleet.push(start());
            kills += 1;
            worked = 0;
        }
    }
    for worker in fleet {
        worker.crash();
    }

    let (calls, slots, budget) = (calls.counts(), slots.counts(), budget.counts());
    let over: Vec<_> = calls.windows.iter().filter(|(_, calls)| **calls > PER_WINDOW).collect();
    assert!(over.is_empty(), "{over:?}");
    assert!(slots.inside_max <= AT_ONCE, "{slots:?}");
    assert!(budget.spent <= COST * BUDGET_JOBS, "{budget:?}");
}
