//! Permits of each shape, drawn by hand.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;

use super::*;
use crate::support::{JobKit, WAIT_MAX};

/// Moves the clock to the middle of the next window.
async fn next_window(kit: &JobKit, window: Duration) {
    let now_ms = kit.clock.now().await.timestamp_millis();
    let window_ms = i64::try_from(window.as_millis()).unwrap();
    let to_middle = window_ms - now_ms.rem_euclid(window_ms) + window_ms / 2;
    kit.clock.advance(Duration::from_millis(to_middle.unsigned_abs())).await;
}

#[tokio::test]
async fn a_window_is_used_up_until_the_clock_turns_it() {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    let window = Duration::from_secs(900);
    define(pool, &[("calls", rate(3, window))]).await;
    let (permits, process) = (Permits::new(pool.clone()), process(pool).await);
    for _ in 0..2 {
        next_window(&kit, window).await;
        for _ in 0..3 {
            drop(granted(draw(pool, &permits, process, &[("calls", "")]).await));
        }
        let (wait, limit) = waits(draw(pool, &permits, process, &[("calls", "")]).await);
        assert_eq!(limit, "calls");
        assert!(wait >= window / 2 && wait < window / 2 + Duration::from_secs(1), "{wait:?}");
        assert_eq!(level(pool, "calls", "").await.used, 3);
    }
}

#[tokio::test]
async fn no_permit_is_given_at_the_edge_of_a_window_where_the_vendor_may_count_it_in_the_next() {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    let window = Duration::from_secs(10);
    define(pool, &[("calls", rate(3, window))]).await;
    let (permits, process) = (Permits::new(pool.clone()), process(pool).await);
    next_window(&kit, window).await;
    kit.clock.advance(window / 2 - Duration::from_millis(10)).await;
    let (wait, _) = waits(draw(pool, &permits, process, &[("calls", "")]).await);
    assert!(wait >= Duration::from_millis(10) && wait < Duration::from_millis(200), "{wait:?}");
    kit.clock.advance(wait).await;
    drop(granted(draw(pool, &permits, process, &[("calls", "")]).await));
}

#[tokio::test]
async fn a_permit_is_drawn_from_all_limits_or_from_none() {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    define(pool, &[("calls", rate(10, HOUR)), ("slots", Shape::Concurrency { max: 1 })]).await;
    next_window(&kit, HOUR).await;
    let (permits, process) = (Permits::new(pool.clone()), process(pool).await);
    let both = [("calls", ""), ("slots", "")];
    let first = granted(draw(pool, &permits, process, &both).await);
    assert_eq!(waits(draw(pool, &permits, process, &both).await).1, "slots");
    assert_eq!(level(pool, "calls", "").await.used, 1);
    first.finish().await;
    drop(granted(draw(pool, &permits, process, &both).await));
    assert_eq!(level(pool, "calls", "").await.used, 2);
}

#[tokio::test]
async fn each_key_has_a_bucket_of_its_own() {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    define(pool, &[("calls", rate(1, HOUR))]).await;
    next_window(&kit, HOUR).await;
    let (permits, process) = (Permits::new(pool.clone()), process(pool).await);
    for key in ["one", "other"] {
        drop(granted(draw(pool, &permits, process, &[("calls", key)]).await));
        waits(draw(pool, &permits, process, &[("calls", key)]).await);
    }
}

#[tokio::test]
async fn what_the_other_side_says_blocks_every_process_and_no_other_key() {
    let kit = JobKit::new().await;
    let pool = kit.db.pool();
    define(pool, &[("calls", rate(100, HOUR)), ("slots", Shape::Concurrency { max: 9 })]).await;
    next_window(&kit, HOUR).await;
    let minute = Duration::from_secs(60);
    limits::tighten(pool, "calls", "one", Some(minute)).await.unwrap();
    limits::tighten(pool, "calls", "one", Some(minute / 2)).await.unwrap();
    for process in [process(pool).await, process(pool).await] {
        let permits = Permits::new(pool.clone());
        let (wait, _) = waits(draw(pool, &permits, process, &[("calls", "one"), ("slots", "")]).await);
        assert!(wait > minute / 2 && wait <= minute, "the longer wish counts: {wait:?}");
        drop(granted(draw(pool, &permits, process, &[("calls", "other")]).await));
    }
    assert!(level(pool, "calls", "one").await.blocked_until.is_some());

    kit.clock.advance(minute).await;
    let (permits, process) = (Permits::new(pool.clone()), process(pool).await);
    drop(granted(draw(pool, &permits, process, &[("calls", "one")]).await));
    // It did not say how long.
    limits::tighten(pool, "calls", "one", None).await.unwrap();
    let (wait, _) = waits(draw(pool, &permits, process, &[("calls", "one")]).await);
    assert!(wait > HOUR / 4, "until the window ends: {wait:?}");
    limits::unblock(&mut pool.acquire().await.unwrap(), "calls").await.unwrap();
    drop(granted(draw(pool, &permits, process, &[("calls", "one")]).await));
}

#[tokio::test]
async fn two_processes_that_draw_at_once_never_draw_more_than_a_window_holds() {
    const MAX: usize = 20;
    const WINDOW_MS: i64 = 400;
    let db = TestDb::new().await;
    let window = Duration::from_millis(400);
    define(db.pool(), &[("calls", rate(MAX as i64, window))]).await;
    let drawn: Mutex<BTreeMap<i64, usize>> = Mutex::default();
    let number = || kernel::clock::now().timestamp_millis().div_euclid(WINDOW_MS);
    // A permit that came too late on a busy machine is not used, so not every window is; three must be.
    let used_up = || drawn.lock().unwrap().values().filter(|drawn| **drawn >= MAX).count();
    let last = number() + WAIT_MAX.as_millis() as i64 / WINDOW_MS;
    let caller = async |permits: &Permits, process: Uuid| {
        while used_up() < 3 && number() < last {
            if let Draw::Granted(_) = draw(db.pool(), permits, process, &[("calls", "")]).await {
                *drawn.lock().unwrap().entry(number()).or_default() += 1;
            }
        }
    };
    let permits = [Permits::new(db.pool().clone()), Permits::new(db.pool().clone())];
    let processes = [process(db.pool()).await, process(db.pool()).await];
    join_all((0..10).map(|n| caller(&permits[n % 2], processes[n % 2]))).await;
    assert!(used_up() >= 3, "no window was used up: {drawn:?}");
    let drawn = drawn.into_inner().unwrap();
    assert!(drawn.values().all(|drawn| *drawn <= MAX), "a window was exceeded: {drawn:?}");
}

#[tokio::test]
async fn so_many_are_under_way_at_once_and_no_more() {
    const MAX: i64 = 3;
    let db = TestDb::new().await;
    define(db.pool(), &[("slots", Shape::Concurrency { max: MAX })]).await;
    let (inside, most, calls) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    let caller = async |permits: &Permits, process: Uuid| {
        while calls.load(Ordering::SeqCst) < 60 {
            if let Draw::Granted(permit) = draw(db.pool(), permits, process, &[("slots", "")]).await {
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                calls.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
            }
        }
    };
    let permits = [Permits::new(db.pool().clone()), Permits::new(db.pool().clone())];
    let processes = [process(db.pool()).await, process(db.pool()).await];
    join_all((0..8).map(|n| caller(&permits[n % 2], processes[n % 2]))).await;
    assert!(most.into_inner() <= MAX);
    eventually("all slots are given back", async || level(db.pool(), "slots", "").await.used == 0).await;
}

#[tokio::test]
async fn slots_of_dead_processes_are_free_and_forgotten_ones_are_found() {
    let db = TestDb::new().await;
    let pool = db.pool();
    define(pool, &[("slots", Shape::Concurrency { max: 1 })]).await;
    let (dead, alive) = (process(pool).await, process(pool).await);
    let (its, ours) = (Permits::new(pool.clone()), Permits::new(pool.clone()));
    let kept = granted(draw(pool, &its, dead, &[("slots", "")]).await);
    waits(draw(pool, &ours, alive, &[("slots", "")]).await);
    silence(pool, dead).await;
    queue::sweep(pool, LONG).await.unwrap();
    let held = granted(draw(pool, &ours, alive, &[("slots", "")]).await);

    assert_eq!(limits::clean_holds(pool, alive, &ours).await.unwrap(), 1, "that of the dead");
    assert_eq!(level(pool, "slots", "").await.used, 1, "ours is held");
    // As if the answer to our draw had been lost: nobody here knows of the slot.
    let forgetful = Permits::new(pool.clone());
    assert_eq!(limits::clean_holds(pool, alive, &forgetful).await.unwrap(), 1);
    drop(granted(draw(pool, &ours, alive, &[("slots", "")]).await));
    drop((kept, held));
}
