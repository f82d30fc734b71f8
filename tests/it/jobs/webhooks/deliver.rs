//! `webhooks.deliver`: what a receiver gets, which answers end a delivery, and what is recorded of each attempt.

use std::collections::BTreeSet;
use std::time::Duration;

use jobs::webhooks::Deliver;
use kernel::clock::now;
use queue::{Job, JobStatus, Outcome, Redriven};
use serde_json::json;
use webhooks::{ATTEMPTS_MAX, DeliveryStatus, RETRY_DELAYS};

use crate::jobs::stage::*;

#[tokio::test]
async fn a_delivery_waits_for_its_job_and_goes_out_once() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, Some("told")).await;
    assert!(stage.kit.claim_all(DELIVER).await.is_empty());
    stage.kit.run_one::<Enrich>().await;
    assert!(stage.kit.claim_all(DELIVER).await.is_empty());
    let fetch = stage.kit.run_one::<Fetch>().await;
    let delivered = stage.kit.run_one::<Deliver>().await;
    assert_eq!((delivered.id, delivered.status), (asked.deliver_job(), JobStatus::Completed));

    let callbacks = stage.controls.callbacks("told").await;
    assert_eq!(callbacks.len(), 1);
    let body = callbacks[0].verified(&stage.partner.webhook_secret);
    assert_eq!(body, json!({ "jobId": asked.job, "status": "completed", "profile": profile(&fetch) }));
    let headers = &callbacks[0].headers;
    assert_eq!(headers["webhook-id"], asked.delivery().to_string());
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-request-id"], "req-42");

    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!(delivery.status, DeliveryStatus::Delivered);
    assert!(delivery.ended_at.is_some());
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].response_status), (1, 1, Some(200)));
    assert_eq!(attempts[0].response_body.as_deref(), Some(r#"{"received":true}"#));
    assert_eq!(attempts[0].error, None);
}

#[tokio::test]
async fn every_2xx_is_taken_as_received_and_nothing_else_is() {
    let stage = Stage::new().await;
    let taken = [200, 201, 202, 204, 226, 299];
    let not_taken =
        [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 409, 411, 422, 429, 500, 502, 503, 599];
    let inbox = |status: u16| format!("answers.{status}");
    let elsewhere = stage.sandbox.inbox_url("elsewhere");
    let rules = taken.iter().chain(&not_taken).map(|status| {
        let fault = json!({ "kind": "status", "status": status, "location": elsewhere });
        json!({ "handle": inbox(*status), "fault": fault })
    });
    stage.controls.faults(rules.collect()).await;
    let mut asked = Vec::new();
    for status in taken.into_iter().chain(not_taken) {
        asked.push((status, stage.ended(&inbox(status)).await));
    }
    stage.kit.run_all::<Deliver>().await;
    for (status, asked) in asked {
        let (delivery, attempts) = stage.delivery(asked).await;
        let expected =
            if taken.contains(&status) { DeliveryStatus::Delivered } else { DeliveryStatus::Pending };
        assert_eq!(delivery.status, expected, "{status}");
        let answered: Vec<_> = attempts.iter().map(|attempt| attempt.response_status).collect();
        assert_eq!(answered, [Some(i16::try_from(status).unwrap())]);
        let job = stage.kit.record(asked.tenant, asked.deliver_job()).await;
        assert_eq!(job.status == JobStatus::Completed, expected == DeliveryStatus::Delivered, "{status}");
    }
    assert!(stage.controls.callbacks("elsewhere").await.is_empty(), "a redirect was followed");
    stage.kit.leaves::<Deliver>(not_taken.len());
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_asked_again() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "status", "status": 410, "retryAfter": "5" })).await;
    let asked = stage.ended("told").await;
    let job = stage.kit.run_one::<Deliver>().await;
    assert_eq!((job.status, job.attempts, failure_code(&job)), (JobStatus::Failed, 1, "GONE"));
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Failed, 1));
    assert!(delivery.ended_at.is_some());
}

#[tokio::test]
async fn the_whole_schedule_is_kept_with_one_id_and_one_body_and_then_the_delivery_has_failed() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "status", "status": 500 })).await;
    let asked = stage.ended("told").await;
    let mut delays = Vec::new();
    let mut job = stage.kit.run_one::<Deliver>().await;
    while !job.status.has_ended() {
        assert_eq!(stage.delivery(asked).await.0.status, DeliveryStatus::Pending);
        let delay = delay(&job);
        delays.push(delay);
        stage.kit.clock.advance(delay - Duration::from_millis(1)).await;
        assert!(stage.kit.claim_all(DELIVER).await.is_empty(), "before its time");
        stage.kit.clock.advance(Duration::from_millis(1)).await;
        job = stage.kit.run_one::<Deliver>().await;
    }
    assert_eq!(delays, RETRY_DELAYS);
    assert_eq!(&delays[..3], [5, 300, 1_800].map(Duration::from_secs), "5 s, 5 min, 30 min and on");
    assert_eq!((job.status, failure_code(&job)), (JobStatus::Failed, "NOT_DELIVERED"));
    assert_eq!((job.attempts, ATTEMPTS_MAX), (10, 10));

    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!(delivery.status, DeliveryStatus::Failed);
    assert_eq!(
        attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    assert!(attempts.iter().all(|attempt| attempt.response_status == Some(500)));
    assert!(attempts.is_sorted_by_key(|attempt| attempt.sent_at));

    let callbacks = stage.controls.callbacks("told").await;
    assert_eq!(callbacks.len(), 10);
    let ids: BTreeSet<_> = callbacks.iter().map(|callback| &callback.headers["webhook-id"]).collect();
    let bodies: BTreeSet<_> = callbacks.iter().map(|callback| &callback.body).collect();
    assert_eq!((ids.len(), bodies.len()), (1, 1));
    assert!(ids.contains(&asked.delivery().to_string()));
    for callback in &callbacks {
        callback.verified(&stage.partner.webhook_secret);
    }
}

#[tokio::test]
async fn every_attempt_is_signed_at_its_own_time() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "status", "status": 503 })).await;
    stage.ended("told").await;
    stage.kit.run_one::<Deliver>().await;
    let signed_at = async |attempt: usize| {
        let callback = stage.controls.callbacks("told").await.remove(attempt);
        assert!(callback.is_signed_with(&stage.partner.webhook_secret));
        let timestamp: i64 = callback.headers["webhook-timestamp"].parse().unwrap();
        assert!((0..=5).contains(&(callback.received_at.timestamp() - timestamp)), "{callback:?}");
        (timestamp, callback.headers["webhook-signature"].clone())
    };
    let (at, signature) = signed_at(0).await;
    // Into the next second, which is as fine as the timestamp is.
    crate::support::eventually("the next second", async || now().timestamp() > at).await;
    stage.kit.advance_to_next().await;
    stage.kit.run_one::<Deliver>().await;
    let (later, other_signature) = signed_at(1).await;
    assert!(later > at);
    assert_ne!(signature, other_signature);
    stage.kit.leaves::<Deliver>(1);
}

#[tokio::test]
async fn a_receiver_that_recovers_is_told_and_the_schedule_ends() {
    let stage = Stage::new().await;
    stage.controls.faults(json!([{ "first": 2, "fault": { "kind": "status", "status": 502 } }])).await;
    let asked = stage.ended("told").await;
    for expected in [JobStatus::Processing, JobStatus::Processing, JobStatus::Completed] {
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!(job.status, expected);
        if !expected.has_ended() {
            stage.kit.advance_to_next().await;
        }
    }
    let (delivery, attempts) = stage.delivery(asked).await;
    let answered: Vec<_> = attempts.iter().filter_map(|attempt| attempt.response_status).collect();
    assert_eq!((delivery.status, answered), (DeliveryStatus::Delivered, vec![502, 502, 200]));
}

#[tokio::test]
async fn a_worker_that_dies_before_recording_the_answer_tells_again_under_the_same_id() {
    let stage = Stage::new().await;
    let asked = stage.ended("told").await;
    let claimed = stage.kit.claim(DELIVER).await;
    stage.kit.die().await;
    let answer = stage.kit.run(&claimed).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(!stage.kit.settle(&claimed, answer).await);
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Pending, 0));

    let job = stage.kit.successor().await.run_one(DELIVER).await;
    assert_eq!((job.status, job.attempts, job.taken_back), (JobStatus::Completed, 1, 1));
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Delivered, 1));
    let callbacks = stage.controls.callbacks("told").await;
    assert_eq!(callbacks.len(), 2, "at least once");
    assert_eq!(callbacks[0].headers["webhook-id"], callbacks[1].headers["webhook-id"]);
    assert_eq!(callbacks[0].body, callbacks[1].body);
}

#[tokio::test]
async fn a_worker_that_dies_after_recording_a_failure_leaves_the_delivery_to_its_next_attempt() {
    let stage = Stage::new().await;
    stage.controls.faults(json!([{ "first": 1, "fault": { "kind": "status", "status": 500 } }])).await;
    let asked = stage.ended("told").await;
    let claimed = stage.kit.claim(DELIVER).await;
    let answer = stage.kit.run(&claimed).await;
    stage.kit.die().await;
    assert!(!stage.kit.settle(&claimed, answer).await);
    assert_eq!(stage.kit.successor().await.run_one(DELIVER).await.status, JobStatus::Completed);
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Delivered, 2));
}

#[tokio::test]
async fn a_delivery_that_was_made_is_not_made_again() {
    let stage = Stage::new().await;
    let asked = stage.ended("told").await;
    let claimed = stage.kit.claim(DELIVER).await;
    assert!(matches!(stage.kit.run(&claimed).await, Ok(Outcome::Settled(_))));
    let again = stage.kit.run(&claimed).await.unwrap();
    assert!(matches!(again, Outcome::Done(None)), "{again:?}");
    assert!(!stage.kit.settle(&claimed, Ok(again)).await);
    assert_eq!(stage.controls.callbacks("told").await.len(), 1);
    assert_eq!(stage.delivery(asked).await.1.len(), 1);
}

#[tokio::test]
async fn a_job_tried_again_before_its_failure_was_told_is_told_by_its_second_end() {
    let stage = Stage::new().await;
    let url = "https://www.tiktok.com/@amy.codes";
    stage
        .controls
        .faults(json!([
            { "vendor": "meter", "first": 1, "fault": { "kind": "status", "status": 422 } },
            { "vendor": "partner", "first": 1, "fault": { "kind": "status", "status": 500 } },
        ]))
        .await;
    let asked = stage.ask(url, Some("told")).await;
    stage.kit.run_one::<Enrich>().await;
    stage.kit.run_one::<Fetch>().await;
    let deliver = stage.kit.run_one::<Deliver>().await;
    assert_eq!(deliver.status, JobStatus::Processing);

    let mut tx = db::begin(stage.pool()).await.unwrap();
    let redriven = queue::redrive(&mut tx, asked.tenant, asked.job).await.unwrap();
    assert_eq!(redriven, Redriven::Ready(Some(jobs::profiles::Enrich::POLICY.queue)));
    tx.commit().await.unwrap();
    stage.make_due(deliver.id).await;
    let held_back = stage.kit.run_one::<Deliver>().await;
    assert_eq!((held_back.status, held_back.attempts), (JobStatus::Processing, 1), "it costs no attempt");

    stage.kit.run_one::<Enrich>().await;
    stage.kit.run_one::<Fetch>().await;
    stage.make_due(deliver.id).await;
    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Completed);
    let told = stage.controls.callbacks("told").await;
    let statuses: Vec<_> = told
        .iter()
        .map(|callback| callback.verified(&stage.partner.webhook_secret)["status"].clone())
        .collect();
    assert_eq!(statuses, ["failed", "completed"]);
}

#[tokio::test]
async fn a_delivery_that_was_given_up_goes_out_when_an_operator_tries_its_job_again() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "status", "status": 410 })).await;
    let asked = stage.ended("told").await;
    let given_up = stage.kit.run_one::<Deliver>().await;
    assert_eq!(given_up.status, JobStatus::Failed);

    stage.controls.faults(json!([])).await;
    let mut tx = db::begin(stage.pool()).await.unwrap();
    let redriven = queue::redrive(&mut tx, given_up.tenant, given_up.id).await.unwrap();
    assert_eq!(redriven, Redriven::Ready(Some(Deliver::POLICY.queue)));
    jobs::webhooks::reopen_for(&mut tx, &given_up).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Completed);
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Delivered, 2));
    assert_eq!(stage.controls.callbacks("told").await.len(), 2);
}

#[tokio::test]
async fn a_partner_can_be_told_of_many_jobs_at_once() {
    let stage = Stage::new().await;
    let mut asked = BTreeSet::new();
    for _ in 0..30 {
        asked.insert(stage.ended("told").await.delivery().to_string());
    }
    let delivered = stage.kit.run_all::<Deliver>().await;
    assert!(delivered.iter().all(|job| job.status == JobStatus::Completed));
    let callbacks = stage.controls.callbacks("told").await;
    let told: BTreeSet<_> = callbacks.iter().map(|callback| callback.headers["webhook-id"].clone()).collect();
    assert_eq!((told, callbacks.len()), (asked, 30));
}
