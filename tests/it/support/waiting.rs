//! Waiting for conditions instead of for time.

use std::time::{Duration, Instant};

use db::Pool;

/// The longest wait for anything; reached only when something is broken.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until the condition holds; panics with what was waited for.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(())).await;
}

/// Waits until there is something and answers it; panics with what was waited for.
pub async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "waited {} s in vain: {what}", WAIT_MAX.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// [`eventually`] for conditions that need no waiting themselves; its future may move between threads.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < until, "waited {} s in vain: {what}", WAIT_MAX.as_secs());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Awaits a future that must end; panics with what was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WAIT_MAX, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain: {what}", WAIT_MAX.as_secs()),
    }
}

/// Waits until so many statements of this database wait for other transactions.
pub async fn so_many_wait(pool: &Pool, statements: i64) {
    eventually("statements wait for a lock", async || {
        let waiting = sqlx::query_scalar!(
            r#"select count(*) as "waiting!" from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'"#
        )
        .fetch_one(pool)
        .await
        .unwrap();
        waiting >= statements
    })
    .await;
}
