//! The terms on which a pool lends its connections, and the watch over statements that run on them.
//!
//! A connection may be dead without anybody knowing: cut by a router that said nothing, or frozen with its server. A
//! statement on it would wait for as long as the kernel repeats packets, a quarter of an hour. So whoever is not
//! answered within [`Terms::answer_timeout`] is given an error, as if the connection had been closed; and once one has
//! failed in whatever way, those that lay idle at that time are tried before they are lent again.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use futures::stream::BoxStream;
use sqlx::{Connection as _, Error, PgConnection};
use tokio::time::{Sleep, sleep, timeout};

use crate::connection::Step;

/// How long a connection may take to come back to its pool: it is rolled back and tried there.
pub(crate) const RETURN_MAX: Duration = Duration::from_secs(2);
/// How long one that lay idle while another failed may take to answer.
const PROBE_MAX: Duration = Duration::from_secs(1);

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
}

impl Trouble {
    /// Tries a connection that lay idle when another one failed.
    ///
    /// # Errors
    /// When it has failed as well.
    pub(crate) async fn probe(
        self,
        connection: &mut PgConnection,
        idle_for: Duration,
    ) -> Result<bool, Error> {
        let failed_at = self.0.load(Ordering::Relaxed);
        let idle_ms = u64::try_from(idle_for.as_millis()).unwrap_or(u64::MAX);
        if failed_at == 0 || failed_at < now_ms().saturating_sub(idle_ms) {
            return Ok(true);
        }
        timeout(PROBE_MAX, connection.ping()).await.map_err(|_| unanswered(PROBE_MAX))??;
        Ok(true)
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
    let answer = match terms.answer_timeout {
        Some(limit) => timeout(limit, statement).await.unwrap_or_else(|_| Err(unanswered(limit))),
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
    patience: Option<Pin<Box<Sleep>>>,
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
                let Some(limit) = this.terms.answer_timeout else { return Poll::Pending };
                let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
                if patience.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.terms.trouble();
                Poll::Ready(Some(Err(unanswered(limit))))
            }
        }
    }
}
