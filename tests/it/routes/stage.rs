//! A partner before the API, with the sandbox behind it. Workers come when a test starts them, so that a test
//! without them sees jobs as they were stored.

use std::collections::BTreeMap;

use config::Sources;
use kernel::ids::JobId;
use queue::Waker;
use reqwest::{Client, Method, RequestBuilder};
use sandbox::Sandbox;
use serde_json::{Value, json};

use super::answer::Answer;
pub use crate::support::Callback;
use crate::support::{
    SandboxControls, TestApi, TestDb, TestPartner, TestWorker, WorkerOptions, client, found, sandbox,
};

/// Everything around one test.
pub struct Stage {
    pub db: TestDb,
    pub api: TestApi,
    pub partner: TestPartner,
    pub sandbox: Sandbox,
    controls: SandboxControls,
    client: Client,
}

impl Stage {
    /// With the settings as shipped.
    pub async fn new() -> Self {
        Self::with(Sources::default()).await
    }

    /// With an API of other settings.
    pub async fn with(sources: Sources) -> Self {
        let db = TestDb::new().await;
        let api = TestApi::start_with(&db, Waker::new(), sources).await;
        let partner = TestPartner::create(&db, "techcombank").await;
        let sandbox = sandbox().await;
        Self { db, api, partner, controls: SandboxControls::of(&sandbox), sandbox, client: client() }
    }

    /// With an API that asks the database about every key it is shown.
    pub async fn without_key_cache() -> Self {
        Self::with(Sources::default().with("api.key_cache_ms", "0")).await
    }

    /// With workers from the start.
    pub async fn working() -> (Self, TestWorker) {
        let stage = Self::new().await;
        let worker = stage.start_worker();
        (stage, worker)
    }

    /// Starts workers that share nothing with the API but the database; no signal passes between them, as between
    /// processes with LISTEN turned off.
    pub fn start_worker(&self) -> TestWorker {
        let mut options = WorkerOptions::new(jobs::ALL);
        options.meter_url = Some(self.sandbox.meter_url());
        options.start(&self.db)
    }

    /// A request of the partner.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.api.request_as(&self.partner, method, path)
    }

    /// The answer to a GET of the partner.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::to(self.ask(Method::GET, path)).await
    }

    /// The partner's wish to have a profile enriched.
    pub fn enrich(&self, body: &Value) -> RequestBuilder {
        self.ask(Method::POST, ENRICH).json(body)
    }

    /// Asks for a TikTok profile and answers the job's id.
    pub async fn enriched(&self, handle: &str) -> String {
        accepted(self.enrich(&json!({ "url": profile(handle) }))).await
    }

    /// The job's end, as its owner polls it.
    pub async fn ended(&self, job: &str) -> Value {
        ended(&self.api, &self.partner, job).await
    }

    /// Cancels a job of the partner.
    pub async fn cancel(&self, job: &str) -> Answer {
        Answer::to(self.ask(Method::POST, &format!("/api/v1/jobs/{job}/cancel"))).await
    }

    /// Has the sandbox misbehave by these rules.
    pub async fn faults(&self, rules: Value) {
        self.controls.faults(rules).await;
    }

    /// How often the meter was asked to enrich a handle, and by which request last.
    pub async fn vendor_calls(&self, handle: &str) -> (u64, Option<String>) {
        let filter = format!("vendor=meter&operation=enrich&handle={handle}");
        let calls = self.controls.calls(&filter).await;
        let last = calls["calls"][0]["lastRequestId"].as_str().map(str::to_owned);
        (calls["total"].as_u64().expect("a number"), last)
    }

    /// The headers of each of the meter's latest calls to enrich a handle, the oldest first.
    pub async fn vendor_headers(&self, handle: &str) -> Vec<BTreeMap<String, String>> {
        let filter = format!("vendor=meter&operation=enrich&handle={handle}");
        let calls = self.controls.calls(&filter).await;
        let calls = calls["recent"].as_array().expect("calls").iter();
        calls.map(|call| serde_json::from_value(call["headers"].clone()).expect("headers")).collect()
    }

    /// What the vendor itself says about a TikTok profile.
    pub async fn vendor_profile(&self, handle: &str) -> Value {
        let request = self
            .client
            .post(format!("{}/v1/profiles/enrich", self.sandbox.meter_url()))
            .bearer_auth(sandbox::SandboxOptions::default().token)
            .header("idempotency-key", handle)
            .json(&json!({ "url": profile(handle) }));
        Answer::to(request).await.expect(200)["profile"].clone()
    }

    /// Everything that an inbox of the sandbox holds.
    pub async fn callbacks(&self, inbox: &str) -> Vec<Callback> {
        self.controls.callbacks(inbox).await
    }

    /// The first callback of an inbox, once it is there.
    pub async fn callback(&self, inbox: &str) -> Callback {
        found("a callback", async || self.callbacks(inbox).await.into_iter().next()).await
    }
}

/// Where enriching is asked for.
pub const ENRICH: &str = "/api/v1/profiles/enrich";

/// A TikTok profile's address.
pub fn profile(handle: &str) -> String {
    format!("https://www.tiktok.com/@{handle}")
}

/// Sends a request that must be accepted and answers the job's id.
pub async fn accepted(request: RequestBuilder) -> String {
    let body = Answer::to(request).await.expect(202);
    let job = body["jobId"].as_str().expect("an id").to_owned();
    job.parse::<JobId>().expect("a job's id");
    job
}

/// A job's end, as its owner polls it.
pub async fn ended(api: &TestApi, partner: &TestPartner, job: &str) -> Value {
    let path = format!("/api/v1/jobs/{job}?wait=15");
    let body = Answer::to(api.request_as(partner, Method::GET, &path)).await.expect(200);
    let data = body["data"].clone();
    assert!(data["finishedAt"].is_string(), "the job has not ended: {data}");
    data
}
