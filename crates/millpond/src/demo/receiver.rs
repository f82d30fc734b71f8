//! The partner's webhook receiver: it verifies every callback before it believes it.
//!
//! Guarantees: a callback counts only when its signature fits the bytes that arrived, the id and the time in its
//! headers, and that time is about now. Repeats under the same id are harmless; a second id for the same job is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::ServerLimits;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use webhooks::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret};

use super::progress::Progress;
use super::submit::Asked;
use crate::error::CliError;
use crate::runtime::vendor::free_port;

/// How far a callback's time may be from ours (Standard Webhooks leaves it to the receiver; its libraries use this).
const AGE_S_MAX: u64 = 5 * 60;
/// When nothing new was told for so long, something is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const LIMITS: ServerLimits = ServerLimits {
    connections_max: 256,
    header_read_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(30),
    drain_timeout: Duration::from_secs(1),
};

/// One job's callback as it arrived first.
#[derive(Debug, Clone)]
pub(crate) struct Callback {
    /// When.
    pub(crate) at: Instant,
    /// Its `webhook-id`.
    pub(crate) id: String,
    /// What it told.
    pub(crate) body: Value,
    /// What was wrong with it or with a later one for the same job.
    pub(crate) fault: Option<String>,
}

/// A receiver at a free port.
#[derive(Debug)]
pub(crate) struct Receiver {
    url: String,
    inbox: Arc<Inbox>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

#[derive(Debug)]
struct Inbox {
    secret: Secret,
    arrived: Notify,
    mail: Mutex<Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    callbacks: HashMap<String, Callback>,
    /// Callbacks that name no job.
    nameless: Vec<String>,
}

impl Receiver {
    /// Starts it.
    pub(crate) async fn start(secret: &str) -> Result<Self, CliError> {
        let secret = Secret::parse(secret).map_err(|error| CliError::part("the webhook secret", error))?;
        let listen = free_port();
        let failed = |source| CliError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let url = format!("http://{}/callbacks", listener.local_addr().map_err(failed)?);
        let inbox = Arc::new(Inbox { secret, arrived: Notify::new(), mail: Mutex::default() });
        let router = Router::new().route("/callbacks", post(receive)).with_state(inbox.clone());
        let stop = CancellationToken::new();
        let server = tokio::spawn(api::serve(listener, router, LIMITS, stop.clone()));
        Ok(Self { url, inbox, stop, server })
    }

    /// What to give as `callbackUrl`.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// What was told of a job.
    pub(crate) fn callback(&self, job: &str) -> Option<Callback> {
        self.inbox.mail().callbacks.get(job).cloned()
    }

    /// Waits until every accepted job was told of, or until nothing new comes any more. The answer says what is stuck.
    pub(crate) async fn wait_for(&self, asked: &[Asked], progress: &mut Progress) -> Result<(), String> {
        let jobs: Vec<&str> = asked.iter().filter_map(Asked::job).collect();
        let mut told = 0;
        let mut since = Instant::now();
        loop {
            let arrived = self.inbox.arrived.notified();
            let missing = self.missing(&jobs);
            if jobs.len() - missing > told {
                told = jobs.len() - missing;
                since = Instant::now();
            }
            progress.told(told, jobs.len());
            if missing == 0 {
                return Ok(());
            }
            let Some(patience) = SILENCE_MAX.checked_sub(since.elapsed()) else {
                return Err(format!(
                    "{missing} of {} jobs were not told of, and nothing came for {} s",
                    jobs.len(),
                    SILENCE_MAX.as_secs()
                ));
            };
            // A callback between the look and here has left its mark in `arrived`.
            let _ = tokio::time::timeout(patience, arrived).await;
        }
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // Its only failure would be a panic, and the callbacks that matter have been read.
        let _ = self.server.await;
    }

    fn missing(&self, jobs: &[&str]) -> usize {
        let mail = self.inbox.mail();
        jobs.iter().filter(|job| !mail.callbacks.contains_key(**job)).count()
    }

    /// Callbacks that could not be assigned to a job.
    pub(crate) fn nameless(&self) -> Vec<String> {
        self.inbox.mail().nameless.clone()
    }
}

impl Inbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mail {
    fn take(&mut self, verified: Result<String, String>, body: Value) {
        let Some(job) = body["jobId"].as_str().map(str::to_owned) else {
            self.nameless.push(verified.err().unwrap_or_else(|| "a callback names no job".to_owned()));
            return;
        };
        let (id, fault) = match verified {
            Ok(id) => (id, None),
            Err(fault) => (String::new(), Some(fault)),
        };
        match self.callbacks.get_mut(&job) {
            None => {
                self.callbacks.insert(job, Callback { at: Instant::now(), id, body, fault });
            }
            Some(first) if fault.is_some() => first.fault = fault,
            Some(first) if first.id != id => first.fault = Some("told twice, under two ids".to_owned()),
            Some(first) if first.body != body => first.fault = Some("told twice, differently".to_owned()),
            Some(_) => {}
        }
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let verified = verify(&inbox.secret, &headers, &body, kernel::clock::now());
    let status = if verified.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
    inbox.mail().take(verified, serde_json::from_slice(&body).unwrap_or_default());
    inbox.arrived.notify_one();
    status
}

/// The callback's id, if its signature is ours and its time is about `now`.
fn verify(secret: &Secret, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<String, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("the header {name} is missing"))
    };
    let (id, timestamp, signatures) =
        (header(HEADER_ID)?, header(HEADER_TIMESTAMP)?, header(HEADER_SIGNATURE)?);
    let at = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let at = at.ok_or_else(|| format!("{timestamp:?} is not a time"))?;
    if now.signed_duration_since(at).num_seconds().unsigned_abs() > AGE_S_MAX {
        return Err(format!("it was signed at {at}, too far from now"));
    }
    let ours = secret.sign(id, at, body).signature;
    match signatures.split(' ').any(|signature| signature == ours) {
        true => Ok(id.to_owned()),
        false => Err("the signature does not fit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret: &Secret, id: &str, at: DateTime<Utc>, body: &[u8]) -> HeaderMap {
        let signed = secret.sign(id, at, body);
        let headers = signed.headers().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        headers.into_iter().collect()
    }

    #[test]
    fn only_what_was_signed_with_the_secret_about_now_is_believed() {
        let (secret, now) = (Secret::generate(), kernel::clock::now());
        let headers = signed(&secret, "dlv_1", now, b"{}");
        assert_eq!(verify(&secret, &headers, b"{}", now), Ok("dlv_1".to_owned()));
        assert!(verify(&secret, &headers, b"{ }", now).is_err());
        assert!(verify(&Secret::generate(), &headers, b"{}", now).is_err());
        assert!(verify(&secret, &headers, b"{}", now + chrono::Duration::minutes(6)).is_err());
        assert!(verify(&secret, &HeaderMap::new(), b"{}", now).is_err());
    }

    #[test]
    fn repeats_are_harmless_and_second_versions_are_not() {
        let told = |mails: &[(&str, &str)]| {
            let mut mail = Mail::default();
            for (id, status) in mails {
                let body = serde_json::json!({"jobId": "job_1", "status": status});
                mail.take(Ok((*id).to_owned()), body);
            }
            mail.callbacks["job_1"].fault.clone()
        };
        assert_eq!(told(&[("dlv_1", "completed"), ("dlv_1", "completed")]), None);
        assert!(told(&[("dlv_1", "completed"), ("dlv_2", "completed")]).is_some());
        assert!(told(&[("dlv_1", "completed"), ("dlv_1", "failed")]).is_some());
    }
}
