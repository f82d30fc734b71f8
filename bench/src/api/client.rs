//! A client that costs little: it shares the machine with what it measures. One connection, one request at a time, requests
//! that were written beforehand, answers whose length is told. Anything else is an error.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Largest head or body of an answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// One keep-alive connection, made when it is first used and again after an error.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// Sends a request and reads its answer: the status and the body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> std::io::Result<(u16, &[u8])> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let answer = timeout(ANSWER_MAX, exchange(&mut stream, &mut self.buffer, request)).await;
        let head = answer.map_err(|_| Error::new(ErrorKind::TimedOut, "no answer"))??;
        if !head.closes {
            self.stream = Some(stream);
        }
        Ok((head.status, &self.buffer[head.bytes..head.bytes + head.body_bytes]))
    }

    /// The head of the last answer.
    pub(crate) fn head(&self) -> String {
        let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 2);
        String::from_utf8_lossy(&self.buffer[..end]).into_owned()
    }
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    body_bytes: usize,
    closes: bool,
}

async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>, request: &[u8]) -> std::io::Result<Head> {
    stream.write_all(request).await?;
    buffer.clear();
    loop {
        if let Some(head) = read_head(buffer)?
            && buffer.len() >= head.bytes + head.body_bytes
        {
            return Ok(head);
        }
        if buffer.len() > ANSWER_BYTES_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "an answer too long to read"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended before the answer"));
        }
    }
}

/// The head, once all of it is there.
fn read_head(bytes: &[u8]) -> std::io::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let malformed = || Error::new(ErrorKind::InvalidData, "an answer that is not understood");
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| malformed())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|status| status.parse().ok());
    let mut head =
        Head { bytes: end + 4, status: status.ok_or_else(malformed)?, body_bytes: 0, closes: false };
    let mut has_length = matches!(head.status, 204 | 304);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        if name.eq_ignore_ascii_case("content-length") {
            head.body_bytes = value.trim().parse().map_err(|_| malformed())?;
            has_length = true;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    if has_length { Ok(Some(head)) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let head = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\nconnection: close\r\n\r\nabc";
        assert_eq!(read_head(&head[..40]).unwrap(), None);
        let read = read_head(head).unwrap().unwrap();
        assert_eq!(read, Head { bytes: head.len() - 3, status: 202, body_bytes: 3, closes: true });
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(read_head(chunked).is_err());
    }
}
