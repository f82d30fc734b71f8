//! One conversation with a client of mail.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{self, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{Moment, Next, Reply, say};
use crate::Shared;
use crate::mailbox::Envelope;

const NAME: &str = "sandbox.millpond.invalid";
/// RFC 5321 allows 512; extensions add to it, and AUTH by far the most.
const LINE_BYTES_MAX: usize = 12_288;
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const RECIPIENTS_MAX: usize = 100;
const ADDRESS_BYTES_MAX: usize = 254;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Speaks with a client until it quits, leaves, or breaks the rules badly.
pub(crate) async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // Answers are small and each is awaited: do not hold them back.
    let _ = stream.set_nodelay(true);
    let mut session = Session { stream: BufReader::new(stream), shared, greeted: false, envelope: None };
    let moment = Moment::begin(shared, "connect", None);
    let (mut next, _) =
        moment.carry_out(&mut session.stream, || Reply::new(220, format!("{NAME} ESMTP"))).await?;
    while next == Next::GoOn {
        let Some(line) = session.line().await? else { return Ok(()) };
        next = session.obey(line).await?;
    }
    session.stream.shutdown().await
}

struct Session<'a> {
    stream: BufReader<TcpStream>,
    shared: &'a Shared,
    greeted: bool,
    /// Between MAIL and the end of the message.
    envelope: Option<Envelope>,
}

/// A line, or what stands in its place.
enum Line {
    Text(String),
    TooLong,
    NoText,
}

impl Session<'_> {
    /// The next line without its end; none when the client left.
    async fn line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.stream).take(LINE_BYTES_MAX as u64);
        let read = timeout(IDLE_TIMEOUT, limited.read_until(b'\n', &mut bytes));
        read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if bytes.is_empty() {
            return Ok(None);
        }
        if !bytes.ends_with(b"\n") {
            return Ok(Some(Line::TooLong));
        }
        let text = bytes.strip_suffix(b"\r\n").unwrap_or(&bytes[..bytes.len() - 1]);
        Ok(Some(String::from_utf8(text.to_vec()).map_or(Line::NoText, Line::Text)))
    }

    async fn obey(&mut self, line: Line) -> io::Result<Next> {
        let line = match line {
            Line::Text(line) => line,
            Line::NoText => return self.say(500, "5.5.2 commands are text").await,
            Line::TooLong => {
                self.say(500, "5.5.2 the line is too long").await?;
                return Ok(Next::Close);
            }
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.hello(rest, true).await,
            "HELO" => self.hello(rest, false).await,
            "NOOP" => self.say(250, "2.0.0 nothing done").await,
            "RSET" => {
                self.envelope = None;
                self.say(250, "2.0.0 begun anew").await
            }
            "QUIT" => {
                self.say(221, "2.0.0 good bye").await?;
                Ok(Next::Close)
            }
            "VRFY" => self.say(252, "2.5.0 nobody is looked up; send and see").await,
            "HELP" => self.say(214, "2.0.0 RFC 5321; what is taken is shown at GET /mailbox").await,
            "AUTH" | "MAIL" | "RCPT" | "DATA" if !self.greeted => self.say(503, "5.5.1 EHLO first").await,
            "AUTH" => self.authenticate(rest).await,
            "MAIL" => self.sender(rest).await,
            "RCPT" => self.recipient(rest).await,
            "DATA" => self.data().await,
            "STARTTLS" => self.say(502, "5.5.1 there is no TLS here").await,
            _ => self.say(500, "5.5.1 no such command").await,
        }
    }

    async fn say(&mut self, code: u16, line: &str) -> io::Result<Next> {
        say(&mut self.stream, &Reply::new(code, line)).await?;
        Ok(Next::GoOn)
    }

    async fn hello(&mut self, client: &str, extended: bool) -> io::Result<Next> {
        if client.trim().is_empty() {
            return self.say(501, "5.5.4 say who you are").await;
        }
        (self.greeted, self.envelope) = (true, None);
        let mut lines = vec![NAME.to_owned()];
        if extended {
            lines.extend(
                ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "AUTH PLAIN LOGIN"]
                    .map(String::from),
            );
            lines.push(format!("SIZE {MESSAGE_BYTES_MAX}"));
        }
        say(&mut self.stream, &Reply { code: 250, lines }).await?;
        Ok(Next::GoOn)
    }

    /// Any user with the sandbox's token.
    async fn authenticate(&mut self, rest: &str) -> io::Result<Next> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let password = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => {
                let given = match initial {
                    "" => self.ask("").await?,
                    initial => decoded(initial),
                };
                given.and_then(|text| text.split('\0').nth(2).map(str::to_owned))
            }
            "LOGIN" => {
                if initial.is_empty() {
                    self.ask("Username:").await?;
                }
                self.ask("Password:").await?
            }
            _ => return self.say(504, "5.5.4 PLAIN or LOGIN").await,
        };
        match password {
            Some(password) if password == self.shared.token => self.say(235, "2.7.0 welcome").await,
            Some(_) => self.say(535, "5.7.8 the credentials are not accepted").await,
            None => self.say(501, "5.5.2 no credentials").await,
        }
    }

    /// Asks for one piece of credentials.
    async fn ask(&mut self, what: &str) -> io::Result<Option<String>> {
        self.say(334, &STANDARD.encode(what)).await?;
        match self.line().await? {
            Some(Line::Text(line)) => Ok(decoded(&line)),
            _ => Ok(None),
        }
    }

    async fn sender(&mut self, rest: &str) -> io::Result<Next> {
        if self.envelope.is_some() {
            return self.say(503, "5.5.1 one message at a time").await;
        }
        let Some((address, parameters)) = path(rest, "FROM:") else {
            return self.say(501, "5.1.7 MAIL FROM:<address>").await;
        };
        let announced = parameters.split(' ').find_map(|word| word.strip_prefix("SIZE="));
        if announced.and_then(|size| size.parse::<usize>().ok()).is_some_and(|size| size > MESSAGE_BYTES_MAX)
        {
            return self.say(552, "5.3.4 the message is too large").await;
        }
        self.envelope = Some(Envelope { from: address.to_owned(), to: Vec::new() });
        self.say(250, "2.1.0 a sender").await
    }

    async fn recipient(&mut self, rest: &str) -> io::Result<Next> {
        let address = path(rest, "TO:").map(|(address, _)| address).filter(|address| address.contains('@'));
        let (Some(envelope), Some(address)) = (&mut self.envelope, address) else {
            let what = if self.envelope.is_none() {
                (503, "5.5.1 MAIL first")
            } else {
                (501, "5.1.3 RCPT TO:<address>")
            };
            return self.say(what.0, what.1).await;
        };
        if envelope.to.len() >= RECIPIENTS_MAX {
            return self.say(452, "4.5.3 too many recipients").await;
        }
        let moment = Moment::begin(self.shared, "recipient", Some(address));
        let (next, is_taken) =
            moment.carry_out(&mut self.stream, || Reply::new(250, "2.1.5 a recipient")).await?;
        if is_taken {
            envelope.to.push(address.to_owned());
        }
        Ok(next)
    }

    async fn data(&mut self) -> io::Result<Next> {
        let Some(envelope) = self.envelope.take_if(|envelope| !envelope.to.is_empty()) else {
            return self.say(503, "5.5.1 MAIL and RCPT first").await;
        };
        self.say(354, "end with a dot on a line of its own").await?;
        let Some(message) = self.message().await? else { return Ok(Next::Close) };
        let shared = self.shared;
        let moment = Moment::begin(shared, "message", envelope.to.first().map(String::as_str));
        let (next, _) = moment
            .carry_out(&mut self.stream, || match message {
                Some(message) => {
                    let sequence = shared.mailbox.take(envelope, &message);
                    Reply::new(250, format!("2.0.0 taken as {sequence}"))
                }
                None => Reply::new(552, "5.3.4 the message is too large"),
            })
            .await?;
        Ok(next)
    }

    /// The message with its dots unstuffed, to the dot that ends it. The outer none: the client left in its middle; the
    /// inner: it was too large, and was read to its end.
    async fn message(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        let (mut message, mut fits) = (Vec::new(), true);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.stream).take(MESSAGE_BYTES_MAX as u64);
            let read = timeout(IDLE_TIMEOUT, limited.read_until(b'\n', &mut line));
            if read.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
                return Ok(None);
            }
            if line == b".\r\n" {
                return Ok(Some(fits.then_some(message)));
            }
            fits = fits && message.len() + line.len() <= MESSAGE_BYTES_MAX;
            if fits {
                message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            }
        }
    }
}

/// The address of `FROM:<a@b> PARAMETERS`, and the parameters.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (given, rest) = rest.split_at_checked(keyword.len())?;
    let (address, parameters) = rest.trim_start().strip_prefix('<')?.split_once('>')?;
    (given.eq_ignore_ascii_case(keyword) && address.len() <= ADDRESS_BYTES_MAX)
        .then_some((address, parameters.trim_start()))
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_parameters() {
        assert_eq!(path("FROM:<a@b.example> SIZE=3", "FROM:"), Some(("a@b.example", "SIZE=3")));
        assert_eq!(path("from: <>", "FROM:"), Some(("", "")));
        for wrong in ["FROM:a@b.example", "TO:<a@b.example>", "FROM:<a", "F", ""] {
            assert_eq!(path(wrong, "FROM:"), None, "{wrong}");
        }
    }
}
