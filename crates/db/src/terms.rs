//! The terms on which a pool lends its connections, and the watch over statements that run on them.
//!
//! A connection may be dead without anybody knowing: cut by a router that said nothing, or frozen with its server. A
//! statement on it would wait for as long as the kernel repeats packets, a quarter of an hour. So whoever is not
//! answered within [`Terms::answer_timeout`] is given an error, as if the connection had been closed; and once one has
//! failed in whatever way, those that lay idle at that time are not lent again (new ones are made sooner than silent ones
//! can be told from good ones), and those that are waiting for an answer are given a fifth of the time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::stream::BoxStream;
use sqlx::Error;
use tokio::time::{Sleep, sleep};

use crate::connection::Step;

/// How long a connection may take to come back to its pool: it is rolled back and tried there.
pub(crate) const RETURN_MAX: Duration = Duration::from_secs(2);

/// On which terms connections are lent.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// See [`ConnectOptions::prepared`](crate::ConnectOptions::prepared).
    pub(crate) prepared: bool,
    /// See [`ConnectOptions::answer_timeout`](crate::ConnectOptions::answer_timeout).
    pub(crate) answer_timeout: Option<Duration>,
    trouble: Trouble,
}

/// When a connection last failed, in milliseconds of this process; 0 if none has. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<AtomicU64>);

impl Terms {
    pub(crate) const fn new(prepared: bool, answer_timeout: Option<Duration>, trouble: Trouble) -> Self {
        Self { prepared, answer_timeout, trouble }
    }

    /// A connection failed: others may have.
    pub(crate) fn trouble(&self) {
        self.trouble.0.store(now_ms(), Ordering::Relaxed);
    }

    /// The patience with a statement that is about to be sent.
    fn patience(&self) -> Option<Patience> {
        self.answer_timeout.map(|limit| Patience {
            limit,
            since_ms: now_ms(),
            trouble: self.trouble.clone(),
            sleep: Box::pin(sleep(LOOK_EVERY.min(limit))),
        })
    }
}

impl Trouble {
    /// Refuses a connection that lay idle when another one failed.
    ///
    /// # Errors
    /// That it did; the pool then closes it without a word, and looks for another.
    pub(crate) fn refuse_older(&self, idle_for: Duration) -> Result<bool, Error> {
        let failed_at = self.0.load(Ordering::Relaxed);
        let idle_ms = u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX);
        if failed_at == 0 || failed_at < now_ms().saturating_sub(idle_ms) {
            return Ok(true);
        }
        Err(Error::Io(std::io::Error::other("it lay idle when another connection failed")))
    }
}

/// How long somebody waits for an answer.
struct Patience {
    limit: Duration,
    since_ms: u64,
    trouble: Trouble,
    sleep: Pin<Box<Sleep>>,
}

/// How often those who wait look whether other connections have failed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Patience {
    /// Whether it is at an end, with the error that this is.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let waited = Duration::from_millis(now_ms().saturating_sub(self.since_ms));
            let others_failed = self.trouble.0.load(Ordering::Relaxed) > self.since_ms;
            let limit =
                if others_failed { (self.limit / 5).max(LOOK_EVERY).min(self.limit) } else { self.limit };
            if waited >= limit {
                return Poll::Ready(unanswered(waited));
            }
            self.sleep.set(sleep(LOOK_EVERY.min(limit - waited)));
        }
    }
}

/// Milliseconds since this process first asked, and one more.
fn now_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

fn unanswered(waited: Duration) -> Error {
    let words = format!("the database did not answer within {:.1} s", waited.as_secs_f64());
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, words))
}

/// Whether nothing more will come over a connection on which this happened.
fn is_broken(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => true,
        // The server says good-bye, or never was ready.
        Error::Database(refusal) => {
            refusal.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Notes what a statement has come to.
fn settle(terms: &Terms, settled: &mut bool, error: Option<&Error>) {
    match error.filter(|error| is_broken(error)) {
        Some(_) => terms.trouble(),
        None => *settled = true,
    }
}

/// Runs a statement with a single answer. Dropped before it, it leaves the connection unsettled.
pub(crate) async fn in_time<T>(
    terms: &Terms,
    settled: &mut bool,
    statement: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    *settled = false;
    let answer = match terms.patience() {
        Some(mut patience) => tokio::select! {
            biased;
            answer = statement => answer,
            error = poll_fn(|cx| patience.poll_ended(cx)) => Err(error),
        },
        None => statement.await,
    };
    settle(terms, settled, answer.as_ref().err());
    answer
}

/// A statement whose answer comes in steps. Dropped before the last, it leaves the connection unsettled.
pub(crate) struct Watched<'e> {
    steps: BoxStream<'e, Result<Step, Error>>,
    terms: &'e Terms,
    settled: &'e mut bool,
    /// Runs while the next step is waited for.
    patience: Option<Patience>,
}

impl<'e> Watched<'e> {
    pub(crate) fn new(
        terms: &'e Terms,
        settled: &'e mut bool,
        steps: BoxStream<'e, Result<Step, Error>>,
    ) -> Self {
        *settled = false;
        Self { steps, terms, settled, patience: None }
    }
}

impl Stream for Watched<'_> {
    type Item = Result<Step, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.steps.as_mut().poll_next(cx) {
            Poll::Ready(step) => {
                this.patience = None;
                match &step {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => settle(this.terms, this.settled, Some(error)),
                    None => settle(this.terms, this.settled, None),
                }
                Poll::Ready(step)
            }
            Poll::Pending => {
                if this.patience.is_none() {
                    this.patience = this.terms.patience();
                }
                let Some(patience) = &mut this.patience else { return Poll::Pending };
                let Poll::Ready(error) = patience.poll_ended(cx) else { return Poll::Pending };
                this.terms.trouble();
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
