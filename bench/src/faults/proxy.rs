//! A network between workers and server that can be told to fail: to cut connections, to fall silent on them while both
//! ends believe that they are open, and to lose the server's answer to what it has carried out, a COMMIT above all.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long silence lasts before both ends find their connection closed. Longer than anybody waits.
const SILENCE: Duration = Duration::from_secs(15);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Both ends see it closed.
    Cut,
    /// Nothing passes any more, and nobody is told.
    Silence,
}

/// Which answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server's to a COMMIT.
    ToCommit,
    /// Its next to any statement.
    ToAny,
}

/// A running proxy; dropped, it cuts everything.
#[derive(Debug)]
pub(super) struct Proxy {
    url: String,
    orders: Arc<Orders>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Orders {
    /// The number of the last order to all connections there were, and the order.
    all: watch::Sender<(u64, Then)>,
    lose: Mutex<Option<(Answer, Then, usize)>>,
}

#[derive(Debug, Clone)]
enum Upstream {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Proxy {
    /// Listens on a free port of this machine for clients of the server at this address.
    ///
    /// # Errors
    /// When there is no port.
    pub(super) async fn start(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("the server's address")?;
        let upstream = match options.get_socket() {
            Some(folder) => Upstream::Unix(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Upstream::Tcp(options.get_host().to_owned(), options.get_port()),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port for the proxy")?;
        let url = format!(
            "postgres://{}@{}/{}?sslmode=disable",
            options.get_username(),
            listener.local_addr()?,
            options.get_database().unwrap_or_default(),
        );
        let orders = Arc::new(Orders { all: watch::Sender::new((0, Then::Cut)), lose: Mutex::default() });
        let stop = CancellationToken::new();
        let (told, until) = (orders.clone(), stop.clone());
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = carry(client, upstream.clone(), told.clone());
                tokio::spawn(until.clone().run_until_cancelled_owned(link));
            }
        }));
        Ok(Self { url, orders, _stop: stop.drop_guard() })
    }

    /// The address for workers.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Has this happen to all connections there are.
    pub(super) fn all(&self, then: Then) {
        self.orders.all.send_modify(|order| *order = (order.0 + 1, then));
    }

    /// Loses the next answers of a kind, each on a connection of its own, to which then something happens.
    pub(super) fn lose(&self, answer: Answer, then: Then, count: usize) {
        *self.orders.to_lose() = Some((answer, then, count));
    }

    /// How many answers are still to be lost.
    pub(super) fn to_lose(&self) -> usize {
        self.orders.to_lose().map_or(0, |(_, _, count)| count)
    }
}

impl Orders {
    fn to_lose(&self) -> MutexGuard<'_, Option<(Answer, Then, usize)>> {
        self.lose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to happen after this request's answer was lost, if it is to be.
    fn loses(&self, asks: bool, commits: bool) -> Option<Then> {
        let mut lose = self.to_lose();
        let (answer, then, count) = lose.as_mut().filter(|(_, _, count)| *count > 0)?;
        let meant = match answer {
            Answer::ToCommit => commits,
            Answer::ToAny => asks,
        };
        meant.then(|| {
            *count -= 1;
            *then
        })
    }
}

async fn carry(client: TcpStream, upstream: Upstream, orders: Arc<Orders>) {
    // A client whose server is gone sees its connection closed.
    match upstream {
        Upstream::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                Link::new(client, server, orders).run().await;
            }
        }
        Upstream::Tcp(host, port) => {
            if let Ok(server) = TcpStream::connect((host, port)).await {
                Link::new(client, server, orders).run().await;
            }
        }
    }
}

/// One connection through the proxy.
struct Link<S> {
    client: TcpStream,
    server: S,
    orders: Arc<Orders>,
    requests: Requests,
    /// The answer that comes next is lost, and this happens.
    losing: Option<Then>,
}

const BUFFER_BYTES: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn new(client: TcpStream, server: S, orders: Arc<Orders>) -> Self {
        Self { client, server, orders, requests: Requests::default(), losing: None }
    }

    async fn run(mut self) {
        if self.pass().await == Some(Then::Silence) {
            sleep(SILENCE).await;
        }
    }

    /// Passes everything on, until an end closes or something is to happen.
    async fn pass(&mut self) -> Option<Then> {
        let mut all = self.orders.all.subscribe();
        // Nagle's rule would hold back what is passed on in pieces.
        self.client.set_nodelay(true).ok()?;
        let (mut from_client, mut from_server) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        loop {
            tokio::select! {
                order = all.changed() => {
                    order.ok()?;
                    return Some(all.borrow().1);
                }
                read = self.client.read(&mut from_client) => {
                    let bytes = &from_client[..read.ok().filter(|read| *read > 0)?];
                    let (asks, commits) = self.requests.read(bytes);
                    if self.losing.is_none() {
                        self.losing = self.orders.loses(asks, commits);
                    }
                    self.server.write_all(bytes).await.ok()?;
                }
                read = self.server.read(&mut from_server) => {
                    let bytes = &from_server[..read.ok().filter(|read| *read > 0)?];
                    if let Some(then) = self.losing {
                        return Some(then);
                    }
                    self.client.write_all(bytes).await.ok()?;
                }
            }
        }
    }
}

/// Finds the messages in what a client sends. The first has no type; each other has one byte of type, then its length.
#[derive(Debug, Default)]
struct Requests {
    started: bool,
    /// What came of a message that is not complete.
    partial: Vec<u8>,
}

impl Requests {
    /// Whether the server is asked for an answer in these bytes, and whether it is asked to commit.
    fn read(&mut self, bytes: &[u8]) -> (bool, bool) {
        self.partial.extend_from_slice(bytes);
        let (mut asks, mut commits) = (false, false);
        let mut at = 0;
        loop {
            let head = usize::from(self.started);
            let Some(length) = self.partial.get(at + head..at + head + 4) else { break };
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let Some(message) = self.partial.get(at..at + head + length) else { break };
            if self.started {
                asks |= matches!(message[0], b'Q' | b'S');
                commits |= message[0] == b'Q' && message[5..].eq_ignore_ascii_case(b"commit\0");
            }
            self.started = true;
            at += head + length;
        }
        self.partial.drain(..at);
        (asks, commits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_commit_is_found_however_the_bytes_are_cut() {
        let startup = [&8_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        let sent = [startup, message(b'Q', b"begin\0"), message(b'Q', b"COMMIT\0")].concat();
        for size in 1..sent.len() {
            let mut requests = Requests::default();
            let found: Vec<_> = sent.chunks(size).map(|chunk| requests.read(chunk)).collect();
            assert!(found.last().unwrap().1, "in pieces of {size}");
            assert_eq!(found.iter().filter(|(_, commits)| *commits).count(), 1);
        }
    }

    #[test]
    fn text_that_speaks_of_commits_is_none() {
        let mut requests = Requests { started: true, ..Requests::default() };
        assert_eq!(requests.read(&message(b'Q', b"select 'Q\0\0\0\x0bcommit\0'\0")), (true, false));
        assert_eq!(requests.read(&message(b'P', b"\0commit\0\0\0")), (false, false));
        assert_eq!(requests.read(&message(b'S', b"")), (true, false));
    }
}
