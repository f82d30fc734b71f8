//! The sandbox's mild misbehaviour, and its count of calls.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::list::List;
use super::partner::Partner;
use crate::error::CliError;

/// Every so many creators, the first call for one of them is refused, so that retries are seen with any list.
const REFUSED_EVERY: usize = 12;

/// How often the meter was called, and what it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// All of them.
    pub(crate) total: u64,
    /// By status, or by the fault in its place.
    pub(crate) outcomes: BTreeMap<String, u64>,
}

/// Tells the sandbox how to misbehave.
pub(crate) async fn begin(partner: &Partner, sandbox: &str, list: &List) -> Result<(), CliError> {
    let request = partner.request_elsewhere(Method::PUT, &format!("{sandbox}/_sandbox/faults"));
    let answer = request.json(&rules(list)).send().await.and_then(reqwest::Response::error_for_status);
    answer.map(|_| ()).map_err(|error| CliError::part("telling the sandbox how to misbehave", error))
}

/// Some calls are slow, some are refused for now, some fail. Waits are short, so that nobody waits long.
fn rules(list: &List) -> Value {
    let aimed = list.rows.iter().filter_map(|row| row.sandbox_handle()).step_by(REFUSED_EVERY).enumerate();
    let mut rules: Vec<Value> = aimed
        .map(|(number, handle)| {
            let status = if number % 2 == 0 { 429 } else { 500 };
            json!({"vendor": "meter", "handle": handle, "first": 1,
                   "fault": {"kind": "status", "status": status, "retryAfter": "1"}})
        })
        .collect();
    rules.extend([
        json!({"vendor": "meter", "fault": {"kind": "latency", "ms": 60, "jitterMs": 500}}),
        json!({"vendor": "meter", "share": 0.06, "firstOfHandle": 2,
               "fault": {"kind": "status", "status": 429, "retryAfter": "1"}}),
        json!({"vendor": "meter", "share": 0.06, "firstOfHandle": 2,
               "fault": {"kind": "status", "status": 500}}),
    ]);
    json!({"seed": 20_260, "rules": rules})
}

/// Asks the sandbox what it was called for.
pub(crate) async fn calls(partner: &Partner, sandbox: &str) -> Result<Calls, CliError> {
    let failed = |error| CliError::part("asking the sandbox for its calls", error);
    let url = format!("{sandbox}/_sandbox/calls?vendor=meter");
    let answer = partner.request_elsewhere(Method::GET, &url).send().await.map_err(failed)?;
    let listing: Listing = answer.json().await.map_err(failed)?;
    let mut outcomes = BTreeMap::new();
    for (status, count) in listing.calls.into_iter().flat_map(|row| row.statuses) {
        *outcomes.entry(status).or_default() += count;
    }
    Ok(Calls { total: listing.total, outcomes })
}

#[derive(Debug, Deserialize)]
struct Listing {
    total: u64,
    calls: Vec<CallsOfHandle>,
}

#[derive(Debug, Deserialize)]
struct CallsOfHandle {
    statuses: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_meets_a_refusal() {
        for list in [List::load(None).unwrap(), List { rows: List::load(None).unwrap().rows[..1].to_vec() }] {
            let rules = rules(&list);
            assert!(rules["rules"].as_array().unwrap().iter().any(|rule| rule["first"] == 1));
        }
    }
}
