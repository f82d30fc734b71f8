//! Telling idle workers and waiting requests that there is news, outside the commit path.
//!
//! A signal is a hint: losing one costs at most a poll interval, never a job. Inside a process it is a
//! [`Notify`]; between processes a `NOTIFY` from a connection of its own, at most one per channel and
//! [`COALESCE`], because `NOTIFY` in the enqueuing transaction would serialise commits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use db::Pool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;

use crate::Queue;

/// The shortest time between two signals of one process to the others.
pub const COALESCE: Duration = Duration::from_millis(20);

const CHANNEL: &str = "millpond_queue";
/// The payload that says that some job ended; the others are queue names.
const ENDED: &str = "ended";
/// The payload that says that a running job is to be stopped.
const CANCEL: &str = "cancel";

/// Sends and receives wake-up signals; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    ready: [Notify; Queue::ALL.len()],
    ended: Notify,
    cancel: Notify,
    /// One bit per queue, the next for ended jobs, the next for cancels: what other processes are still to be told.
    untold: AtomicU8,
    to_tell: Notify,
}

impl Waker {
    /// Signals within this process alone; [`relay`](Self::relay) carries them to others and back.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that a queue has ready jobs. Call it after the commit.
    pub fn wake(&self, queue: Queue) {
        self.0.ready[queue as usize].notify_one();
        self.tell(1 << queue as u8);
    }

    /// Says that several queues have ready jobs.
    pub fn wake_all(&self, queues: impl IntoIterator<Item = Queue>) {
        for queue in queues {
            self.wake(queue);
        }
    }

    /// Says that some job has ended, for those who wait for results.
    pub fn job_ended(&self) {
        self.0.ended.notify_one();
        self.tell(1 << Queue::ALL.len());
    }

    /// Says that a running job was cancelled, so that its worker looks now rather than with its next heartbeat. Call it
    /// after the commit.
    pub fn cancel(&self) {
        self.0.cancel.notify_one();
        self.tell(1 << (Queue::ALL.len() + 1));
    }

    /// Resolves when a running job may have been cancelled.
    pub async fn cancel_asked(&self) {
        self.0.cancel.notified().await;
    }

    /// Resolves when the queue may have work. One task per process and queue may wait.
    pub async fn ready(&self, queue: Queue) {
        self.0.ready[queue as usize].notified().await;
    }

    pub(crate) async fn some_job_ended(&self) {
        self.0.ended.notified().await;
    }

    fn tell(&self, bit: u8) {
        self.0.untold.fetch_or(bit, Ordering::Relaxed);
        self.0.to_tell.notify_one();
    }

    /// Carries signals to and from other processes until it is dropped. Run it in a task of its own, and only
    /// where the database connection supports `LISTEN`; without it, polling alone finds everything.
    pub async fn relay(self, pool: Pool) {
        tokio::join!(self.tell_others(&pool), self.hear_others(&pool));
    }

    async fn tell_others(&self, pool: &Pool) {
        loop {
            self.0.to_tell.notified().await;
            self.tell_now(pool).await;
            tokio::time::sleep(COALESCE).await;
        }
    }

    /// Tells other processes at once what they are still to be told: for a process that ends too soon for a
    /// [`relay`](Self::relay). That it failed is no error: they will poll.
    pub async fn tell_now(&self, pool: &Pool) {
        let untold = self.0.untold.swap(0, Ordering::Relaxed);
        let mut payloads: Vec<&str> = Vec::new();
        for queue in Queue::ALL {
            if untold & (1 << queue as u8) != 0 {
                payloads.push(queue.as_str());
            }
        }
        if untold & (1 << Queue::ALL.len()) != 0 {
            payloads.push(ENDED);
        }
        if untold & (1 << (Queue::ALL.len() + 1)) != 0 {
            payloads.push(CANCEL);
        }
        if payloads.is_empty() {
            return;
        }
        let told = sqlx::query!(
            // Nobody needs a signal to outlive the server: it does not wait for the disk.
            r#"select pg_notify($1, payload), set_config('synchronous_commit', 'off', true) as "lasts"
               from unnest($2::text[]) as payload"#,
            CHANNEL,
            &payloads as &[&str],
        )
        .fetch_all(pool)
        .await;
        if let Err(error) = told {
            tracing::debug!(%error, "other processes were not woken; they will poll");
        }
    }

    async fn hear_others(&self, pool: &Pool) {
        loop {
            if let Err(error) = self.listen(pool).await {
                tracing::debug!(%error, "not listening for wake-up signals; polling meanwhile");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn listen(&self, pool: &Pool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool.inner()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let signal = listener.recv().await?;
            match signal.payload() {
                ENDED => self.0.ended.notify_one(),
                CANCEL => self.0.cancel.notify_one(),
                name => {
                    if let Ok(queue) = name.parse::<Queue>() {
                        self.0.ready[queue as usize].notify_one();
                    }
                }
            }
        }
    }
}
