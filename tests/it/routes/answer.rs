//! What the API answered, and what every one of its refusals must look like.

use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use crate::support::within;

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// Sends a request and reads its answer.
    pub async fn to(request: RequestBuilder) -> Self {
        let read = async {
            let answer = request.send().await.expect("an answer");
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Self { status, headers, bytes: answer.bytes().await.expect("a body").to_vec() }
        };
        within("an answer", read).await
    }

    /// The body as it came.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// A header that was sent once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(values.len() <= 1, "{name} was sent {} times", values.len());
        values.first().map(|value| value.to_str().expect("ASCII"))
    }

    /// The body of an answer with this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Checks that it is a refusal in S0's envelope, with nothing more and nothing less, and answers its body.
    pub fn refusal(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), Some("application/json"));
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&body), ["error", "requestId", "success"], "{body}");
        assert_eq!(body["success"], false);
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        let known = ["code", "details", "message"];
        assert!(names(&body["error"]).iter().all(|name| known.contains(&name.as_str())), "{body}");
        assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{body}");
        body
    }

    /// The faults of a 400, as field and code.
    pub fn faults(&self) -> Vec<(String, String)> {
        let body = self.refusal(400, "VALIDATION_ERROR");
        let faults = body["error"]["details"].as_array().expect("details");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        faults.iter().map(|fault| (text(&fault["field"]), text(&fault["code"]))).collect()
    }
}

/// A body with everything that differs from run to run, or from day to day, replaced by what it is.
pub fn steady(value: Value) -> Value {
    replaced(value, "", false)
}

fn replaced(value: Value, name: &str, in_profile: bool) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(field, value)| {
                let in_profile = in_profile || field == "profile";
                let value = replaced(value, &field, in_profile);
                (field, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => {
            items.into_iter().map(|item| replaced(item, name, in_profile)).collect::<Vec<_>>().into()
        }
        Value::String(text) => Value::String(word_for(&text, name).unwrap_or(text)),
        // The sandbox's profiles drift by the day.
        Value::Number(number) if in_profile => {
            json!(if number.is_f64() { "[decimal]" } else { "[integer]" })
        }
        Value::Number(_) if name == "estimatedTime" => json!("[seconds]"),
        other => other,
    }
}

fn word_for(text: &str, name: &str) -> Option<String> {
    if chrono::DateTime::parse_from_rfc3339(text).is_ok() {
        return Some("[instant]".to_owned());
    }
    if ["requestId", "nextCursor"].contains(&name) {
        return Some(format!("[{name}]"));
    }
    let kinds = ["job", "ptn", "dlv", "at_inf"];
    let kind =
        kinds.iter().find(|kind| text.strip_prefix(*kind).is_some_and(|rest| rest.starts_with('_')))?;
    (text.len() == kind.len() + 27).then(|| format!("[{kind} id]"))
}
