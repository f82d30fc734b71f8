//! Signals between processes.

use std::time::Duration;

use queue::{Queue, Waker};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{TestDb, eventually, pointless_behind_a_pooler, within};

const LISTENS: &str = "LISTEN takes a session of its own";

/// Two processes with a connection pool each.
fn relayed(db: &TestDb) -> (Waker, Waker, JoinSet<()>) {
    let (here, there) = (Waker::new(), Waker::new());
    let mut relays = JoinSet::new();
    relays.spawn(here.clone().relay(db.connect_more(2)));
    relays.spawn(there.clone().relay(db.connect_more(2)));
    (here, there, relays)
}

/// Signals are hints, so the first may go before the other side listens.
async fn reaches(what: &str, mut send: impl FnMut(), receive: impl AsyncFn()) {
    eventually(what, async || {
        send();
        timeout(Duration::from_millis(200), receive()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn waking_a_queue_wakes_it_in_other_processes_too() {
    if pointless_behind_a_pooler("waking other processes", LISTENS) {
        return;
    }
    let db = TestDb::new().await;
    let (here, there, _relays) = relayed(&db);
    for queue in Queue::ALL {
        reaches("the other process is woken", || here.wake(queue), async || there.ready(queue).await).await;
    }
}

#[tokio::test]
async fn a_signal_inside_a_process_needs_no_database() {
    let waker = Waker::new();
    waker.wake_all([Queue::Webhooks, Queue::Enrich]);
    within("the queue to be woken", waker.ready(Queue::Enrich)).await;
    within("the other queue to be woken", waker.ready(Queue::Webhooks)).await;
    assert!(timeout(Duration::from_millis(5), waker.ready(Queue::Maintenance)).await.is_err());
}

#[tokio::test]
async fn listening_is_taken_up_again_after_the_connection_was_lost() {
    if pointless_behind_a_pooler("listening again after a lost connection", LISTENS) {
        return;
    }
    let db = TestDb::new().await;
    let (here, there, _relays) = relayed(&db);
    let wake = || here.wake(Queue::Enrich);
    reaches("the other process is woken", wake, async || there.ready(Queue::Enrich).await).await;
    sqlx::query!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    reaches("the other process is woken again", wake, async || there.ready(Queue::Enrich).await).await;
}
