//! The attacks. Attackers never end by themselves: their threads are taken away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use super::payloads::{Payload, Payloads};
use super::tally::Shared;
use super::wire::{Outcome, answer, connect, connect_without_room};
use crate::api::requests::Caller;

/// Connections over which bodies are sent.
const SENDERS: usize = 8;
/// The pause between two bodies of a sender.
const BODY_PAUSE: Duration = Duration::from_millis(50);
/// Clients that never read.
const DEAF: usize = 200;
/// Slow sockets send a byte so often.
const TRICKLE: Duration = Duration::from_secs(1);
/// All slow sockets have connected after this long.
const RAMP: Duration = Duration::from_secs(2);
/// Longest wait for an answer to a body that was sent.
const ANSWER_MAX: Duration = Duration::from_secs(35);
/// Of a body without end.
const HUGE: usize = 1 << 30;
/// What is written at once of a body.
const PIECE: usize = 64 * 1024;
/// Bytes a second of all senders together: a line of 1 Gbit/s, full. Over the loopback device they could send many times
/// that, and what was measured then would be the kernel's copying.
const LINE: usize = 125_000_000;
/// A sender's pause between pieces, at that rate.
const PIECE_PAUSE: Duration = Duration::from_micros((PIECE * SENDERS * 1_000_000 / LINE) as u64);
/// What stands around a chunk.
const CHUNK_BESIDE: usize = 16;
/// Body length that slow sockets promise.
const PROMISED: usize = 200_000;

/// What attackers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Sockets that send a byte of a head each second
    SlowHeads,
    /// Sockets that send a byte of a body each second
    SlowBodies,
    /// Bodies of 1 GB, of known length and in chunks
    HugeBodies,
    /// Small bodies that unpack to as much as 1 GB
    GzipBombs,
    /// JSON that is deep, wide or has huge numbers
    DeepJson,
    /// Clients that ask for large answers once a second and never read
    DeafClients,
}

/// Whom attackers attack, and with what.
pub(super) struct Scene {
    pub(super) address: SocketAddr,
    /// A partner with a high limit of requests.
    pub(super) attacker: Caller,
    pub(super) sockets: usize,
    pub(super) is_one_address: bool,
    pub(super) payloads: Payloads,
}

/// Routes that take a body, and whether an attacker shows its key there.
const ROUTES: [(&str, bool); 3] =
    [("/api/v1/profiles/enrich", true), ("/api/v1/partners/pool/request", true), ("/api/v1/session", false)];

impl Attack {
    pub(super) const ALL: [Self; 6] = [
        Self::SlowHeads,
        Self::SlowBodies,
        Self::HugeBodies,
        Self::GzipBombs,
        Self::DeepJson,
        Self::DeafClients,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SlowHeads => "slow heads",
            Self::SlowBodies => "slow bodies",
            Self::HugeBodies => "huge bodies",
            Self::GzipBombs => "gzip bombs",
            Self::DeepJson => "deep JSON",
            Self::DeafClients => "deaf clients",
        }
    }

    /// Lets the attackers loose on their threads.
    pub(super) fn begin(self, threads: &Runtime, scene: &Arc<Scene>, tally: &Shared) {
        let count = match self {
            Self::SlowHeads | Self::SlowBodies => scene.sockets,
            Self::HugeBodies | Self::GzipBombs | Self::DeepJson => SENDERS,
            Self::DeafClients => DEAF,
        };
        for number in 0..count {
            let (scene, tally) = (Arc::clone(scene), tally.clone());
            threads.spawn(async move {
                match self {
                    Self::SlowHeads | Self::SlowBodies => trickle(self, &scene, &tally, number).await,
                    Self::HugeBodies => send_huge(&scene, &tally, number).await,
                    Self::GzipBombs => send_all(&scene, &tally, number, &scene.payloads.bombs).await,
                    Self::DeepJson => send_all(&scene, &tally, number, &scene.payloads.documents).await,
                    Self::DeafClients => never_read(&scene, &tally, number).await,
                }
            });
        }
    }
}

impl Scene {
    /// A head of a request with a body; `headers` each end their line.
    fn post(&self, number: usize, headers: &str) -> String {
        let (route, has_key) = ROUTES[number % ROUTES.len()];
        let key = if has_key { self.key() } else { String::new() };
        format!("POST {route} HTTP/1.1\r\nHost: api\r\n{key}Content-Type: application/json\r\n{headers}\r\n")
    }

    fn key(&self) -> String {
        format!("X-Partner-ID: {}\r\nX-API-Key: {}\r\n", self.attacker.code, self.attacker.key)
    }

    /// Connects from the address whose turn it is, or notes that it cannot and waits.
    async fn connected(&self, tally: &Shared, number: usize) -> Option<TcpStream> {
        match connect(self.address, number, self.is_one_address).await {
            Ok(stream) => {
                tally.connected();
                Some(stream)
            }
            Err(_) => {
                tally.ended(&Outcome::NotConnected);
                sleep(TRICKLE).await;
                None
            }
        }
    }
}

/// A byte a second, over a new connection whenever the last one was closed.
async fn trickle(attack: Attack, scene: &Scene, tally: &Shared, number: usize) {
    let share = number as f64 / scene.sockets as f64;
    sleep(RAMP.mul_f64(share)).await;
    let start = match attack {
        Attack::SlowHeads => "GET /api/v1/partners/quota HTTP/1.1\r\nHost: api\r\nX-Slow: ".to_owned(),
        _ => scene.post(number, &format!("Content-Length: {PROMISED}\r\n")),
    };
    loop {
        let Some(mut stream) = scene.connected(tally, number).await else { continue };
        tally.requested();
        tally.sent(start.len());
        let outcome = trickle_until_told(&mut stream, start.as_bytes(), tally).await;
        tally.ended(&outcome);
        drop(stream);
        sleep(TRICKLE).await;
    }
}

async fn trickle_until_told(stream: &mut TcpStream, start: &[u8], tally: &Shared) -> Outcome {
    let (mut read, mut write) = stream.split();
    let writing = async {
        // Once the connection is closed, reading says so.
        let mut is_open = write.write_all(start).await.is_ok();
        loop {
            sleep(TRICKLE).await;
            if is_open {
                is_open = write.write_all(b" ").await.is_ok();
                tally.sent(1);
            }
        }
    };
    tokio::select! {
        outcome = answer(&mut read) => outcome,
        () = writing => Outcome::Closed,
    }
}

/// Bodies of 1 GB: of known length, or in chunks, until something is answered.
async fn send_huge(scene: &Scene, tally: &Shared, first: usize) {
    let piece = vec![b' '; PIECE];
    let mut chunk = format!("{PIECE:x}\r\n").into_bytes();
    chunk.extend_from_slice(&piece);
    chunk.extend_from_slice(b"\r\n");
    for number in first.. {
        let (header, piece) = match number % 2 {
            0 => (format!("Content-Length: {HUGE}\r\n"), &piece),
            _ => ("Transfer-Encoding: chunked\r\n".to_owned(), &chunk),
        };
        let head = scene.post(number / 2, &header);
        let pieces = std::iter::repeat_n(piece.as_slice(), HUGE / PIECE);
        send(scene, tally, number, &head, pieces).await;
        sleep(BODY_PAUSE).await;
    }
}

/// One body after the other, to one route after the other: whole, or packed, of known length or in one chunk.
async fn send_all(scene: &Scene, tally: &Shared, first: usize, payloads: &[Payload]) {
    for number in first.. {
        let payload = &payloads[number % payloads.len()];
        let turn = number / payloads.len();
        let packed = if payload.is_gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let length = payload.body.len();
        let (header, before, after) = match turn % 2 {
            0 => (format!("{packed}Content-Length: {length}\r\n"), String::new(), ""),
            _ => (
                format!("{packed}Transfer-Encoding: chunked\r\n"),
                format!("{length:x}\r\n"),
                "\r\n0\r\n\r\n",
            ),
        };
        // Another route each time: the number of payloads and of routes may have a divisor in common.
        let head = scene.post(number + turn, &header);
        let pieces = [before.as_bytes(), &payload.body, after.as_bytes()];
        send(scene, tally, number, &head, pieces.into_iter()).await;
        sleep(BODY_PAUSE).await;
    }
}

/// Writes a head and pieces of a body, over a connection of its own, until something is answered.
async fn send<'a>(
    scene: &Scene,
    tally: &Shared,
    number: usize,
    head: &'a str,
    pieces: impl Iterator<Item = &'a [u8]>,
) {
    let Some(mut stream) = scene.connected(tally, number).await else { return };
    tally.requested();
    let (mut read, mut write) = stream.split();
    let writing = async {
        let pieces = pieces.flat_map(|piece| piece.chunks(PIECE + CHUNK_BESIDE));
        for piece in std::iter::once(head.as_bytes()).chain(pieces) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            tally.sent(piece.len());
            if piece.len() >= PIECE {
                sleep(PIECE_PAUSE).await;
            }
        }
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = timeout(ANSWER_MAX, answer(&mut read)) => outcome.unwrap_or(Outcome::Silent),
        outcome = writing => outcome,
    };
    tally.ended(&outcome);
}

/// Asks once a second and reads nothing, until the connection is closed.
async fn never_read(scene: &Scene, tally: &Shared, number: usize) {
    sleep(RAMP.mul_f64(number as f64 / DEAF as f64)).await;
    let key = scene.key();
    let request = match number % 2 {
        0 => format!("GET /api/v1/partners/pool/search?limit=100 HTTP/1.1\r\nHost: api\r\n{key}\r\n"),
        _ => "GET /api-docs/openapi.json HTTP/1.1\r\nHost: api\r\n\r\n".to_owned(),
    };
    loop {
        let Ok(mut stream) = connect_without_room(scene.address, number).await else {
            tally.ended(&Outcome::NotConnected);
            sleep(TRICKLE).await;
            continue;
        };
        tally.connected();
        // Waits while the server takes nothing, and fails when it has closed.
        while stream.write_all(request.as_bytes()).await.is_ok() {
            tally.requested();
            tally.sent(request.len());
            sleep(TRICKLE).await;
        }
        tally.ended(&Outcome::Closed);
    }
}
