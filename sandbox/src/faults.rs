//! Faults on demand: the rules, and which of them meets a call.
//!
//! Guarantees: rules are tried in their order. Latency adds to whatever else happens; of all other faults at most one
//! meets a call. Shares divide the calls between them: rules of 0.3 and 0.2 meet half of all calls, never one call both.
//! Whether a call is met follows from the seed, the handle and how many calls of that handle came before, so the order
//! in which the calls of different handles arrive makes no difference.
//!
//! On failure: a set of rules is taken whole or refused whole, with the reason.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::calls::Call;
use crate::fingerprint::Draws;
use crate::json::{self, Refusal};
use crate::oidc::WrongIdToken;

const RULES_MAX: usize = 1_000;
const WAIT_MS_MAX: u64 = 600_000;
const BODY_BYTES_MAX: u64 = 1 << 30;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The answer comes late, by `ms` and up to `jitter_ms` more.
    Latency {
        ms: u64,
        #[serde(default)]
        jitter_ms: u64,
    },
    /// Another status is answered and nothing is done.
    Status {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
    },
    /// The work is done; the answer breaks off in its middle.
    Truncated {},
    /// The work is done; the answer is no JSON.
    Malformed {},
    /// Nothing is ever answered.
    Hang {},
    /// The work is done; the connection is closed without an answer.
    Drop {},
    /// The work is done; the answer has this many bytes.
    Oversized {
        #[serde(default = "oversized_bytes")]
        bytes: u64,
    },
    /// The work is done; the answer's head comes at once and its body in small pieces over this time.
    SlowBody { ms: u64 },
    /// The answer holds an ID token that is not to be believed.
    IdToken { wrong: WrongIdToken },
}

fn oversized_bytes() -> u64 {
    64 << 20
}

impl Fault {
    /// How the fault is called in counts and records: a status by its number, the others by their kind.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Latency { .. } => "latency".to_owned(),
            Self::Status { status, .. } => status.to_string(),
            Self::Truncated {} => "truncated".to_owned(),
            Self::Malformed {} => "malformed".to_owned(),
            Self::Hang {} => "hang".to_owned(),
            Self::Drop {} => "drop".to_owned(),
            Self::Oversized { .. } => "oversized".to_owned(),
            Self::SlowBody { .. } => "slow_body".to_owned(),
            Self::IdToken { .. } => "id_token".to_owned(),
        }
    }

    fn check(&self) -> Result<(), String> {
        let waits = |ms: u64| {
            (ms <= WAIT_MS_MAX).then_some(()).ok_or_else(|| format!("waits end at {WAIT_MS_MAX} ms"))
        };
        match self {
            Self::Latency { ms, jitter_ms } => waits(*ms).and(waits(*jitter_ms)),
            Self::SlowBody { ms } => waits(*ms),
            Self::Oversized { bytes } if *bytes > BODY_BYTES_MAX => {
                Err(format!("a body has at most {BODY_BYTES_MAX} bytes"))
            }
            Self::Status { status, .. } if !(200..=599).contains(status) => {
                Err("a status is from 200 to 599".to_owned())
            }
            Self::Status { retry_after, location, .. } => {
                let sendable = [retry_after, location]
                    .into_iter()
                    .flatten()
                    .all(|text| HeaderValue::from_str(text).is_ok());
                sendable.then_some(()).ok_or_else(|| "retryAfter and location are header values".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// When a fault happens. Whatever is left out does not limit it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vendor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// The part of the calls that it meets, from 0 to 1.
    #[serde(default = "all")]
    share: f64,
    /// It stops after it happened so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    /// It meets only the first so many calls of each handle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_of_handle: Option<u64>,
    fault: Fault,
    /// How often it happened; told, never taken.
    #[serde(default, skip_deserializing)]
    happened: u64,
}

fn all() -> f64 {
    1.0
}

impl Rule {
    fn concerns(&self, call: &Call) -> bool {
        self.vendor.as_deref().is_none_or(|vendor| vendor == call.vendor())
            && self.operation.as_deref().is_none_or(|operation| operation == call.operation())
            && self.handle.as_deref().is_none_or(|handle| Some(handle) == call.handle())
            && self.first.is_none_or(|first| self.happened < first)
            && self.first_of_handle.is_none_or(|first| call.number <= first)
    }

    fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err("share is from 0 to 1".to_owned());
        }
        let names = [&self.vendor, &self.operation, &self.handle];
        if names.into_iter().flatten().any(|name| name.len() > 200) {
            return Err("names have at most 200 bytes".to_owned());
        }
        self.fault.check()
    }
}

/// The rules in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSet {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// What a call meets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    pub(crate) fault: Option<Fault>,
}

impl RuleSet {
    fn check(&self) -> Result<(), String> {
        if self.rules.len() > RULES_MAX {
            return Err(format!("at most {RULES_MAX} rules"));
        }
        self.rules
            .iter()
            .enumerate()
            .try_for_each(|(at, rule)| rule.check().map_err(|why| format!("rules[{at}]: {why}")))
    }

    fn plan(&mut self, call: &Call) -> Plan {
        let (seed, number) = (self.seed.to_string(), call.number.to_string());
        let words = ["fault", &seed, call.vendor(), call.operation(), call.handle().unwrap_or(""), &number];
        let mut draws = Draws::of(&words);
        let mut lot = draws.unit();
        let mut plan = Plan::default();
        for rule in &mut self.rules {
            if !rule.concerns(call) {
                continue;
            }
            if let Fault::Latency { ms, jitter_ms } = rule.fault {
                if draws.chance(rule.share) {
                    rule.happened += 1;
                    plan.latency +=
                        Duration::from_millis(ms) + Duration::from_millis(jitter_ms).mul_f64(draws.unit());
                }
            } else if plan.fault.is_none() {
                if lot < rule.share {
                    rule.happened += 1;
                    plan.fault = Some(rule.fault.clone());
                }
                lot -= rule.share;
            }
        }
        plan
    }
}

/// The faults of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<RuleSet>);

impl Faults {
    fn rules(&self) -> MutexGuard<'_, RuleSet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what this call meets, and counts it against the rules.
    pub(crate) fn plan(&self, call: &Call) -> Plan {
        self.rules().plan(call)
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/_sandbox/faults", get(list).put(replace).delete(clear))
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    json::answer(StatusCode::OK, &*shared.faults.rules())
}

async fn replace(State(shared): State<Arc<Shared>>, body: Result<Bytes, BytesRejection>) -> Response {
    let checked = json::read::<RuleSet>(body).and_then(|set| match set.check() {
        Ok(()) => Ok(set),
        Err(why) => Err(Refusal::invalid(why)),
    });
    match checked {
        Ok(set) => {
            let answer = json::answer(StatusCode::OK, &set);
            *shared.faults.rules() = set;
            answer
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn clear(State(shared): State<Arc<Shared>>) -> StatusCode {
    *shared.faults.rules() = RuleSet::default();
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;
    use crate::calls::Calls;

    fn rules(text: &str) -> RuleSet {
        let set: RuleSet = serde_json::from_str(text).unwrap();
        set.check().unwrap();
        set
    }

    fn labels(set: &mut RuleSet, handles: &[String]) -> Vec<String> {
        let calls = Arc::new(Calls::default());
        let plan = |handle: &String| {
            set.plan(&calls.begin("meter", "enrich", Some(handle), None, &HeaderMap::new()))
        };
        handles
            .iter()
            .map(plan)
            .map(|plan| plan.fault.map_or("none".to_owned(), |fault| fault.label()))
            .collect()
    }

    const MISERY: &str = r#"{"seed": 7, "rules": [
        {"share": 0.3, "fault": {"kind": "status", "status": 500}},
        {"share": 0.2, "fault": {"kind": "status", "status": 429, "retryAfter": "1"}},
        {"share": 0.05, "fault": {"kind": "malformed"}}]}"#;

    #[test]
    fn shares_divide_the_calls_between_the_rules() {
        let handles: Vec<String> = (0..10_000).map(|n| format!("h{n}")).collect();
        let met = labels(&mut rules(MISERY), &handles);
        let part = |label: &str| met.iter().filter(|met| *met == label).count() as f64 / 10_000.0;
        for (label, share) in [("500", 0.30), ("429", 0.20), ("malformed", 0.05), ("none", 0.45)] {
            assert!((part(label) - share).abs() < 0.02, "{label} {}", part(label));
        }
    }

    #[test]
    fn the_same_seed_meets_the_same_calls_in_any_order_of_arrival() {
        let mut handles: Vec<String> = (0..200).map(|n| format!("h{n}")).collect();
        let mut once: Vec<_> = handles.iter().cloned().zip(labels(&mut rules(MISERY), &handles)).collect();
        handles.reverse();
        let mut again: Vec<_> = handles.iter().cloned().zip(labels(&mut rules(MISERY), &handles)).collect();
        once.sort();
        again.sort();
        assert_eq!(once, again);

        let other_seed = MISERY.replace("\"seed\": 7", "\"seed\": 8");
        assert_ne!(labels(&mut rules(MISERY), &handles), labels(&mut rules(&other_seed), &handles));
    }

    #[test]
    fn a_rule_can_be_aimed_and_limited() {
        let mut set = rules(
            r#"{"rules": [
                {"handle": "amy", "first": 1, "fault": {"kind": "drop"}},
                {"firstOfHandle": 1, "fault": {"kind": "hang"}}]}"#,
        );
        let handles = ["amy", "bob", "amy", "bob"].map(String::from);
        assert_eq!(labels(&mut set, &handles), ["drop", "hang", "none", "none"]);
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for text in [
            r#"{"rules": [{"fault": {"kind": "explode"}}]}"#,
            r#"{"rules": [{"fault": {"kind": "hang", "ms": 3}}]}"#,
            r#"{"rules": [{"share": 0.5}]}"#,
            r#"{"rules": [{"when": "later", "fault": {"kind": "hang"}}]}"#,
        ] {
            assert!(serde_json::from_str::<RuleSet>(text).is_err(), "{text}");
        }
        for text in [
            r#"{"rules": [{"share": 1.5, "fault": {"kind": "hang"}}]}"#,
            r#"{"rules": [{"fault": {"kind": "status", "status": 99}}]}"#,
            r#"{"rules": [{"fault": {"kind": "status", "status": 429, "retryAfter": "a\nb"}}]}"#,
            r#"{"rules": [{"fault": {"kind": "latency", "ms": 99999999}}]}"#,
        ] {
            assert!(serde_json::from_str::<RuleSet>(text).unwrap().check().is_err(), "{text}");
        }
    }
}
