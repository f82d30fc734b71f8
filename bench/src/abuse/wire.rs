//! Connections of attackers: from many addresses, written to for as long as nothing was answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Addresses of this machine that are taken turns with.
const ADDRESSES: usize = 200;
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// As much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How an attacker's request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered {
        status: u16,
        /// It says when to come again.
        has_retry_after: bool,
        /// Its error code, when the answer has one.
        code: Option<String>,
    },
    Closed,
    NotConnected,
    /// Nothing came for so long as was waited.
    Silent,
}

impl Outcome {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Answered { status, code: Some(code), .. } => format!("{status} {code}"),
            Self::Answered { status, code: None, .. } => status.to_string(),
            Self::Closed => "closed".to_owned(),
            Self::NotConnected => "not connected".to_owned(),
            Self::Silent => "no answer".to_owned(),
        }
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::Answered { status: 400..500, .. } | Self::Closed | Self::NotConnected => None,
            Self::Answered { status: 503, has_retry_after: true, code: Some(code) }
                if code == "OVERLOADED" =>
            {
                None
            }
            Self::Answered { .. } => Some(format!("answered {}", self.name())),
            Self::Silent => Some("neither answered nor closed in time".to_owned()),
        }
    }
}

/// Connects from the address whose turn it is.
pub(super) async fn connect(
    to: SocketAddr,
    number: usize,
    is_one_address: bool,
) -> std::io::Result<TcpStream> {
    let last = if is_one_address { 1 } else { 1 + number % ADDRESSES };
    connect_with(to, last, None).await
}

/// Connects, with as little room for answers as there may be.
pub(super) async fn connect_without_room(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    connect_with(to, 1 + number % ADDRESSES, Some(1)).await
}

async fn connect_with(to: SocketAddr, last: usize, room: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(room) = room {
        socket.set_recv_buffer_size(room)?;
    }
    let last = u8::try_from(last).unwrap_or(1);
    socket.bind((Ipv4Addr::new(127, 0, 1, last), 0).into())?;
    let connected = timeout(CONNECT_MAX, socket.connect(to)).await;
    connected.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

/// Reads one answer, or the end.
pub(super) async fn answer(from: &mut (impl AsyncRead + Unpin)) -> Outcome {
    let mut bytes = Vec::new();
    loop {
        if let Some(outcome) = understood(&bytes, false) {
            return outcome;
        }
        match from.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return understood(&bytes, true).unwrap_or(Outcome::Closed),
            Ok(_) => {}
        }
    }
}

/// The answer, once it is there, or as much of it as there will be.
fn understood(bytes: &[u8], is_all: bool) -> Option<Outcome> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    let body = &bytes[end + 4..];
    if !is_all && body.len() < length.min(ANSWER_BYTES_MAX) {
        return None;
    }
    let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = body.as_ref().and_then(|body| {
        let code = body.pointer("/error/code").or_else(|| body.get("code"));
        Some(code?.as_str()?.to_owned())
    });
    Some(Outcome::Answered {
        status: head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0),
        has_retry_after: header("retry-after").is_some(),
        code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_with_its_code() {
        let mut bytes: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 33\r\n\r\n\
            {\"error\":{\"code\":\"OVERLOADED\"}}  ";
        let outcome = answer(&mut bytes).await;
        assert_eq!((outcome.name().as_str(), outcome.fault()), ("503 OVERLOADED", None));
    }

    #[tokio::test]
    async fn success_and_faults_of_the_server_are_no_refusals() {
        for status in ["200 OK", "500 Internal Server Error"] {
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            assert!(answer(&mut text.as_bytes()).await.fault().is_some());
        }
        assert_eq!(answer(&mut &b"HTTP/1.1 4"[..]).await, Outcome::Closed);
    }
}
