//! `POST /api/v1/jobs/{id}/cancel`: calling a job off, queued, running or waiting for a crawl.

use jobs::profiles::Enrich;
use jobs::{Context, Entry, Handler};
use queue::{Job, JobError, Outcome, Policy};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{ENRICH, Stage, accepted, ended, profile};
use crate::support::{TestPartner, TestWorker, eventually};

async fn status(stage: &Stage, job: &str) -> String {
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
    polled["data"]["status"].as_str().unwrap().to_owned()
}

/// Waits until the meter has been asked for this handle, so that its crawl is under way.
async fn asked_the_vendor(stage: &Stage, handle: &str) {
    eventually("the vendor to be asked", async || stage.vendor_calls(handle).await.0 > 0).await;
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_its_callback_says_so() {
    let stage = Stage::new().await;
    let wish = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("told") });
    let job = accepted(stage.enrich(&wish)).await;
    let cancelled = stage.cancel(&job).await;
    insta::assert_json_snapshot!("cancelled", steady(cancelled.expect(200)));

    let _worker = stage.start_worker();
    let told = stage.callback("told").await.verified(&stage.partner.webhook_secret);
    assert_eq!(told["jobId"], job);
    insta::assert_json_snapshot!("callback", steady(told));
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 0, "nobody works for a cancelled job");
}

#[tokio::test]
async fn cancelling_again_is_the_same_answer() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let first = stage.cancel(&job).await.expect(200);
    assert_eq!(stage.cancel(&job).await.expect(200), first);
}

/// An enrich job that never ends by itself.
#[derive(Deserialize, Serialize)]
struct Endless {}

impl Job for Endless {
    const KIND: &'static str = Enrich::KIND;
    const POLICY: Policy = Enrich::POLICY;
}

impl Handler for Endless {
    async fn run(self, _: Context) -> Result<Outcome, JobError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_running_job_is_told_to_stop_and_stops() {
    const KINDS: &[Entry] = &[jobs::entry::<Endless>()];
    let stage = Stage::new().await;
    let _worker = TestWorker::start(&stage.db, KINDS);
    let job = stage.enriched("amy.codes").await;
    eventually("the job to run", async || status(&stage, &job).await == "processing").await;

    let asked = stage.cancel(&job).await;
    insta::assert_json_snapshot!("asked", steady(asked.expect(202)));
    assert_eq!(stage.ended(&job).await["error"]["code"], "CANCELLED");
}

#[tokio::test]
async fn a_crawl_goes_on_for_those_who_still_want_it() {
    let stage = Stage::new().await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    stage.faults(json!([{ "handle": "amy.codes", "fault": { "kind": "latency", "ms": 700 } }])).await;
    let _worker = stage.start_worker();
    let mine = stage.enriched("amy.codes").await;
    let wish = json!({ "url": profile("amy.codes") });
    let theirs = accepted(stage.api.request_as(&other, Method::POST, ENRICH).json(&wish)).await;
    asked_the_vendor(&stage, "amy.codes").await;

    let cancelled = stage.cancel(&mine).await;
    assert_eq!(cancelled.expect(200)["data"]["status"], "cancelled");
    assert_eq!(ended(&stage.api, &other, &theirs).await["status"], "completed");
    assert_eq!(status(&stage, &mine).await, "cancelled");
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}

#[tokio::test]
async fn a_crawl_that_nobody_wants_any_more_still_ends_and_is_there_for_the_next() {
    let stage = Stage::new().await;
    stage.faults(json!([{ "handle": "amy.codes", "fault": { "kind": "latency", "ms": 500 } }])).await;
    let _worker = stage.start_worker();
    let job = stage.enriched("amy.codes").await;
    asked_the_vendor(&stage, "amy.codes").await;
    stage.cancel(&job).await.expect(200);

    let next = stage.enriched("amy.codes").await;
    assert_eq!(stage.ended(&next).await["status"], "completed");
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}

#[tokio::test]
async fn a_job_that_has_ended_otherwise_cannot_be_cancelled() {
    let (stage, _worker) = Stage::working().await;
    let completed = stage.enriched("amy.codes").await;
    stage.ended(&completed).await;
    let refused = stage.cancel(&completed).await;
    insta::assert_json_snapshot!("completed", steady(refused.refusal(409, "CONFLICT")));
    let failed = stage.enriched("missing.person").await;
    stage.ended(&failed).await;
    stage.cancel(&failed).await.refusal(409, "CONFLICT");
    assert_eq!(
        (status(&stage, &completed).await, status(&stage, &failed).await),
        ("completed".into(), "failed".into())
    );
}

#[tokio::test]
async fn another_partners_job_is_absent_and_stays_as_it_is() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let path = format!("/api/v1/jobs/{job}/cancel");
    Answer::to(stage.api.request_as(&other, Method::POST, &path)).await.refusal(404, "NOT_FOUND");
    assert_eq!(status(&stage, &job).await, "queued");
    stage.cancel("job_00000000000000000000000000").await.refusal(404, "NOT_FOUND");
    stage.cancel("ptn_00000000000000000000000000").await.refusal(400, "VALIDATION_ERROR");
}
