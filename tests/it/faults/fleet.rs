//! An installation for fault tests: sandbox, API and workers as processes of their own, a partner, and a checker
//! that compares what was accepted with what ended and what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use reqwest::{Client, Method, StatusCode};
use sandbox::Sandbox;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{MillpondProcess, SandboxControls, TestDb, TestPartner, sandbox};

/// Requests that the partner has under way at once.
const REQUESTS_AT_ONCE: usize = 64;

/// One installation.
pub struct Fleet {
    pub db: TestDb,
    pub sandbox: Sandbox,
    pub partner: TestPartner,
    pub api: MillpondProcess,
    pub url: String,
    pub client: Client,
    variables: Vec<(String, String)>,
}

/// What the partner was told about a job.
#[derive(Debug, Default)]
pub struct Told {
    /// The ids under which it was told; more than one would be two pieces of news.
    pub webhook_ids: BTreeSet<String>,
    /// The bodies; more than one would be contradictory news.
    pub bodies: BTreeSet<String>,
}

impl Told {
    /// The one body.
    pub fn body(&self) -> Value {
        let body = self.bodies.first().expect("told");
        serde_json::from_str(body).unwrap()
    }
}

impl Fleet {
    /// An API over an empty database and a sandbox, without workers yet; `variables` are for every process.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let db = TestDb::new().await;
        let sandbox = sandbox().await;
        let partner = TestPartner::create(&db, "techcombank").await;
        let mut all = vec![
            ("MILLPOND_METER__URL".to_owned(), sandbox.meter_url()),
            ("MILLPOND_METER__TOKEN".to_owned(), "sandbox-token".to_owned()),
            ("MILLPOND_WEBHOOKS__ALLOW_LOOPBACK".to_owned(), "true".to_owned()),
            ("MILLPOND_LOG__FILTER".to_owned(), "warn".to_owned()),
        ];
        all.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut api = start(&db, &["api"], &all);
        let url = api.ready_url().await;
        Self { db, sandbox, partner, api, url, client: Client::new(), variables: all }
    }

    /// Starts another process on the same database.
    pub fn process(&self, arguments: &[&str]) -> MillpondProcess {
        start(&self.db, arguments, &self.variables)
    }

    /// Has the sandbox misbehave, in the same way at every run.
    pub async fn faults(&self, rules: Value) {
        self.controls().put("faults", json!({ "seed": 7, "rules": rules })).await;
    }

    /// What the sandbox counted for the vendor `meter`.
    pub async fn vendor(&self) -> VendorCalls {
        let calls = self.controls().calls("vendor=meter").await;
        serde_json::from_value(calls["vendors"][0].clone()).unwrap()
    }

    fn controls(&self) -> SandboxControls {
        SandboxControls::of(&self.sandbox)
    }

    /// Asks for every URL, many at a time, with callbacks to the inbox `told`; answers the accepted job ids.
    pub async fn enrich(&self, urls: impl IntoIterator<Item = String>) -> Vec<String> {
        let asked = stream::iter(urls).map(|url| async move {
            let body = json!({ "url": url, "callbackUrl": self.sandbox.inbox_url("told") });
            let request = self.client.request(Method::POST, format!("{}/api/v1/profiles/enrich", self.url));
            let answer = self.partner.sign(request).json(&body).send().await.unwrap();
            let (status, body) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::ACCEPTED, "{body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            body["jobId"].as_str().unwrap().to_owned()
        });
        asked.buffer_unordered(REQUESTS_AT_ONCE).collect().await
    }

    /// What the partner was told so far, by job; every signature is verified.
    pub async fn told(&self) -> BTreeMap<String, Told> {
        let mut told: BTreeMap<String, Told> = BTreeMap::new();
        for callback in self.controls().callbacks("told").await {
            let body = callback.verified(&self.partner.webhook_secret);
            let job = told.entry(body["jobId"].as_str().unwrap().to_owned()).or_default();
            job.webhook_ids.insert(callback.headers["webhook-id"].clone());
            job.bodies.insert(callback.body);
        }
        told
    }

    /// Waits until every accepted job was told of, for at most `bound`, and checks that none was told of under
    /// two ids or with two bodies, and that none was told of that was not accepted.
    pub async fn all_told(&self, accepted: &[String], bound: Duration) -> BTreeMap<String, Told> {
        let until = std::time::Instant::now() + bound;
        let told = loop {
            let told = self.told().await;
            if accepted.iter().all(|job| told.contains_key(job)) {
                break told;
            }
            assert!(
                std::time::Instant::now() < until,
                "only {} of {} jobs were told of; live: {:#?}",
                told.len(),
                accepted.len(),
                self.live_jobs().await,
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(told.len(), accepted.len(), "told of jobs that were never accepted");
        for (job, told) in &told {
            assert_eq!(told.webhook_ids.len(), 1, "{job} was told under {:?}", told.webhook_ids);
            assert_eq!(told.bodies.len(), 1, "{job} was told in two ways: {:?}", told.bodies);
        }
        told
    }

    /// Some of the jobs that have not ended, those that others wait for first: what they are, where they stand and what happened to them.
    async fn live_jobs(&self) -> Vec<serde_json::Value> {
        sqlx::query_scalar!(
            r#"select jsonb_build_object(
                   'kind', kind, 'state', state, 'attempt', attempt, 'taken back', taken_back,
                   'due in', run_at - now(), 'errors', errors
               ) as "job!"
               from jobs
               order by state = 'waiting', attempt desc
               limit 10"#
        )
        .fetch_all(self.db.pool())
        .await
        .unwrap()
    }
}

fn start(db: &TestDb, arguments: &[&str], variables: &[(String, String)]) -> MillpondProcess {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    MillpondProcess::start(db, arguments, &variables)
}

/// Distinct TikTok profiles, by number.
pub fn profile(number: usize) -> String {
    format!("https://www.tiktok.com/@creator.{number}")
}

/// How often and how long a vendor was asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VendorCalls {
    pub count: u64,
    pub longest_ms: u64,
}
