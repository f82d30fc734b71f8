//! Mail, handed to the server that settings name (RFC 5321). How it is delivered from there is that server's matter.
//!
//! Guarantees: a letter goes to one recipient under the Message-ID that its sender chose, so that a repeat is
//! recognisable; the whole exchange ends within [`SmtpSettings::timeout`]; a server that must offer TLS and does not is
//! told nothing; no password goes over an unprotected line but to this very machine. What the server says in words is
//! not kept: it may repeat the address.
//!
//! On failure: 4xx, garbage, silence and a server that does not accept our password may pass by themselves or be mended,
//! and are retryable; any other 5xx is final. A connection that ends after the letter and before the server's last word
//! leaves it open whether the letter was taken: sent again, it arrives twice, under one Message-ID.

use std::fmt;
use std::time::{Duration, Instant};

use kernel::is_loopback;
use kernel::trace::TraceParent;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self as client, AsyncSmtpTransport};
use lettre::{AsyncTransport, Tokio1Executor};
use telemetry::span::{self, Kind, Span};
use url::Url;

use crate::{Origin, SetupError, VendorError};

const VENDOR: &str = "smtp";
const OPERATION: &str = "send";
/// What a server that does not accept our credentials answers (RFC 4954).
const NOT_AUTHENTICATED: [u16; 4] = [530, 534, 535, 538];

/// How the mail server is reached.
#[derive(Clone)]
pub struct SmtpSettings {
    /// `smtps://HOST:PORT` (TLS from the start, port 465), `smtp://HOST:PORT` (STARTTLS, which the server must offer,
    /// port 587) or `smtp+plain://HOST:PORT` (no TLS, port 25).
    pub url: String,
    /// The account, where the server wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Whom letters are from: `pond@example.com` or `Millpond <pond@example.com>`.
    pub from: String,
    /// The time that handing over one letter may take, with everything.
    pub timeout: Duration,
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpSettings")
            .field("url", &self.url)
            .field("from", &self.from)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What is sent to one person. Printing shows the Message-ID alone.
#[derive(Clone)]
pub struct Letter<'a> {
    /// The same for all tries of one letter, and for no other: letters, digits, `-`, `_` and `.`.
    pub id: &'a str,
    /// The recipient's address.
    pub to: &'a str,
    /// The subject, of one line.
    pub subject: &'a str,
    /// The text.
    pub text: &'a str,
}

impl fmt::Debug for Letter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A client of one mail server. Cheap to clone; every letter has a connection of its own.
#[derive(Clone)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    server: (String, u16),
    timeout: Duration,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Prepares the client. Makes no connection.
    ///
    /// # Errors
    /// [`SetupError::Mail`] when the settings cannot be used.
    pub fn new(settings: &SmtpSettings) -> Result<Self, SetupError> {
        let wrong = |reason: &str| SetupError::Mail { reason: reason.to_owned() };
        let from: Mailbox = settings.from.parse().map_err(|_| wrong("the sender is not an address"))?;
        let server = Server::parse(&settings.url)
            .ok_or_else(|| wrong("the address is not smtps://, smtp:// or smtp+plain:// with a host"))?;
        let tls = server.tls().map_err(|error| wrong(&error.to_string()))?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.clone())
            .port(server.port)
            .tls(tls)
            .hello_name(ClientId::Domain(from.email.domain().to_owned()))
            .timeout(Some(settings.timeout));
        match (&settings.username, &settings.password) {
            (None, None) => {}
            (Some(_), Some(_)) if server.protection == Protection::None && !server.is_here() => {
                return Err(wrong("a password is not sent without TLS: use smtps:// or smtp://"));
            }
            (Some(name), Some(password)) => {
                builder = builder.credentials(Credentials::new(name.clone(), password.clone()));
            }
            _ => return Err(wrong("user name and password are set both or neither")),
        }
        Ok(Self {
            transport: builder.build(),
            from,
            server: (server.host, server.port),
            timeout: settings.timeout,
        })
    }

    /// Hands a letter to the server.
    ///
    /// # Errors
    /// As [`VendorError`] says; never later than the timeout.
    pub async fn send(&self, letter: &Letter<'_>, origin: Origin<'_>) -> Result<(), VendorError> {
        let message = self.message(letter)?;
        let began = Instant::now();
        let trace = origin.trace.map(TraceParent::child);
        let mut span = self.span(trace, &origin);
        let sending = tokio::time::timeout(self.timeout, self.transport.send(message));
        let result = match sending.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refusal(error)),
            Err(_) => Err(VendorError::Timeout),
        };
        let outcome = result.as_ref().err().map_or("ok", VendorError::outcome);
        match &result {
            Ok(()) => span.succeed(),
            Err(error) => span.fail(error.outcome()),
        }
        metrics::counter!("millpond_vendor_calls_total", "vendor" => VENDOR, "operation" => OPERATION, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("millpond_vendor_call_duration_seconds", "vendor" => VENDOR, "operation" => OPERATION)
            .record(began.elapsed());
        result
    }

    fn message(&self, letter: &Letter<'_>) -> Result<Message, VendorError> {
        let is_id = |id: &str| {
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !is_id(letter.id) || letter.subject.contains(char::is_control) {
            return Err(unsendable("the letter's id or subject holds what a header cannot carry"));
        }
        let to = letter.to.parse().map_err(|_| unsendable("the recipient is not an address"))?;
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .message_id(Some(format!("<{}@{}>", letter.id, self.from.email.domain())))
            .date(kernel::clock::now().into())
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.to_owned())
            .map_err(|_| unsendable("the letter cannot be written"))
    }

    fn span(&self, trace: Option<TraceParent>, origin: &Origin<'_>) -> Span {
        let Some(trace) = trace else { return Span::default() };
        let mut span = span::start(Kind::Client, trace, origin.trace, "SMTP");
        span.note(|span| {
            span.name("SMTP send")
                .set("server.address", span::text(self.server.0.clone()))
                .set("server.port", span::whole(self.server.1))
                .set("vendor.name", span::text(VENDOR))
                .set("vendor.operation", span::text(OPERATION))
                .set("request.id", origin.request_id.map(|id| span::text(id.to_owned())));
        });
        span
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Tls,
    StartTls,
    None,
}

/// An address, read.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    protection: Protection,
    host: String,
    port: u16,
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let (protection, port) = match url.scheme() {
            "smtps" => (Protection::Tls, 465),
            "smtp" => (Protection::StartTls, 587),
            "smtp+plain" => (Protection::None, 25),
            _ => return None,
        };
        let host = url.host_str().filter(|host| !host.is_empty())?.trim_matches(['[', ']']).to_owned();
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        is_bare.then(|| Self { protection, host, port: url.port().unwrap_or(port) })
    }

    fn tls(&self) -> Result<Tls, client::Error> {
        Ok(match self.protection {
            Protection::Tls => Tls::Wrapper(TlsParameters::new_rustls(self.host.clone())?),
            Protection::StartTls => Tls::Required(TlsParameters::new_rustls(self.host.clone())?),
            Protection::None => Tls::None,
        })
    }

    /// Whether it is this very machine.
    fn is_here(&self) -> bool {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback(&url))
    }
}

fn unsendable(rule: &str) -> VendorError {
    let message = format!("{rule}; nothing was sent");
    VendorError::Rejected { status: 553, code: "invalid_letter".to_owned(), message }
}

/// What the library's error means. Its words are left out wherever they are the server's.
fn refusal(error: client::Error) -> VendorError {
    let Some(status) = error.status().map(u16::from) else {
        return match error {
            error if error.is_timeout() => VendorError::Timeout,
            error if error.is_response() => VendorError::malformed("no reply of a mail server"),
            error if error.is_client() => VendorError::malformed(
                "the mail server does not offer what we need: TLS, a way to log in, or UTF-8",
            ),
            error => VendorError::Connect { source: error.into() },
        };
    };
    match status {
        _ if NOT_AUTHENTICATED.contains(&status) => VendorError::Unauthorized,
        ..500 => VendorError::Server { status, retry_after: None },
        _ => VendorError::Rejected {
            status,
            code: "smtp".to_owned(),
            message: "the mail server's words are left out: they may repeat the address".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> SmtpSettings {
        SmtpSettings {
            url: url.to_owned(),
            username: None,
            password: None,
            from: "Millpond <pond@example.com>".to_owned(),
            timeout: Duration::from_secs(1),
        }
    }

    fn with_password(url: &str) -> SmtpSettings {
        let (username, password) = (Some("pond".to_owned()), Some("hunter2".to_owned()));
        SmtpSettings { username, password, ..settings(url) }
    }

    #[test]
    fn the_address_says_how_the_line_is_protected() {
        for (url, protection, host, port) in [
            ("smtps://mail.example", Protection::Tls, "mail.example", 465),
            ("smtp://mail.example", Protection::StartTls, "mail.example", 587),
            ("smtp://mail.example:2525/", Protection::StartTls, "mail.example", 2525),
            ("smtp+plain://[::1]", Protection::None, "::1", 25),
        ] {
            let expected = Server { protection, host: host.to_owned(), port };
            assert_eq!(Server::parse(url), Some(expected), "{url}");
        }
        for wrong in
            ["", "mail.example", "http://mail.example", "smtp://", "smtp://u:p@m.example", "smtp://m/x"]
        {
            assert_eq!(Server::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_goes_over_no_unprotected_line_but_to_this_machine() {
        for good in
            ["smtps://m.example", "smtp://m.example", "smtp+plain://127.0.0.1:1025", "smtp+plain://[::1]"]
        {
            assert!(Smtp::new(&with_password(good)).is_ok(), "{good}");
        }
        let error = Smtp::new(&with_password("smtp+plain://10.0.0.1")).unwrap_err();
        assert!(error.to_string().contains("without TLS"), "{error}");
        assert!(
            Smtp::new(&settings("smtp+plain://10.0.0.1")).is_ok(),
            "without one there is nothing to lose"
        );
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused_at_start() {
        let half = SmtpSettings { password: None, ..with_password("smtps://m.example") };
        let nobody = SmtpSettings { from: "nobody".to_owned(), ..settings("smtps://m.example") };
        for wrong in [half, nobody, settings("https://m.example")] {
            assert!(matches!(Smtp::new(&wrong), Err(SetupError::Mail { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_of_a_letter_becomes_another_header() {
        let smtp = Smtp::new(&settings("smtp+plain://127.0.0.1")).unwrap();
        let letter = Letter { id: "job_1", to: "amy@example.com", subject: "Hi", text: "." };
        let written = String::from_utf8(smtp.message(&letter).unwrap().formatted()).unwrap();
        assert!(written.contains("Message-ID: <job_1@example.com>\r\n"), "{written}");
        assert!(written.contains("Auto-Submitted: auto-generated\r\n"), "{written}");
        for wrong in [
            Letter { id: "a>\r\nBcc: x", ..letter.clone() },
            Letter { to: "amy@example.com\r\nBcc: eve@example.com", ..letter.clone() },
            Letter { to: "amy@example.com, eve@example.com", ..letter.clone() },
            Letter { subject: "Hi\r\nBcc: eve@example.com", ..letter },
        ] {
            assert!(matches!(smtp.message(&wrong), Err(VendorError::Rejected { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn neither_password_nor_recipient_is_printed() {
        let settings = with_password("smtps://m.example");
        let letter = Letter { id: "job_1", to: "amy@example.com", subject: "Hi", text: "secret" };
        let printed = format!("{settings:?} {:?} {letter:?}", Smtp::new(&settings).unwrap());
        assert!(!["hunter2", "amy@", "secret"].iter().any(|hidden| printed.contains(hidden)), "{printed}");
    }
}
