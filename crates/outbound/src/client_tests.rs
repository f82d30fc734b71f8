//! The client against servers of this process that misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::guard::Forbidden;
use crate::resolver::with_hosts;

/// What a server does after it has sent its answer.
#[derive(Clone, Copy)]
enum Then {
    Close,
    /// Sends the last bytes again and again.
    Repeat(&'static [u8]),
    Hang,
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: String, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 64 * 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                    match then {
                        Then::Close => {}
                        Then::Repeat(bytes) => while stream.write_all(bytes).await.is_ok() {},
                        Then::Hang => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, connections }
    }

    fn url(&self, scheme: &str) -> Url {
        Url::parse(&format!("{scheme}://{}/hook?token=secret", self.address)).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn client(allow_loopback: bool, timeout_ms: u64) -> OutboundClient {
    let timeout = Duration::from_millis(timeout_ms);
    OutboundClient::new(OutboundSettings { timeout, allow_loopback, ..OutboundSettings::default() }).unwrap()
}

async fn post(client: &OutboundClient, url: &Url) -> Result<Response, OutboundError> {
    client.post(url, HeaderMap::new(), b"{}".to_vec()).await
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_comes_back_with_status_body_and_the_wait_it_asks_for() {
    let server = Server::start(answer("429 Too Many", "retry-after: 7\r\n", "slow down"), Then::Close).await;
    let response = post(&client(true, 5_000), &server.url("http")).await.unwrap();
    assert_eq!(response.status, 429);
    assert_eq!(response.body, "slow down");
    assert_eq!(response.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = Server::start(answer("200 OK", "", ""), Then::Close).await;
    let location = format!("location: {}\r\n", target.url("http"));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let server = Server::start(answer(status, &location, ""), Then::Close).await;
        let response = post(&client(true, 5_000), &server.url("http")).await.unwrap();
        assert_eq!(response.status.to_string(), status[..3]);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_limit() {
    let head = "HTTP/1.1 200 OK\r\n\r\n".to_owned();
    for bytes in [b"abcdefg".as_slice(), b"\xff\xfe\xfd", "é€😀".as_bytes()] {
        let server = Server::start(head.clone(), Then::Repeat(bytes)).await;
        let response = post(&client(true, 5_000), &server.url("http")).await.unwrap();
        assert_eq!(response.status, 200);
        let kept = response.body.len();
        assert!((16 * 1024 - 4..=16 * 1024).contains(&kept), "{kept}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_in_time_is_a_timeout() {
    let slow = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun".to_owned();
    let server = Server::start(slow, Then::Hang).await;
    let error = post(&client(true, 200), &server.url("http")).await.unwrap_err();
    assert!(matches!(error, OutboundError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout() {
    for scheme in ["http", "https"] {
        let server = Server::start(String::new(), Then::Hang).await;
        let error = post(&client(true, 200), &server.url(scheme)).await.unwrap_err();
        assert!(matches!(error, OutboundError::Timeout(_)), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_not_http_is_a_protocol_error() {
    for broken in ["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun", "SSH-2.0-OpenSSH_9.2\r\n", ""] {
        let server = Server::start(broken.to_owned(), Then::Close).await;
        let error = post(&client(true, 5_000), &server.url("http")).await.unwrap_err();
        assert!(matches!(error, OutboundError::Protocol(_)), "{broken}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn plain_text_where_tls_was_expected_is_a_tls_error() {
    let server = Server::start(answer("200 OK", "", ""), Then::Close).await;
    let error = post(&client(true, 5_000), &server.url("https")).await.unwrap_err();
    assert!(matches!(error, OutboundError::Tls(_)), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/?token=secret", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let error = post(&client(true, 5_000), &url).await.unwrap_err();
    assert!(matches!(error, OutboundError::Connect(_)), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn loopback_is_not_reached_unless_allowed() {
    let server = Server::start(answer("200 OK", "", ""), Then::Close).await;
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = Url::parse(&format!("http://{host}:{port}/")).unwrap();
        let error = post(&client(false, 5_000), &url).await.unwrap_err();
        let expected = AddressRefused::Forbidden(Forbidden::Loopback);
        assert!(matches!(&error, OutboundError::Refused(found) if *found == expected), "{host}: {error}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_when_connecting() {
    let server = Server::start(answer("200 OK", "", "hello"), Then::Close).await;
    let url = Url::parse(&format!("http://rebound.example:{}/", server.address.port())).unwrap();
    let send = async |allow_loopback| {
        let settings = OutboundSettings { allow_loopback, ..OutboundSettings::default() };
        let resolver = with_hosts("127.0.0.1 rebound.example", allow_loopback);
        let client = OutboundClient::with_resolver(settings, resolver).unwrap();
        // Past the check of the form, which would already refuse the port.
        client.send(&url, HeaderMap::new(), Vec::new()).await
    };
    let error = send(false).await.unwrap_err();
    assert!(
        matches!(error, OutboundError::Refused(AddressRefused::Forbidden(Forbidden::Loopback))),
        "{error}"
    );
    assert_eq!(server.connections(), 0);
    assert_eq!(send(true).await.unwrap().body, "hello");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_unknown_name_is_an_error_of_the_look_up() {
    let settings = OutboundSettings::default();
    let client = OutboundClient::with_resolver(settings, with_hosts("", false)).unwrap();
    let error = post(&client, &Url::parse("https://unknown.example/").unwrap()).await.unwrap_err();
    assert!(matches!(error, OutboundError::Dns(_)), "{error}");
}
