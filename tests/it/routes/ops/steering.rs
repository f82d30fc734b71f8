//! Queues, limits, schedules, workers and shares.

use super::*;

#[tokio::test]
async fn a_queue_is_paused_bounded_and_resumed() {
    let stage = OpsStage::new().await;
    let paused = stage.post("queues/enrich/pause", json!({})).await.expect(200)["data"].clone();
    assert_eq!((&paused["isPaused"], &paused["running"]), (&json!(true), &json!(0)));
    let unknown = stage.post("queues/enrich/pause", json!({"kind": "nothing.real"})).await;
    assert_eq!(unknown.faults()[0].0, "kind");
    stage.post("queues/nowhere/pause", json!({})).await.refusal(404, "NOT_FOUND");

    let bound = |max: Value| stage.ask(Method::PUT, "queues/enrich/concurrency").json(&json!({ "max": max }));
    assert_eq!(Answer::to(bound(json!(0))).await.faults()[0].0, "max");
    Answer::to(bound(json!(3))).await.expect(200);
    let queues = stage.read("queues?sort=-ready").await;
    let enrich = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "enrich").unwrap().clone();
    assert_eq!(enrich["concurrencyMax"], 3);
    assert_eq!(enrich["pausedBy"], stage.admin.id.to_string());

    stage.post("queues/enrich/resume", json!({})).await.expect(200);
    stage.post("queues/enrich/resume", json!({})).await.refusal(409, "CONFLICT");
    Answer::to(bound(Value::Null)).await.expect(200);
    let actions: Vec<Value> =
        stage.audited("queues.").await.into_iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(
        actions,
        ["queues.pause", "queues.set_concurrency", "queues.resume", "queues.set_concurrency"]
    );
}

#[tokio::test]
async fn a_limit_is_set_and_reset() {
    let stage = OpsStage::new().await;
    let set = |name: &str, body: Value| stage.ask(Method::PUT, &format!("limits/{name}")).json(&body);
    let faults = Answer::to(set("meter.calls", json!({"shape": "rate", "max": 5, "period": "day"}))).await;
    let fields: Vec<String> = faults.faults().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["windowMs", "period"]);
    let made = Answer::to(set("test.calls", json!({"shape": "rate", "max": 5, "windowMs": 1_000}))).await;
    assert_eq!(made.expect(200)["data"]["max"], 5);
    let budget = json!({"shape": "budget", "max": 100, "period": "month"});
    assert_eq!(Answer::to(set("test.money", budget)).await.expect(200)["data"]["max"], 100);
    let limits = stage.read("limits").await;
    let names: Vec<&str> =
        limits.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"test.calls") && names.contains(&"test.money"), "{names:?}");
    let reset = || stage.ask(Method::DELETE, "limits/test.calls");
    assert_eq!(Answer::to(reset()).await.expect(200)["data"]["limit"], Value::Null);
    Answer::to(reset()).await.refusal(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_schedule_is_made_paused_run_and_removed() {
    let stage = OpsStage::new().await;
    let set = |body: Value| stage.ask(Method::PUT, "schedules/nightly").json(&body);
    assert_eq!(Answer::to(set(json!({"cron": "nonsense"}))).await.faults().len(), 2);
    let made = json!({"cron": "0 4 * * *", "kind": "maintenance.prune_jobs", "timeZone": "Asia/Ho_Chi_Minh"});
    let made = Answer::to(set(made)).await.expect(200)["data"].clone();
    assert_eq!((&made["isEnabled"], &made["isDeclared"]), (&json!(true), &json!(false)));
    stage.post("schedules/nightly/pause", json!({})).await.expect(200);
    stage.post("schedules/nightly/pause", json!({})).await.refusal(409, "CONFLICT");
    let run = stage.post("schedules/nightly/run", json!({})).await.expect(202)["data"].clone();
    let shown = stage.read("schedules/nightly").await;
    assert_eq!(shown["ticks"][0]["jobId"], run["jobId"]);
    assert_eq!(shown["ticks"][0]["askedBy"], stage.admin.id.to_string());
    stage.post("schedules/nightly/resume", json!({})).await.expect(200);
    let remove = || stage.ask(Method::DELETE, "schedules/nightly");
    assert_eq!(Answer::to(remove()).await.expect(200)["data"]["isRemoved"], true);
    Answer::to(remove()).await.refusal(404, "NOT_FOUND");
    assert_eq!(stage.audited("schedules.").await.len(), 5);
}

#[tokio::test]
async fn a_worker_is_quieted_and_stopped() {
    let stage = OpsStage::new().await;
    let worker = crate::support::WorkerOptions::new(::jobs::ALL).start(&stage.db);
    let listed = crate::support::found("a worker", async || {
        stage.read("workers").await.as_array().unwrap().first().cloned()
    });
    let id = listed.await["id"].as_str().unwrap().to_owned();
    let ask = async |what: &str| stage.post(&format!("workers/{id}/{what}"), json!({})).await;
    assert_eq!(ask("quiet").await.expect(200)["data"]["asked"], "quiet");
    assert_eq!(ask("resume").await.expect(200)["data"]["asked"], Value::Null);
    assert_eq!(ask("stop").await.expect(200)["data"]["asked"], "stop");
    let gone = async || stage.read("workers").await.as_array().unwrap().is_empty();
    crate::support::eventually("the worker has ended", gone).await;
    stage
        .post("workers/01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10/quiet", json!({}))
        .await
        .refusal(404, "NOT_FOUND");
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_is_to_stop_is_not_resumed() {
    let stage = OpsStage::new().await;
    // Registered, and nobody works there: one that does would be gone as soon as it hears of it.
    let info = crate::support::process_info(&[]);
    let id = queue::register(stage.db.pool(), &info).await.unwrap();
    let ask = async |what: &str| stage.post(&format!("workers/{id}/{what}"), json!({})).await;
    assert_eq!(ask("stop").await.expect(200)["data"]["asked"], "stop");
    ask("resume").await.refusal(409, "CONFLICT");
    assert_eq!(stage.read("workers").await[0]["asked"], "stop");
}

#[tokio::test]
async fn a_tenants_share_is_set_by_its_name() {
    let stage = OpsStage::new().await;
    let set = |name: &str, body: Value| stage.ask(Method::PATCH, &format!("tenants/{name}")).json(&body);
    let share = Answer::to(set("techcombank", json!({"weight": 7, "concurrencyMax": 2}))).await.expect(200);
    assert_eq!((&share["data"]["weight"], &share["data"]["concurrencyMax"]), (&json!(7), &json!(2)));
    let share = Answer::to(set("techcombank", json!({"concurrencyMax": null}))).await.expect(200);
    assert_eq!((&share["data"]["weight"], &share["data"]["concurrencyMax"]), (&json!(7), &Value::Null));
    let tenants = stage.read("tenants").await;
    let techcombank = tenants.as_array().unwrap().iter().find(|one| one["name"] == "techcombank").unwrap();
    assert_eq!(techcombank["weight"], 7);
    Answer::to(set("nobody", json!({}))).await.refusal(404, "NOT_FOUND");
    assert_eq!(Answer::to(set("techcombank", json!({"weight": 0}))).await.faults()[0].0, "weight");
}
