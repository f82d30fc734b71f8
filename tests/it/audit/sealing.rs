//! How entries become a chain.

use std::time::Duration;

use futures::future::join_all;

use super::*;
use crate::support::{WorkerOptions, eventually};

#[tokio::test]
async fn a_change_that_is_rolled_back_leaves_no_entry() {
    let db = TestDb::new().await;
    let mut tx = db::begin(db.pool()).await.unwrap();
    let door = crate::support::door();
    let scope = queue::Scope { queue: queue::Queue::Enrich, kind: None };
    jobs::queues::pause(&mut tx, &door, &scope).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(log(&db).await, []);
    assert_eq!(::audit::unsealed(&mut db.pool().acquire().await.unwrap()).await.unwrap().entries, 0);
    assert!(queue::pauses(db.pool()).await.unwrap().is_empty());
}

#[tokio::test]
async fn eight_writers_and_two_sealers_make_one_chain() {
    const EACH: usize = 40;
    let db = TestDb::new().await;
    let (pool, sealers) = (db.pool(), db.connect_more(4));
    let writers = async {
        let write = async |writer: usize| {
            for n in 0..EACH {
                recorded(pool, &format!("{writer}-{n}")).await;
            }
        };
        join_all((0..8).map(write)).await;
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let seal = async || {
        let mut entries = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            // In small pieces, so that they meet often.
            let mut tx = db::begin(&sealers).await.unwrap();
            entries += ::audit::seal(&mut tx, &keyring(), 7).await.unwrap().entries;
            tx.commit().await.unwrap();
        }
        entries
    };
    let write = async {
        writers.await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let ((), one, other) = tokio::join!(write, seal(), seal());
    let rest = sealed(pool).await;
    assert_eq!(one + other + rest, 8 * EACH);
    let verified = verified(pool, None).await;
    assert_eq!((verified.entries, verified.findings), (8 * EACH as u64, Vec::new()));
    assert_eq!(verified.head.map(|head| head.seq), Some(8 * EACH as i64), "no number twice, none left out");
}

#[tokio::test]
async fn entries_are_sealed_within_a_second_while_a_worker_leads() {
    let db = TestDb::new().await;
    let worker = WorkerOptions::new(jobs::ALL).start(&db);
    recorded(db.pool(), "a").await;
    eventually("somebody leads", async || log(&db).await[0].seq.is_some()).await;
    let mut longest = Duration::ZERO;
    for target in ["b", "c", "d", "e"] {
        recorded(db.pool(), target).await;
        let began = std::time::Instant::now();
        eventually("it is sealed", async || log(&db).await.iter().all(|entry| entry.seq.is_some())).await;
        longest = longest.max(began.elapsed());
    }
    // A loaded machine takes its time; the promise is for one that keeps up.
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    worker.stop().await;
    assert_eq!(findings(db.pool()).await, []);
}

#[tokio::test]
async fn what_waits_is_counted_with_its_age() {
    let db = TestDb::new().await;
    let waiting = async || ::audit::unsealed(&mut db.pool().acquire().await.unwrap()).await.unwrap();
    assert_eq!(waiting().await, ::audit::Unsealed::default());
    recorded(db.pool(), "a").await;
    recorded(db.pool(), "b").await;
    let seen = waiting().await;
    assert_eq!((seen.entries, seen.oldest.is_some()), (2, true));
    sealed(db.pool()).await;
    assert_eq!(waiting().await, ::audit::Unsealed::default());
}
