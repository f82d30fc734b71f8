//! Finding jobs, looking at one, trying it again, calling it off.

use super::*;

#[tokio::test]
async fn jobs_are_found_by_what_is_known_of_them() {
    let stage = OpsStage::new().await;
    let (first, second) = (stage.enrich("amy.codes").await, stage.enrich("bob.cooks").await);
    let found = async |query: &str| -> Vec<String> {
        let jobs = stage.read(&format!("jobs?{query}")).await;
        let jobs = jobs.as_array().unwrap().iter();
        jobs.map(|job| job["jobId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("kind=profiles.enrich").await, [second.clone(), first.clone()]);
    assert_eq!(found("kind=profiles.enrich&sort=createdAt").await, [first.clone(), second.clone()]);
    assert_eq!(found("tenant=techcombank&state=ready,running&limit=1").await, [second.as_str()]);
    assert!(found("tenant=system").await.is_empty());
    assert!(found("state=failed").await.is_empty());
    let request = stage.read(&format!("jobs/{first}")).await["requestId"].as_str().unwrap().to_owned();
    assert_eq!(found(&format!("requestId={request}&kind=profiles.enrich")).await, [first.as_str()]);
    // Profiles stand in arguments as addresses.
    let argument = "kind=profiles.enrich&createdFrom=2020-01-01T00:00:00Z\
                    &argument=profile=https://www.tiktok.com/@amy.codes";
    let by_argument = Answer::to(stage.ask(Method::GET, &format!("jobs?{argument}"))).await.expect(200);
    assert!(by_argument["partial"].is_boolean());
    assert_eq!(found(argument).await, [first.as_str()]);
    let alone = Answer::to(stage.ask(Method::GET, "jobs?argument=url=x")).await;
    assert_eq!(alone.faults()[0].0, "argument");
    let count = stage.read("jobs/count?kind=profiles.enrich").await;
    assert_eq!((&count["count"], &count["isEstimated"]), (&json!(2), &json!(false)));
    let wrong = Answer::to(stage.ask(Method::GET, "jobs?state=lost&tenant=nobody&createdFrom=now")).await;
    assert_eq!(wrong.faults().len(), 2);
}

#[tokio::test]
async fn a_job_is_shown_with_why_it_does_not_run_cancelled_and_tried_again() {
    let stage = OpsStage::new().await;
    stage.post("queues/enrich/pause", json!({})).await.expect(200);
    let id = stage.enrich("amy.codes").await;
    let job = stage.read(&format!("jobs/{id}")).await;
    assert_eq!((&job["owner"], &job["state"]), (&json!("techcombank"), &json!("ready")));
    assert_eq!(job["timeline"][0]["what"], "stored");
    assert!(!job["blockers"].as_array().unwrap().is_empty(), "{job}");
    assert!(!job["args"].to_string().is_empty());

    stage.post(&format!("jobs/{id}/retry"), json!({})).await.refusal(409, "CONFLICT");
    assert_eq!(
        stage.post(&format!("jobs/{id}/cancel"), json!({})).await.expect(200)["data"]["state"],
        "cancelled"
    );
    let job = stage.read(&format!("jobs/{id}")).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("cancelled"), &json!("CANCELLED")));
    assert_eq!(
        stage.post(&format!("jobs/{id}/retry"), json!({})).await.expect(200)["data"]["state"],
        "ready"
    );
    let nobody = kernel::ids::JobId::new();
    stage.post(&format!("jobs/{nobody}/cancel"), json!({})).await.refusal(404, "NOT_FOUND");
    let entries = stage.audited("jobs.").await;
    assert!(entries.iter().all(|entry| entry["tenant"] == "techcombank"), "{entries:?}");
}

#[tokio::test]
async fn dead_letters_are_grouped_and_their_group_is_found() {
    let stage = OpsStage::new().await;
    for (n, handle) in ["amy.codes", "bob.cooks"].into_iter().enumerate() {
        let id: kernel::ids::JobId = stage.enrich(handle).await.parse().unwrap();
        fail(&stage, id, &format!("the vendor answered 50{n}")).await;
    }
    let dead = stage.read("dead").await;
    assert_eq!(dead.as_array().unwrap().len(), 1, "{dead}");
    assert_eq!((&dead[0]["jobs"], &dead[0]["errorSignature"]), (&json!(2), &json!("the vendor answered #")));
    let group = "jobs?state=failed&kind=profiles.enrich&errorCode=VENDOR_UNAVAILABLE&errorSignature=the%20vendor%20answered%20%23";
    assert_eq!(stage.read(group).await.as_array().unwrap().len(), 2);
}

/// Has a job fail for good with this message.
pub async fn fail(stage: &OpsStage, id: kernel::ids::JobId, message: &str) {
    let error = json!({"code": "VENDOR_UNAVAILABLE", "message": message});
    let moved = sqlx::query(
        "with gone as (delete from jobs where id = $1 returning *)
         insert into jobs_finished (tenant_id, id, lane, share_id, created_at, ended, priority, attempt, attempts_max,
             taken_back, queue, kind, request_id, args, error)
         select tenant_id, id, lane, share_id, created_at, 'failed', priority, 1, attempts_max, taken_back, queue, kind,
             request_id, args, $2
         from gone",
    )
    .bind(id.uuid())
    .bind(error)
    .execute(stage.db.pool())
    .await
    .unwrap();
    assert_eq!(moved.rows_affected(), 1);
}
