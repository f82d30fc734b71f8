//! Asking: one request for each row of the list, and at the end one look at each job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::list::{List, Row};
use super::partner::Partner;
use super::progress::Progress;
use super::receiver::{Callback, Receiver};

/// Requests under way at once.
const AT_ONCE: usize = 8;

/// A row and what the API said to it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// What was asked for.
    pub(crate) row: Row,
    /// When.
    pub(crate) at: Instant,
    /// The answer.
    pub(crate) answer: Answer,
}

/// The API's answer to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 202 with this job.
    Accepted(String),
    /// 400, for this reason.
    Refused(String),
    /// Anything else.
    Other(String),
}

/// A row with everything that was seen of it from outside.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The request and its answer.
    pub(crate) asked: Asked,
    /// The job as a poll shows it at the end.
    pub(crate) job: Option<Value>,
    /// The callback.
    pub(crate) callback: Option<Callback>,
}

impl Asked {
    /// The job's id, if there is one.
    pub(crate) fn job(&self) -> Option<&str> {
        match &self.answer {
            Answer::Accepted(job) => Some(job),
            _ => None,
        }
    }
}

impl Outcome {
    /// Attempts that the job took.
    pub(crate) fn attempts(&self) -> u64 {
        self.job.as_ref().and_then(|job| job["attempts"].as_u64()).unwrap_or_default()
    }

    /// From the request to its verified callback.
    pub(crate) fn time_to_callback(&self) -> Option<Duration> {
        let callback = self.callback.as_ref().filter(|callback| callback.fault.is_none())?;
        Some(callback.at.saturating_duration_since(self.asked.at))
    }
}

/// Asks for every row, in the order of the list, a few at a time.
pub(crate) async fn submit(
    partner: &Partner,
    list: &List,
    callback_url: &str,
    progress: &Progress,
) -> Vec<Asked> {
    let run = uuid::Uuid::now_v7();
    let requests = list.rows.iter().cloned().enumerate().map(|(number, row)| {
        let (partner, callback_url) = (partner.clone(), callback_url.to_owned());
        let (asked, key) = (progress.clone(), format!("demo-{run}-{number}"));
        async move {
            let at = Instant::now();
            let answer = ask(&partner, &row.url, &callback_url, &key).await;
            asked.asked(1);
            Asked { row, at, answer }
        }
    });
    in_order(requests).await
}

async fn ask(partner: &Partner, url: &str, callback_url: &str, key: &str) -> Answer {
    let request = partner
        .request(Method::POST, "/api/v1/profiles/enrich")
        .header("Idempotency-Key", key)
        .json(&json!({"url": url, "callbackUrl": callback_url}));
    let (status, body) = match request.send().await {
        Err(error) => return Answer::Other(described(&error)),
        Ok(response) => (response.status(), response.json::<Value>().await.unwrap_or_default()),
    };
    let job = body["jobId"].as_str();
    match (status, job) {
        (StatusCode::ACCEPTED, Some(job)) => Answer::Accepted(job.to_owned()),
        (StatusCode::BAD_REQUEST, None) => Answer::Refused(reason(&body["error"])),
        _ => Answer::Other(format!("{status}: {}", reason(&body["error"]))),
    }
}

/// The first detail says more than the message over all of them.
fn reason(error: &Value) -> String {
    let detail = error["details"][0]["message"].as_str();
    detail.or_else(|| error["message"].as_str()).unwrap_or("no reason was given").to_owned()
}

/// Looks at each job once more and puts everything together.
pub(crate) async fn outcomes(partner: &Partner, asked: Vec<Asked>, receiver: &Receiver) -> Vec<Outcome> {
    let looks = asked.into_iter().map(|asked| {
        let partner = partner.clone();
        let callback = asked.job().and_then(|job| receiver.callback(job));
        async move {
            let job = match asked.job() {
                Some(job) => look(&partner, job).await,
                None => None,
            };
            Outcome { asked, job, callback }
        }
    });
    in_order(looks).await
}

async fn look(partner: &Partner, job: &str) -> Option<Value> {
    let answer = partner.request(Method::GET, &format!("/api/v1/jobs/{job}")).send().await.ok()?;
    let mut body: Value = answer.json().await.ok()?;
    body.get_mut("data").map(Value::take)
}

/// Runs a few at a time and gives the results in the order of the list.
async fn in_order<T: Send + 'static>(
    work: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (number, one) in work.enumerate() {
        let places = places.clone();
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            (number, one.await)
        });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

fn described(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
