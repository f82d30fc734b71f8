//! Running parts, each in a task of its own, stopped one after the other.
//!
//! Guarantees: parts are stopped in the order in which they were started, each after the one before has ended; a part
//! that ends or panics although nobody asked it to is noticed at once. Parts bound their own endings.

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

/// The parts of one process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    parts: Vec<Part>,
    ended: Mutex<mpsc::UnboundedReceiver<CliError>>,
    tell_ended: mpsc::UnboundedSender<CliError>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Without any part yet.
    pub(crate) fn new() -> Self {
        let (tell_ended, ended) = mpsc::unbounded_channel();
        Self { parts: Vec::new(), ended: Mutex::new(ended), tell_ended }
    }

    /// Starts a part that ends soon after `stop` is cancelled.
    pub(crate) fn spawn<E>(
        &mut self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let (tell_ended, asked) = (self.tell_ended.clone(), stop.clone());
        let work = tokio::spawn(work);
        let task = tokio::spawn(async move {
            let failure = match work.await {
                Ok(Ok(())) if asked.is_cancelled() => return,
                Ok(Ok(())) => CliError::part(name, "it ended although nobody asked it to"),
                Ok(Err(error)) => CliError::part(name, error),
                Err(panic) => CliError::part(name, panic),
            };
            // Nobody listens any more when the process is at its end.
            let _ = tell_ended.send(failure);
        });
        self.parts.push(Part { name, stop: stop.clone(), task });
    }

    /// Waits until a part fails.
    pub(crate) async fn failure(&self) -> CliError {
        match self.ended.lock().await.recv().await {
            Some(error) => error,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Stops all parts. The first failure on the way is the answer, after everything has ended.
    pub(crate) async fn stop(mut self) -> Result<(), CliError> {
        for part in self.parts.drain(..) {
            tracing::debug!(part = part.name, "stopping");
            part.stop.cancel();
            // It catches panics of the part and has none of its own.
            let _ = part.task.await;
        }
        self.ended.into_inner().try_recv().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn parts_are_stopped_one_after_the_other() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::new();
        for name in ["first", "second", "third"] {
            let (stop, order) = (CancellationToken::new(), order.clone());
            let asked = stop.clone();
            supervisor.spawn(name, &stop, async move {
                asked.cancelled().await;
                tokio::task::yield_now().await;
                order.lock().unwrap().push(name);
                Ok::<_, Infallible>(())
            });
        }
        supervisor.stop().await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["first", "second", "third"]);
    }

    #[tokio::test]
    async fn a_part_that_panics_or_ends_early_is_noticed() {
        for panics in [true, false] {
            let mut supervisor = Supervisor::new();
            supervisor.spawn("the part", &CancellationToken::new(), async move {
                assert!(!panics, "it panics");
                Ok::<_, Infallible>(())
            });
            let failure = supervisor.failure().await;
            assert_eq!(failure.to_string(), "the part failed");
            supervisor.stop().await.unwrap();
        }
    }
}
