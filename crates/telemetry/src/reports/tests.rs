use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::TelemetryError;

const WAIT_MAX: Duration = Duration::from_secs(20);
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A receiver of reports: its DSN, and the bodies of what it was sent.
fn ingest() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://{KEY}@{}/42", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            while let Some(body) = request(&stream) {
                if tell.send(body).is_err() {
                    return;
                }
                let mut answer = &stream;
                answer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            }
        }
    });
    (dsn, told)
}

/// The next request's body, if there is one.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().to_lowercase().strip_prefix("content-length:") {
            Some(text) => length = text.trim().parse().ok()?,
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// The event in an envelope: headers, an item's headers, the item.
fn event(envelope: &str) -> Value {
    let lines = envelope.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .into_iter()
        .find(|line| line.get("tags").is_some())
        .unwrap_or_else(|| panic!("no event in {envelope}"))
}

// S0-179
#[test]
fn an_error_and_a_panic_are_reported_with_their_job_and_without_secrets() {
    let (dsn, received) = ingest();
    let settings = ReportSettings { dsn, environment: "tests".to_owned() };
    assert!(!format!("{settings:?}").contains(KEY));
    let client = Arc::new(client::client(&settings).unwrap());
    let reporter = Reporter::new(client.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(reporter), || {
        let _request =
            tracing::info_span!("request", request.id = "follow-me", partner.id = tracing::field::Empty);
        let request = _request.enter();
        _request.record("partner.id", "partner_1");
        let _job = tracing::info_span!("job", job.id = "job_1", job.kind = "profiles.fetch", job.attempt = 2)
            .entered();
        tracing::warn!("not so bad");
        tracing::error!(
            error = "password=hunter2 of amy@example.com",
            api_key = "mpk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM",
            rows = 3,
            "it failed for +12025550123"
        );
        // The process's own, as after a start; it stays, because another test starts logs for good.
        std::panic::set_hook(Box::new(crate::logs::log_panic));
        assert!(std::panic::catch_unwind(|| panic!("it said {}", "amy@example.com")).is_err());
        drop(request);
    });
    let reported = [received.recv_timeout(WAIT_MAX).unwrap(), received.recv_timeout(WAIT_MAX).unwrap()];
    assert!(client.close(Some(WAIT_MAX)));
    assert!(received.try_recv().is_err(), "warnings are not reported");
    for secret in ["hunter2", "amy@", "mpk_0", "2025550123"] {
        assert!(!reported.concat().contains(secret), "{secret} is in {reported:?}");
    }
    let [failure, panicked] = reported.map(|envelope| event(&envelope));
    assert_eq!(failure["message"], "it failed for [redacted]");
    assert_eq!(failure["environment"], "tests");
    assert_eq!(failure["extra"]["rows"], "3");
    assert_eq!(panicked["message"], "a thread panicked");
    assert_eq!(panicked["extra"]["panic.message"], "it said [redacted]");
    for report in [failure, panicked] {
        assert_eq!(report["tags"]["request.id"], "follow-me");
        assert_eq!(report["tags"]["partner.id"], "partner_1");
        assert_eq!(report["tags"]["job.id"], "job_1");
        assert_eq!(report["tags"]["job.kind"], "profiles.fetch");
        assert_eq!(report["tags"]["job.attempt"], "2");
        assert_eq!(report.get("level"), None, "an error is what the protocol takes it for");
    }
}

#[test]
fn a_dsn_that_cannot_be_read_is_refused_without_being_shown() {
    for dsn in ["", "hunter2", "https://sentry.example/42", "https://hunter2@sentry.example/"] {
        let refused = client::client(&ReportSettings { dsn: dsn.to_owned(), environment: String::new() });
        let error = refused.map(drop).expect_err("refused");
        assert!(matches!(error, TelemetryError::Dsn) && !error.to_string().contains("hunter2"), "{dsn}");
    }
}
