//! What a test tells a sandbox and asks it: faults, counts of calls, what inboxes received.

use std::collections::BTreeMap;

use reqwest::{Client, RequestBuilder};
use sandbox::Sandbox;
use serde::Deserialize;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use url::Url;

use super::client;

/// Callbacks read in one page.
const PAGE: usize = 1_000;

/// The controls of one sandbox.
pub struct SandboxControls {
    url: String,
    client: Client,
}

impl SandboxControls {
    pub fn of(sandbox: &Sandbox) -> Self {
        Self { url: sandbox.url(), client: client() }
    }

    /// Has the sandbox misbehave by these rules, and by no earlier ones.
    pub async fn faults(&self, rules: Value) {
        self.put("faults", json!({ "rules": rules })).await;
    }

    /// Sets a control to a value.
    pub async fn put(&self, control: &str, value: Value) {
        let request = self.client.put(format!("{}/_sandbox/{control}", self.url));
        self.answer(request.json(&value)).await;
    }

    /// What the sandbox counted under a filter such as `vendor=meter&handle=amy`.
    pub async fn calls(&self, filter: &str) -> Value {
        self.answer(self.client.get(format!("{}/_sandbox/calls?{filter}", self.url))).await
    }

    /// How often the meter was asked to enrich a handle.
    pub async fn enriched(&self, handle: &str) -> u64 {
        let calls = self.calls(&format!("vendor=meter&operation=enrich&handle={handle}")).await;
        calls["total"].as_u64().expect("a number")
    }

    /// Everything that an inbox holds, the oldest first.
    pub async fn callbacks(&self, inbox: &str) -> Vec<Callback> {
        let mut all: Vec<Callback> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.sequence);
            let url = format!("{}/_sandbox/callbacks/{inbox}?after={after}&limit={PAGE}", self.url);
            let page = self.answer(self.client.get(url)).await;
            let page: Vec<Callback> = serde_json::from_value(page["callbacks"].clone()).expect("callbacks");
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return all;
            }
        }
    }

    /// The mail that an address has, the oldest first.
    pub async fn mail(&self, address: &str) -> Vec<Value> {
        let page = self.get(&format!("mailbox/{address}")).await;
        serde_json::from_value(page["letters"].clone()).expect("letters")
    }

    /// Empties all mailboxes.
    pub async fn forget_mail(&self) {
        let request = self.client.delete(format!("{}/mailbox", self.url));
        assert!(request.send().await.expect("the sandbox answers").status().is_success());
    }

    /// Tells the sandbox to do something.
    pub async fn post(&self, control: &str) {
        let request = self.client.post(format!("{}/_sandbox/{control}", self.url));
        assert!(request.send().await.expect("the sandbox answers").status().is_success());
    }

    /// The page at an address, whatever its status.
    pub async fn page(&self, url: &str) -> String {
        let response = self.client.get(url).send().await.expect("an answer");
        response.text().await.expect("its text")
    }

    /// Where an address sends its visitors.
    pub async fn redirect(&self, url: &str) -> Url {
        let response = super::api::client_that_stays().get(url).send().await.expect("an answer");
        let location = response.headers().get("location").expect("it sends us on").to_str().expect("ASCII");
        Url::parse(url).and_then(|url| url.join(location)).expect("an address")
    }

    /// What lies at a path of the sandbox.
    pub async fn get(&self, path: &str) -> Value {
        self.answer(self.client.get(format!("{}/{path}", self.url))).await
    }

    async fn answer(&self, request: RequestBuilder) -> Value {
        let response = request.send().await.expect("the sandbox answers");
        let (status, text) = (response.status(), response.text().await.expect("its answer"));
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// A request as a partner's receiver got it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Callback {
    /// Rises with every callback of the sandbox.
    pub sequence: u64,
    pub received_at: chrono::DateTime<chrono::Utc>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Callback {
    /// The body, after the reference library accepted its signature.
    pub fn verified(&self, secret: &str) -> Value {
        assert!(self.is_signed_with(secret), "{self:?}");
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Whether the reference library accepts it.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, self.headers[name].parse().expect("a header value"));
        }
        Webhook::new(secret).expect("a secret").verify(self.body.as_bytes(), &headers).is_ok()
    }
}
