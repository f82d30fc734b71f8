//! The report: what came of it all, as text and as JSON.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::partner::Credentials;
use super::submit::{Answer, Outcome};
use super::table::{self, seconds};
use super::trouble::Calls;

/// Everything there is to tell.
#[derive(Debug)]
pub(crate) struct Report {
    /// What came of each row, in the order of the list.
    pub(crate) outcomes: Vec<Outcome>,
    /// What is not as it should be.
    pub(crate) faults: Vec<String>,
    /// How often the meter was called.
    pub(crate) calls: Calls,
    /// From the first request to the last callback.
    pub(crate) took: Duration,
    /// Where to look around.
    pub(crate) addresses: Addresses,
}

/// Where to look around.
#[derive(Debug)]
pub(crate) struct Addresses {
    api: String,
    sandbox: String,
    code: String,
    api_key: String,
}

impl Addresses {
    /// Of a running demonstration.
    pub(crate) fn new(api: &str, sandbox: &str, credentials: &Credentials) -> Self {
        Self {
            api: api.to_owned(),
            sandbox: sandbox.to_owned(),
            code: credentials.code.clone(),
            api_key: credentials.api_key.clone(),
        }
    }

    fn as_text(&self) -> String {
        let Self { api, sandbox, code, api_key } = self;
        format!(
            "API          {api}\nits page     {api}/api-docs/\nmetrics      {api}/metrics\nsandbox      {sandbox}/\n\
             its calls    {sandbox}/_sandbox/calls\n\n\
             Ask yourself:\n  curl -s {api}/api/v1/profiles/enrich -H 'X-Partner-ID: {code}' \\\n    \
             -H 'X-API-Key: {api_key}' \\\n    -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\\n    \
             -d '{{\"url\": \"https://www.tiktok.com/@whoever.you.like\"}}'"
        )
    }
}

/// The figures.
#[derive(Debug, PartialEq)]
struct Numbers {
    jobs: usize,
    completed: usize,
    refused: usize,
    profiles: usize,
    retries: u64,
    p50: Option<Duration>,
    p95: Option<Duration>,
}

impl Report {
    fn numbers(&self) -> Numbers {
        let accepted: Vec<&Outcome> =
            self.outcomes.iter().filter(|outcome| outcome.asked.job().is_some()).collect();
        let completed = |outcome: &&&Outcome| {
            outcome.callback.as_ref().is_some_and(|callback| callback.body["status"] == "completed")
        };
        // Jobs for one profile share one crawl with its attempts: count those once.
        let mut seen = HashSet::new();
        let crawls = accepted.iter().filter(|outcome| seen.insert(outcome.asked.row.profile.as_ref()));
        let retries = crawls.map(|outcome| outcome.attempts().saturating_sub(1)).sum();
        let mut times: Vec<Duration> =
            accepted.iter().filter_map(|outcome| outcome.time_to_callback()).collect();
        times.sort_unstable();
        let refused = |outcome: &&Outcome| matches!(outcome.asked.answer, Answer::Refused(_));
        Numbers {
            jobs: accepted.len(),
            completed: accepted.iter().filter(completed).count(),
            refused: self.outcomes.iter().filter(refused).count(),
            profiles: seen.len(),
            retries,
            p50: percentile(&times, 50),
            p95: percentile(&times, 95),
        }
    }

    /// For people.
    pub(crate) fn as_text(&self) -> String {
        let numbers = self.numbers();
        let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), seconds);
        let answers: Vec<String> =
            self.calls.outcomes.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let answers = if answers.is_empty() { String::new() } else { format!(" ({})", answers.join(", ")) };
        let mut parts = vec![table::of_creators(&self.outcomes)];
        parts.extend(table::of_refusals(&self.outcomes));
        parts.push(format!(
            "{} jobs for {} profiles, {} completed; refused: {}\n\
             {} calls of the profile meter{answers}; {} attempts were repeated later\n\
             time to callback: p50 {}, p95 {}; all of it took {}",
            numbers.jobs,
            numbers.profiles,
            numbers.completed,
            numbers.refused,
            self.calls.total,
            numbers.retries,
            time(numbers.p50),
            time(numbers.p95),
            seconds(self.took),
        ));
        parts.push(self.addresses.as_text());
        parts.join("\n\n")
    }

    /// For programs.
    pub(crate) fn as_json(&self) -> Value {
        let numbers = self.numbers();
        let millis = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let (accepted, others): (Vec<_>, Vec<_>) =
            self.outcomes.iter().partition(|outcome| outcome.asked.job().is_some());
        json!({
            "ok": self.faults.is_empty(),
            "faults": self.faults,
            "jobs": numbers.jobs,
            "profiles": numbers.profiles,
            "completed": numbers.completed,
            "refused": numbers.refused,
            "retries": numbers.retries,
            "vendorCalls": {"total": self.calls.total, "outcomes": self.calls.outcomes},
            "timeToCallbackMs": {"p50": millis(numbers.p50), "p95": millis(numbers.p95)},
            "tookMs": millis(Some(self.took)),
            "creators": accepted.into_iter().map(creator).collect::<Vec<_>>(),
            "refusals": others.into_iter().map(refusal).collect::<Vec<_>>(),
            "addresses": {
                "api": self.addresses.api,
                "apiDocs": format!("{}/api-docs/", self.addresses.api),
                "metrics": format!("{}/metrics", self.addresses.api),
                "sandbox": self.addresses.sandbox,
            },
        })
    }
}

fn creator(outcome: &Outcome) -> Value {
    let profile = outcome.asked.row.profile.as_ref();
    let told = outcome.callback.as_ref().map(|callback| &callback.body);
    json!({
        "url": outcome.asked.row.url,
        "handle": profile.map(|profile| profile.handle()),
        "platform": profile.map(|profile| profile.platform()),
        "jobId": outcome.asked.job(),
        "status": told.map(|told| &told["status"]),
        "followers": told.map(|told| &told["profile"]["followers"]),
        "score": told.map(|told| &told["profile"]["score"]),
        "attempts": outcome.attempts(),
        "timeMs": outcome.time_to_callback().map(|time| time.as_millis() as u64),
        "callback": table::callback(outcome),
    })
}

fn refusal(outcome: &Outcome) -> Value {
    let reason = match &outcome.asked.answer {
        Answer::Refused(reason) | Answer::Other(reason) => Some(reason),
        Answer::Accepted(_) => None,
    };
    json!({"url": outcome.asked.row.url, "reason": reason})
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_secs).collect();
        assert_eq!(percentile(&times, 50), Some(Duration::from_secs(10)));
        assert_eq!(percentile(&times, 95), Some(Duration::from_secs(19)));
        assert_eq!(percentile(&times[..1], 95), Some(Duration::from_secs(1)));
        assert_eq!(percentile(&[], 50), None);
    }
}
