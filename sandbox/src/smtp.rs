//! A mail server that delivers to nobody: whatever it takes lies in the [`mailbox`](crate::mailbox) to be looked at.
//!
//! It speaks SMTP as RFC 5321 says, with pipelining, 8-bit content, UTF-8 addresses, a size limit, and AUTH PLAIN and
//! LOGIN with the sandbox's token as password; who does not authenticate is served as well. It has no TLS.
//!
//! Guarantees: at most 256 connections at once, further ones wait; lines, recipients and messages are bounded; a client
//! that says nothing for a minute is cut off. Calls are counted and meet their faults at three moments, each an operation
//! of the vendor `smtp`: `connect` (in place of the greeting), `recipient` and `message` (its handle is the address).

mod reply;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Shared;

const CONNECTIONS_MAX: usize = 256;
/// After a refused accept (usually: no file descriptors left) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A mail server in the background, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct MailServer {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl MailServer {
    pub(crate) fn spawn(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, shared, stop.clone()));
        Self { stop: stop.drop_guard(), task }
    }

    /// Stops listening and cuts what is connected: a client of mail is used to that.
    pub(crate) async fn shutdown(self) {
        drop(self.stop);
        // The task cannot be cancelled from elsewhere; if it panicked there is nothing left to stop.
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        if let Err(ended) = session::serve(stream, &shared).await {
                            tracing::debug!(error = %ended, "a mail connection ended early");
                        }
                        drop(slot);
                    });
                }
                Err(refused) => {
                    tracing::warn!(error = %refused, "the mail server could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
    drop(listener);
    connections.shutdown().await;
}
