//! What the mail server says, and what a fault makes of it.

use std::future::pending;
use std::time::Duration;

use tokio::io::{self, AsyncWrite, AsyncWriteExt};

use crate::Shared;
use crate::calls::Call;
use crate::faults::{Fault, Plan};

const PIECE_BYTES: u64 = 64 * 1024;
const PIECES: u32 = 10;

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) lines: Vec<String>,
}

impl Reply {
    pub(super) fn new(code: u16, line: impl Into<String>) -> Self {
        Self { code, lines: vec![line.into()] }
    }

    fn text(&self) -> String {
        let last = self.lines.len().saturating_sub(1);
        let line = |(at, line): (usize, &String)| {
            let mark = if at < last { '-' } else { ' ' };
            format!("{}{mark}{line}\r\n", self.code)
        };
        self.lines.iter().enumerate().map(line).collect()
    }

    /// Whether what was asked is done, or goes on.
    pub(super) fn is_positive(&self) -> bool {
        self.code < 400
    }
}

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Close,
}

/// A moment at which something may go wrong: counted, with its fault decided.
#[derive(Debug)]
pub(super) struct Moment {
    call: Call,
    plan: Plan,
}

impl Moment {
    pub(super) fn begin(shared: &Shared, operation: &'static str, handle: Option<&str>) -> Self {
        let call = shared.calls.begin("smtp", operation, handle, None, &axum::http::HeaderMap::new());
        let plan = shared.faults.plan(&call);
        Self { call, plan }
    }

    /// Does the work unless the fault forbids it, and says what the fault wants. The answer tells whether the work was
    /// done and said to be.
    pub(super) async fn carry_out(
        self,
        out: &mut (impl AsyncWrite + Unpin),
        work: impl FnOnce() -> Reply,
    ) -> io::Result<(Next, bool)> {
        if !self.plan.latency.is_zero() {
            tokio::time::sleep(self.plan.latency).await;
        }
        let Some(fault) = self.plan.fault else {
            let reply = work();
            self.call.end(reply.code.to_string());
            say(out, &reply).await?;
            return Ok((after(reply.code), reply.is_positive()));
        };
        // A call that hangs ends when its caller leaves.
        if fault == (Fault::Hang {}) {
            pending::<()>().await;
        }
        self.call.end(fault.label());
        match fault {
            Fault::Status { status, .. } => {
                let class = status / 100;
                say(out, &Reply::new(status, format!("{class}.3.0 a fault on demand"))).await?;
                return Ok((after(status), false));
            }
            Fault::Malformed {} => {
                let _ = work();
                out.write_all(b"\xff\xfe<html>not a mail server</html>\r\n").await?;
            }
            Fault::Truncated {} => {
                let text = work().text();
                out.write_all(&text.as_bytes()[..text.len() / 2]).await?;
                out.flush().await?;
                return Ok((Next::Close, false));
            }
            Fault::Oversized { bytes } => {
                let _ = work();
                flood(out, bytes).await?;
            }
            Fault::SlowBody { ms } => {
                let reply = work();
                slowly(out, &reply, Duration::from_millis(ms)).await?;
                return Ok((after(reply.code), reply.is_positive()));
            }
            // No ID token is ever in a reply.
            Fault::Drop {} | Fault::Latency { .. } | Fault::Hang {} | Fault::IdToken { .. } => {
                let _ = work();
                return Ok((Next::Close, false));
            }
        }
        out.flush().await?;
        Ok((Next::GoOn, false))
    }
}

pub(super) async fn say(out: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    out.write_all(reply.text().as_bytes()).await?;
    out.flush().await
}

/// A server that says 421 closes.
fn after(code: u16) -> Next {
    if code == 421 { Next::Close } else { Next::GoOn }
}

async fn flood(out: &mut (impl AsyncWrite + Unpin), bytes: u64) -> io::Result<()> {
    let piece = vec![b'2'; PIECE_BYTES as usize];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        out.write_all(&piece[..length as usize]).await?;
        left -= length;
    }
    Ok(())
}

async fn slowly(out: &mut (impl AsyncWrite + Unpin), reply: &Reply, over: Duration) -> io::Result<()> {
    let text = reply.text();
    for piece in text.as_bytes().chunks(text.len().div_ceil(PIECES as usize)) {
        tokio::time::sleep(over / PIECES).await;
        out.write_all(piece).await?;
        out.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_of_a_reply_ends_it() {
        let reply = Reply { code: 250, lines: vec!["pond".to_owned(), "PIPELINING".to_owned()] };
        assert_eq!(reply.text(), "250-pond\r\n250 PIPELINING\r\n");
    }
}
