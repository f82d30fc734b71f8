//! Serves a router over HTTP/1.1, in clear or by TLS 1.3, until it is told to stop.
//!
//! Guarantees: at most `connections_max` connections are open, and who does nothing keeps nobody out (see `places`); a
//! client that does not finish its handshake or its request head in time, or does not read its answer, is
//! disconnected; on shutdown no connection is accepted, answers under way may end within the drain time, and then
//! everything is cut. An accept error never ends the server.
//!
//! hyper is driven directly because `axum::serve` sets no timer, without which the head timeout never fires.

mod places;
mod tls;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use places::{Activity, Place, Places};
pub use tls::{Tls, TlsError};
use watched::{Coming, Going};

/// How long accepting pauses after an error such as "too many open files": without a pause it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest request head, and most that is read ahead of a connection's requests.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What bounds the server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections open at once.
    pub connections_max: usize,
    /// A handshake and a request head must each have arrived by then, and an idle connection must have begun its next
    /// one.
    pub header_read_timeout: Duration,
    /// A client must take something of its answer within this time.
    pub write_timeout: Duration,
    /// On shutdown, answers under way may take this long.
    pub drain_timeout: Duration,
}

impl From<&config::HttpSettings> for ServerLimits {
    fn from(settings: &config::HttpSettings) -> Self {
        Self {
            connections_max: settings.connections_max,
            header_read_timeout: Duration::from_millis(settings.header_read_timeout_ms),
            write_timeout: Duration::from_millis(settings.write_timeout_ms),
            drain_timeout: Duration::from_secs(settings.drain_timeout_s),
        }
    }
}

/// Where connections come in.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
}

impl Listener {
    /// In clear, or by TLS.
    pub fn new(socket: TcpListener, tls: Option<Tls>) -> Self {
        Self { socket, tls }
    }

    /// Its address, as people would write it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.socket.local_addr()?))
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self::new(socket, None)
    }
}

/// Serves `router` until `stop` is cancelled and connections have ended or the drain time is over.
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let Listener { socket, tls } = listener.into();
    let graceful = GracefulShutdown::new();
    let places = Places::new(limits.connections_max);
    let mut connections = JoinSet::new();
    if let Some(tls) = &tls {
        connections.spawn(tls.clone().follow_files(stop.clone()));
    }
    // A newcomer that waits for its place is not let go of because somebody else ends.
    let mut accepting = Box::pin(accept(&socket, &places));
    loop {
        let (stream, peer, place) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = &mut accepting => accepted,
        };
        accepting.set(accept(&socket, &places));
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.write_timeout));
        let connection = Connection { router: router.clone(), peer, limits, watcher: graceful.watcher() };
        let (tls, stop) = (tls.clone(), stop.clone());
        connections.spawn(async move {
            let evicted = place.evicted();
            let served = async {
                let stream = Box::pin(stream);
                match tls {
                    None => connection.serve(stream, place.activity()).await,
                    Some(tls) => {
                        let shaken =
                            tokio::time::timeout(limits.header_read_timeout, tls.acceptor.accept(stream));
                        match stop.run_until_cancelled(shaken).await {
                            Some(Ok(Ok(stream))) => connection.serve(stream, place.activity()).await,
                            Some(Ok(Err(error))) => tracing::debug!(%error, "no handshake"),
                            Some(Err(_)) | None => {}
                        }
                    }
                }
            };
            evicted.run_until_cancelled(served).await;
            drop(place);
        });
    }
    drop(accepting);
    drop(socket);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut connections that did not end in time");
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection, with a place for it.
async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, SocketAddr, Place) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and whole: waiting to fill packets only delays them.
                let _ = stream.set_nodelay(true);
                return (stream, peer, places.take().await);
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What a connection is served with.
struct Connection {
    router: Router,
    peer: SocketAddr,
    limits: ServerLimits,
    watcher: Watcher,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, activity: Activity) {
        let Self { router, peer, limits, watcher } = self;
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service(router, peer, activity));
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// The router as hyper wants it, with the peer's address on every request.
fn service(
    router: Router,
    peer: SocketAddr,
    activity: Activity,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        activity.asked();
        let mut request = request.map(|body| Body::new(Coming::new(body, activity.clone())));
        request.extensions_mut().insert(ConnectInfo(peer));
        let (answer, activity) = (router.clone().oneshot(request), activity.clone());
        async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Going::new(body, activity))))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn limits() -> ServerLimits {
        ServerLimits {
            connections_max: 8,
            header_read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_millis(200),
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

    #[tokio::test]
    async fn who_opens_connections_and_says_nothing_keeps_nobody_out() {
        let router = Router::new().route("/", get(|| async { "here" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let patient = ServerLimits { header_read_timeout: BOUND * 10, ..limits() };
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, patient, stop.clone()));
        let mut silent = Vec::new();
        for at in 0..3 * patient.connections_max {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let begun: &[u8] = if at % 2 == 0 { b"GET / HTTP/1.1\r\nx-slow: " } else { b"" };
            stream.write_all(begun).await.unwrap();
            silent.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(all_of(stream).await.ends_with("here"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_of_its_answer_is_disconnected() {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let body = Arc::new(std::sync::Mutex::new(Some(guard)));
        let router = Router::new().route(
            "/",
            get(move || {
                let guard = body.lock().unwrap().take();
                // Far more than sockets hold; with it goes the guard.
                let pieces = futures::stream::unfold(guard, |guard| async move {
                    Some((Ok::<_, std::convert::Infallible>(vec![b'x'; 1 << 20]), guard))
                });
                async move { Body::from_stream(pieces) }
            }),
        );
        let (address, _stop, _server) = started(router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::timeout(BOUND, ended.cancelled()).await.expect("the answer is given up");
    }

    // S0-167
    #[tokio::test]
    async fn with_a_certificate_tls_1_3_is_spoken_and_nothing_else() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let router = Router::new().route("/", get(|| async { "secret" }));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(socket, Some(Tls::load(&certificate, &key).unwrap()));
        assert_eq!(listener.url().unwrap(), format!("https://{address}"));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits(), stop.clone()));

        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let ask = async |version: &'static rustls::SupportedProtocolVersion| {
            let config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            tokio::time::timeout(BOUND, stream.read_to_string(&mut answer)).await.unwrap()?;
            io::Result::Ok(answer)
        };
        assert!(ask(&rustls::version::TLS13).await.unwrap().ends_with("secret"));
        assert!(ask(&rustls::version::TLS12).await.is_err());
        let mut clear = TcpStream::connect(address).await.unwrap();
        clear.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(!all_of(clear).await.contains("HTTP/1.1"));
        stop.cancel();
        server.await.unwrap().unwrap();
    }
}
