//! The listening socket and its connections.
//!
//! Guarantees: at most 4,096 connections at once, further ones wait; a peer that sends no request head is cut off. A
//! service that fails closes its connection without an answer, which is how dropped connections are made.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

use crate::fault_bodies::DropConnection;

const CONNECTIONS_MAX: usize = 4_096;
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// After a refused accept (usually: no file descriptors left) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server in the background, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) fn spawn(listener: TcpListener, router: Router) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, stop.clone()));
        Self { stop: stop.drop_guard(), task }
    }

    /// Stops accepting, lets connections end for a while, then cuts them.
    pub(crate) async fn shutdown(self) {
        drop(self.stop);
        // The task cannot be cancelled from elsewhere; if it panicked there is nothing left to stop.
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = graceful.watch(connection(stream, router.clone()));
                    connections.spawn(async move {
                        if let Err(ended) = connection.await {
                            tracing::debug!(error = %ended, "a sandbox connection ended early");
                        }
                        drop(slot);
                    });
                }
                Err(refused) => {
                    tracing::warn!(error = %refused, "the sandbox could not accept a connection");
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
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::debug!("sandbox connections were cut off");
    }
    connections.shutdown().await;
}

/// Why a service gives no answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on demand")]
struct Dropped;

fn connection(
    stream: TcpStream,
    router: Router,
) -> impl GracefulConnection<Error = hyper::Error, Output = hyper::Result<()>> {
    // Answers are small and each is awaited: do not hold them back.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let answered: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            match answered {
                Ok(response) if response.extensions().get::<DropConnection>().is_none() => Ok(response),
                _ => Err(Dropped),
            }
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
}
