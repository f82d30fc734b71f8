//! Serves a router over HTTP/1.1 until it is told to stop.
//!
//! Guarantees: at most `connections_max` connections are open, further ones wait in the kernel's queue; a client
//! that does not finish its request head in time is disconnected; on shutdown no connection is accepted, answers
//! under way may end within the drain time, and then everything is cut. An accept error never ends the server.
//!
//! hyper is driven directly because `axum::serve` sets no timer, without which the head timeout never fires.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long accepting pauses after an error such as "too many open files": without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections open at once.
    pub connections_max: usize,
    /// A request head must have arrived by then, and an idle connection must have begun its next one.
    pub header_read_timeout: Duration,
    /// On shutdown, answers under way may take this long.
    pub drain_timeout: Duration,
}

impl From<&config::HttpSettings> for ServerLimits {
    fn from(settings: &config::HttpSettings) -> Self {
        Self {
            connections_max: settings.connections_max,
            header_read_timeout: Duration::from_millis(settings.header_read_timeout_ms),
            drain_timeout: Duration::from_secs(settings.drain_timeout_s),
        }
    }
}

/// Serves `router` on `listener` until `stop` is cancelled and connections have ended or the drain time is over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else { break };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .serve_connection(TokioIo::new(stream), service(router.clone(), peer));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut connections that did not end in time");
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection, once there is a place for it. `None` only if places were closed, which nobody does.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and whole: waiting to fill packets only delays them.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The router as hyper wants it, with the peer's address on every request.
fn service(
    router: Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    })
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn limits() -> ServerLimits {
        ServerLimits {
            connections_max: 8,
            header_read_timeout: Duration::from_millis(50),
            drain_timeout: Duration::from_millis(50),
        }
    }

    async fn started(
        router: Router,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits(), stop.clone()));
        (address, stop, server)
    }

    async fn all_of(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut bytes)).await;
        let _ = read.expect("the server must end the connection");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn an_unfinished_head_is_disconnected() {
        let (address, stop, server) = started(Router::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await.unwrap();
        let answer = all_of(stream).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        stop.cancel();
        tokio::time::timeout(BOUND, server).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_handler_sees_its_peer_and_shutdown_waits_for_its_answer() {
        let stop_from_inside = CancellationToken::new();
        let stop_it = stop_from_inside.clone();
        let router = Router::new().route(
            "/",
            get(move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                stop_it.cancel();
                tokio::task::yield_now().await;
                peer.ip().to_string()
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, router, limits(), stop_from_inside));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let answer = all_of(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
        tokio::time::timeout(BOUND, server).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_cut_at_the_end_of_the_drain_time() {
        let router = Router::new().route("/", get(std::future::pending::<()>));
        let (address, stop, server) = started(router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stop.cancel();
        tokio::time::timeout(BOUND, server).await.unwrap().unwrap().unwrap();
        assert_eq!(all_of(stream).await, "");
    }
}
