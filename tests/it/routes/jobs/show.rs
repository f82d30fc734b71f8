//! `GET /api/v1/jobs/{id}`: a job through its life, and waiting for its end.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kernel::ids::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{Stage, accepted, profile};
use crate::support::{MillpondProcess, TestApi, TestPartner, eventually, process_info};

const ABSENT: &str = "/api/v1/jobs/job_00000000000000000000000000";

#[tokio::test]
async fn a_queued_job_tells_when_to_come_back() {
    let stage = Stage::new().await;
    queue::register(stage.db.pool(), &process_info(jobs::ALL)).await.unwrap();
    let job = stage.enriched("amy.codes").await;
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
    insta::assert_json_snapshot!("queued", steady(polled.expect(200)));
    let data = &polled.json()["data"];
    assert_eq!(data["jobId"], job);
    let estimated = data["estimatedTime"].as_u64().unwrap();
    assert!((1..=10).contains(&estimated));
    assert_eq!(polled.header("retry-after"), Some(estimated.to_string().as_str()));
    let instant = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let range = &data["etaRange"];
    assert!(instant(&range["earliest"]) <= instant(&data["eta"]), "{data}");
    assert!(instant(&data["eta"]) <= instant(&range["latest"]), "{data}");
}

#[tokio::test]
async fn a_job_that_nobody_could_run_names_no_time_but_when_to_come_back() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
    let body = polled.expect(200);
    for absent in ["estimatedTime", "eta", "etaRange"] {
        assert_eq!(body["data"].get(absent), None);
    }
    assert_eq!(polled.header("retry-after"), Some("10"));
}

#[tokio::test]
async fn a_running_job_tells_its_owner_and_operators_how_far_it_is() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let poll = async || stage.get(&format!("/api/v1/jobs/{job}")).await.expect(200)["data"].clone();
    assert_eq!(poll().await.get("progress"), None, "while there is none");
    let process = queue::register(stage.db.pool(), &process_info(&[])).await.unwrap();
    let claimed = queue::claim(stage.db.pool(), process, queue::Queue::Enrich, 1).await.unwrap().remove(0);
    let mut report =
        queue::ProgressReport { done: 2, total: Some(5), note: Some("two pages read".to_owned()) };
    queue::write_progress(stage.db.pool(), &[(claimed.lease, report.clone())]).await.unwrap();
    let expected = json!({ "done": 2, "total": 5, "note": "two pages read" });
    assert_eq!(poll().await["progress"], expected);
    let mut command = MillpondProcess::start(&stage.db, &["jobs", "show", &job, "--json"], &[]);
    assert!(command.ended().await.success(), "{}", command.log());
    eventually("the command's answer", async || {
        let said = command.log();
        let compact: String = said.split_whitespace().collect();
        compact.contains(r#""progress":{"done":2,"note":"twopagesread","total":5}"#)
    })
    .await;
    (report.total, report.note) = (None, None);
    queue::write_progress(stage.db.pool(), &[(claimed.lease, report)]).await.unwrap();
    assert_eq!(poll().await["progress"], json!({ "done": 2 }));
}

// S0-017, S0-087
#[tokio::test]
async fn a_completed_job_has_the_whole_profile() {
    let (stage, _worker) = Stage::working().await;
    let job = stage.enriched("amy.codes").await;
    stage.ended(&job).await;
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
    insta::assert_json_snapshot!("completed", steady(polled.expect(200)));
    assert_eq!(polled.header("retry-after"), None);
}

#[tokio::test]
async fn a_failed_job_has_its_error_and_answers_200_all_the_same() {
    let (stage, _worker) = Stage::working().await;
    let job = stage.enriched("missing.person").await;
    stage.ended(&job).await;
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
    insta::assert_json_snapshot!("failed", steady(polled.expect(200)));
}

#[tokio::test]
async fn a_cancelled_job_says_so() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    stage.cancel(&job).await.expect(200);
    let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
    insta::assert_json_snapshot!("cancelled", steady(polled.expect(200)));
}

#[tokio::test]
async fn a_held_poll_answers_promptly_when_the_job_ends_though_no_signal_is_heard() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let held = async {
        let answer = stage.get(&format!("/api/v1/jobs/{job}?wait=20")).await;
        (answer, Instant::now())
    };
    let end = async {
        // The worker shares only the database with the API.
        let worker = stage.start_worker();
        eventually("the job to have ended", async || {
            stage.get(&format!("/api/v1/jobs/{job}")).await.json()["data"]["status"] == "completed"
        })
        .await;
        (worker, Instant::now())
    };
    let ((answer, answered), (_worker, ended)) = tokio::join!(held, end);
    assert_eq!(answer.expect(200)["data"]["status"], "completed");
    let late = answered.saturating_duration_since(ended);
    assert!(late < Duration::from_secs(1), "{late:?} after the end was seen");
}

#[tokio::test]
async fn a_held_poll_answers_after_its_wait_with_where_the_job_stands() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let asked = Instant::now();
    let answer = stage.get(&format!("/api/v1/jobs/{job}?wait=1")).await;
    assert_eq!(answer.expect(200)["data"]["status"], "queued");
    assert!(answer.header("retry-after").is_some());
    assert!(asked.elapsed() >= Duration::from_secs(1));
    stage.get(&format!("/api/v1/jobs/{job}?wait=0")).await.expect(200);
}

#[tokio::test]
async fn an_ended_job_is_not_waited_for() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    stage.cancel(&job).await.expect(200);
    let asked = Instant::now();
    stage.get(&format!("/api/v1/jobs/{job}?wait=25")).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn many_held_polls_take_no_connections_and_are_all_answered() {
    // Each of two API processes has ten connections.
    let stage = Stage::new().await;
    let other_process = TestApi::start(&stage.db).await;
    let handles: Vec<_> = (0..60).map(|number| format!("creator.{number}")).collect();
    let jobs = join_all(handles.iter().map(|handle| stage.enriched(handle))).await;
    let polls = jobs.iter().flat_map(|job| {
        [&stage.api, &other_process].map(|api| {
            let path = format!("/api/v1/jobs/{job}?wait=20");
            Answer::to(api.request_as(&stage.partner, Method::GET, &path))
        })
    });
    let work = async {
        stage.get("/api/v1/jobs").await.expect(200);
        stage.start_worker()
    };
    let (answers, _worker) = tokio::join!(join_all(polls), work);
    for answer in answers {
        assert_eq!(answer.expect(200)["data"]["status"], "completed");
    }
}

#[tokio::test]
async fn a_wait_that_is_none_is_refused() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    for wait in ["26", "-1", "1.5", "soon", ""] {
        let refused = stage.get(&format!("/api/v1/jobs/{job}?wait={wait}")).await;
        assert_eq!(refused.faults(), [("wait".to_owned(), "INVALID".to_owned())], "{wait:?}");
    }
}

#[tokio::test]
async fn an_id_of_another_kind_is_refused_with_the_prefix_that_was_expected() {
    let stage = Stage::new().await;
    let refused = stage.get(&format!("/api/v1/jobs/{}", stage.partner.id)).await;
    let body = refused.refusal(400, "VALIDATION_ERROR");
    assert!(body["error"]["details"][0]["message"].as_str().unwrap().contains("job"), "{body}");
    for id in ["job", "job_", "job_123", "JOB_00000000000000000000000000", "0193-uuid", "job_%20"] {
        let refused = stage.get(&format!("/api/v1/jobs/{id}")).await;
        assert_eq!(refused.faults(), [("id".to_owned(), "INVALID".to_owned())], "{id}");
    }
    let wrong = stage.get("/api/v1/jobs/ptn_01jd8x4xkre9a8y9tbn2p5q3mw").await;
    insta::assert_json_snapshot!("wrong_prefix", steady(wrong.json()));
}

// S0-003, S0-348
#[tokio::test]
async fn another_partners_job_is_as_absent_as_one_that_never_was() {
    let stage = Stage::new().await;
    let job = stage.enriched("amy.codes").await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let absent = steady(stage.get(ABSENT).await.refusal(404, "NOT_FOUND"));
    for query in ["", "?wait=5"] {
        let path = format!("/api/v1/jobs/{job}{query}");
        let answer = Answer::to(stage.api.request_as(&other, Method::GET, &path)).await;
        assert_eq!(steady(answer.refusal(404, "NOT_FOUND")), absent);
    }
    insta::assert_json_snapshot!("absent", absent);
}

#[tokio::test]
async fn jobs_that_serve_a_partners_job_are_not_shown() {
    let stage = Stage::new().await;
    let wish = json!({ "url": profile("amy.codes"), "callbackUrl": stage.sandbox.inbox_url("told") });
    accepted(stage.enrich(&wish)).await;
    let delivery = sqlx::query_scalar!("select id from jobs where kind = 'webhooks.deliver'")
        .fetch_one(stage.db.pool())
        .await
        .unwrap();
    let delivery = JobId::from_uuid(delivery);
    stage.get(&format!("/api/v1/jobs/{delivery}")).await.refusal(404, "NOT_FOUND");
    stage.cancel(&delivery.to_string()).await.refusal(404, "NOT_FOUND");
}
