//! `profiles.enrich`: every asker has a job, a result and a callback of its own; the vendor is asked once.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use queue::{Cancelled, JobStatus, Outcome};
use serde_json::json;

use crate::jobs::stage::*;
use crate::support::{TestPartner, TestWorker, WorkerOptions, eventually};

#[tokio::test]
async fn many_askers_of_several_partners_cost_one_call_and_each_is_told_its_own_end() {
    let stage = Stage::new().await;
    let others = [
        TestPartner::create(&stage.kit.db, "vinfast").await,
        TestPartner::create(&stage.kit.db, "amba").await,
    ];
    let partners = [&stage.partner, &others[0], &others[1]];
    let mut asked = Vec::new();
    for partner in partners {
        for _ in 0..2 {
            asked.push(stage.ask_as(partner, AMY, Some(&partner.code)).await);
        }
    }
    for waiting in stage.kit.run_all::<Enrich>().await {
        assert_eq!(
            (waiting.status, waiting.attempts),
            (JobStatus::Processing, 0),
            "waiting costs no attempt"
        );
    }
    let fetch = stage.kit.run_one::<Fetch>().await;
    assert_eq!(fetch.status, JobStatus::Completed);
    assert_eq!(stage.fetches().await.len(), 1);
    assert_eq!(stage.controls.enriched("amy.codes").await, 1);

    for asked in &asked {
        let job = stage.record(*asked).await;
        assert_eq!((job.status, &job.result), (JobStatus::Completed, &fetch.result));
        assert_eq!(job.subject, Some(pool_id(&fetch)), "erasure finds the job");
    }
    assert_eq!(fetch.subject, Some(pool_id(&fetch)));
    assert_eq!(profile(&fetch)["username"], "amy.codes");

    assert_eq!(stage.kit.run_all::<Deliver>().await.len(), asked.len());
    for partner in partners {
        let mut told = BTreeSet::new();
        for callback in stage.controls.callbacks(&partner.code).await {
            let body = callback.verified(&partner.webhook_secret);
            assert_eq!((&body["status"], &body["profile"]), (&json!("completed"), profile(&fetch)));
            told.insert(body["jobId"].as_str().unwrap().to_owned());
        }
        let own = asked.iter().filter(|asked| asked.tenant == partner.tenant());
        assert_eq!(told, own.map(|asked| asked.job.to_string()).collect());
    }
}

#[tokio::test]
async fn a_crowd_of_askers_over_several_workers_costs_one_call() {
    let stage = Stage::new().await;
    stage.kit.clock.run_on().await;
    // Slow enough that the crowd comes while the call is under way.
    stage.vendor_fault(json!({ "kind": "latency", "ms": 100 })).await;
    let other = TestPartner::create(&stage.kit.db, "vinfast").await;
    let start = || {
        let mut options = WorkerOptions::new(jobs::ALL);
        options.meter_url = Some(stage.sandbox.meter_url());
        options.start(&stage.kit.db)
    };
    let _workers: [TestWorker; 2] = [start(), start()];
    let asks =
        (0..60).map(|n| stage.ask_as(if n % 2 == 0 { &stage.partner } else { &other }, AMY, Some("told")));
    let asked: BTreeSet<String> = join_all(asks).await.iter().map(|asked| asked.job.to_string()).collect();

    eventually("everybody is told", async || stage.controls.callbacks("told").await.len() >= asked.len())
        .await;
    let bodies = stage.controls.callbacks("told").await;
    let told = bodies.iter().map(|callback| {
        let body: serde_json::Value = serde_json::from_str(&callback.body).unwrap();
        assert_eq!(body["status"], "completed");
        body["jobId"].as_str().unwrap().to_owned()
    });
    assert_eq!(told.collect::<BTreeSet<_>>(), asked);
    assert_eq!(stage.controls.enriched("amy.codes").await, 1);
    stage.kit.all_done().await;
}

#[tokio::test]
async fn askers_in_the_same_instant_find_the_same_fetch() {
    let stage = Stage::new().await;
    join_all((0..24).map(|_| stage.ask(AMY, None))).await;
    let waiting = stage.kit.run_all::<Enrich>().await;
    assert_eq!(waiting.len(), 24);
    assert!(waiting.iter().all(|job| job.status == JobStatus::Processing && job.errors.is_empty()));
    stage.fetch().await;
    stage.kit.leaves::<Enrich>(24);
    stage.kit.leaves::<Fetch>(1);
}

#[tokio::test]
async fn every_form_of_a_profiles_url_is_the_same_profile() {
    let stage = Stage::new().await;
    let forms = [
        "https://www.tiktok.com/@amy.codes",
        "http://tiktok.com/@Amy.Codes/",
        "https://m.tiktok.com/@amy.codes?lang=vi&_t=1#top",
        "www.tiktok.com/@AMY.CODES",
        "tiktok.com/@amy.codes/?is_from_webapp=1",
    ];
    let asked = join_all(forms.map(|form| stage.ask(form, None))).await;
    stage.kit.run_all::<Enrich>().await;
    let fetch = stage.kit.run_one::<Fetch>().await;
    for (asked, form) in asked.into_iter().zip(forms) {
        assert_eq!(stage.record(asked).await.result, fetch.result, "{form}");
    }
    stage.fetch().await;
    assert_eq!(stage.controls.enriched("amy.codes").await, 1);
}

#[tokio::test]
async fn other_profiles_are_fetched_on_their_own() {
    let stage = Stage::new().await;
    for url in [AMY, "https://www.tiktok.com/@amy", "https://www.instagram.com/amy.codes"] {
        stage.ask(url, None).await;
    }
    stage.kit.run_all::<Enrich>().await;
    let fetched = stage.kit.run_all::<Fetch>().await;
    let names: BTreeSet<(String, String)> = fetched
        .iter()
        .map(|fetch| (profile(fetch)["platform"].to_string(), profile(fetch)["username"].to_string()))
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

// S0-086
#[tokio::test]
async fn a_crawl_answers_for_a_day_without_a_call() {
    let stage = Stage::new().await;
    let first = stage.crawled(AMY).await;
    stage.age_crawls(23.99).await;
    let second = stage.ask(AMY, Some("told")).await;
    assert_ne!(first.job, second.job);
    let answered = stage.kit.run_one::<Enrich>().await;
    assert_eq!((answered.id, answered.status), (second.job, JobStatus::Completed));
    assert_eq!(answered.result, stage.record(first).await.result, "with the crawledAt of the crawl");
    assert_eq!(answered.subject, Some(pool_id(&answered)));
    stage.kit.run_one::<Deliver>().await;
    let told = stage.controls.callbacks("told").await[0].verified(&stage.partner.webhook_secret);
    assert_eq!(told["jobId"], second.job.to_string());
    assert_eq!(stage.controls.enriched("amy.codes").await, 1);
    stage.fetch().await;
}

#[tokio::test]
async fn a_crawl_older_than_a_day_is_made_again() {
    let stage = Stage::new().await;
    let first = stage.crawled(AMY).await;
    stage.kit.clock.advance(Duration::from_secs(24 * 3_600 + 1)).await;
    let second = stage.crawled(AMY).await;
    assert_eq!(stage.controls.enriched("amy.codes").await, 2);
    assert_eq!(stage.fetches().await.len(), 2);
    let (first, second) = (stage.record(first).await, stage.record(second).await);
    assert_eq!(pool_id(&first), pool_id(&second));
    let crawled_at =
        |job| profile(job)["crawledAt"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
    assert!(crawled_at(&first).unwrap() < crawled_at(&second).unwrap());
}

#[tokio::test]
async fn an_asker_joins_a_fetch_that_runs_already() {
    let stage = Stage::new().await;
    let first = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    let fetch = stage.kit.claim(FETCH).await;
    let second = stage.ask(AMY, None).await;
    assert_eq!(stage.kit.run_one::<Enrich>().await.status, JobStatus::Processing);
    let answer = stage.kit.run(&fetch).await;
    assert!(stage.kit.settle(&fetch, answer).await);
    for asked in [first, second] {
        assert_eq!(stage.record(asked).await.status, JobStatus::Completed);
    }
    assert_eq!(stage.controls.enriched("amy.codes").await, 1);
}

#[tokio::test]
async fn an_asker_that_cancels_leaves_the_fetch_and_the_others_alone() {
    let stage = Stage::new().await;
    let leaver = stage.ask(AMY, Some("leaver")).await;
    let other = stage.ask(AMY, Some("other")).await;
    stage.kit.run_all::<Enrich>().await;
    assert!(matches!(stage.cancel(leaver.tenant, leaver.job).await, Cancelled::Now { .. }));
    assert_eq!(stage.fetch().await.status, JobStatus::Queued);
    assert_eq!(stage.record(other).await.status, JobStatus::Processing);

    // The first asker is told at once, and only the second one of the crawl.
    assert_eq!(stage.kit.run_all::<Deliver>().await.len(), 1);
    stage.kit.run_one::<Fetch>().await;
    assert_eq!(stage.kit.run_all::<Deliver>().await.len(), 1);
    let told = async |inbox| {
        let callbacks = stage.controls.callbacks(inbox).await;
        assert_eq!(callbacks.len(), 1, "{callbacks:?}");
        callbacks[0].verified(&stage.partner.webhook_secret)
    };
    let (leaver_told, other_told) = (told("leaver").await, told("other").await);
    assert_eq!(
        (&leaver_told["status"], &leaver_told["error"]["code"]),
        (&json!("cancelled"), &json!("CANCELLED"))
    );
    assert_eq!(other_told["status"], "completed");
    assert_eq!(stage.record(leaver).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn the_only_asker_leaving_does_not_stop_the_fetch() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, None).await;
    stage.kit.run_one::<Enrich>().await;
    stage.cancel(asked.tenant, asked.job).await;
    assert_eq!(stage.kit.run_one::<Fetch>().await.status, JobStatus::Completed);
    assert_eq!(stage.record(asked).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_fetch_that_an_operator_cancels_ends_its_askers_as_cancelled_and_tells_them() {
    let stage = Stage::new().await;
    let other = TestPartner::create(&stage.kit.db, "vinfast").await;
    let asked = [stage.ask(AMY, Some("told")).await, stage.ask_as(&other, AMY, Some("told")).await];
    stage.kit.run_all::<Enrich>().await;
    let fetch = stage.fetch().await;
    assert!(matches!(stage.cancel(fetch.tenant, fetch.id).await, Cancelled::Now { .. }));
    for asked in asked {
        let job = stage.record(asked).await;
        assert_eq!((job.status, failure_code(&job)), (JobStatus::Cancelled, "CANCELLED"));
    }
    stage.kit.run_all::<Deliver>().await;
    let told = stage.controls.callbacks("told").await;
    assert_eq!(told.len(), 2);
    for callback in told {
        let body: serde_json::Value = serde_json::from_str(&callback.body).unwrap();
        assert_eq!((&body["status"], &body["error"]["code"]), (&json!("cancelled"), &json!("CANCELLED")));
    }
    // A wish that comes later gets a fetch of its own.
    stage.crawled(AMY).await;
    assert_eq!(stage.fetches().await.len(), 2);
}

#[tokio::test]
async fn a_running_fetch_that_an_operator_cancels_stops_and_its_askers_are_told() {
    let stage = Stage::new().await;
    stage.kit.clock.run_on().await;
    stage.vendor_fault(json!({ "kind": "hang" })).await;
    let mut options = WorkerOptions::new(jobs::ALL);
    options.meter_url = Some(stage.sandbox.meter_url());
    let _worker = options.start(&stage.kit.db);
    let asked = stage.ask(AMY, Some("told")).await;
    eventually("the vendor is asked", async || stage.controls.enriched("amy.codes").await == 1).await;
    let fetch = stage.fetch().await;
    assert_eq!(stage.cancel(fetch.tenant, fetch.id).await, Cancelled::Asked);
    eventually("the asker is told", async || !stage.controls.callbacks("told").await.is_empty()).await;
    let told = stage.controls.callbacks("told").await[0].verified(&stage.partner.webhook_secret);
    assert_eq!((&told["jobId"], &told["status"]), (&json!(asked.job), &json!("cancelled")));
    assert_eq!(stage.fetch().await.status, JobStatus::Cancelled);
    assert_eq!(stage.record(asked).await.status, JobStatus::Cancelled);
    stage.kit.all_done().await;
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_leaves_nothing_and_the_next_one_does_the_work() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, None).await;
    let claimed = stage.kit.claim(ENRICH).await;
    stage.kit.die().await;
    let answer = stage.kit.run(&claimed).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(!stage.kit.settle(&claimed, answer).await);
    assert!(stage.fetches().await.is_empty());

    let next = stage.kit.successor().await;
    let waiting = next.run_one(ENRICH).await;
    assert_eq!((waiting.status, waiting.taken_back), (JobStatus::Processing, 1));
    next.run_one(FETCH).await;
    assert_eq!(stage.record(asked).await.status, JobStatus::Completed);
}

#[tokio::test]
async fn an_attempt_delivered_again_after_it_began_to_wait_or_ended_changes_nothing() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, Some("told")).await;
    let claimed = stage.kit.claim(ENRICH).await;
    assert!(matches!(stage.kit.run(&claimed).await, Ok(Outcome::Settled(_))));
    let again = async || {
        let answer = stage.kit.run(&claimed).await;
        assert!(answer.is_err(), "{answer:?}");
        assert!(!stage.kit.settle(&claimed, answer).await);
    };
    again().await;
    assert_eq!(stage.record(asked).await.status, JobStatus::Processing);
    stage.fetch().await;

    stage.kit.run_one::<Fetch>().await;
    again().await;
    assert_eq!(stage.record(asked).await.status, JobStatus::Completed);
    stage.fetch().await;
    assert_eq!(stage.kit.run_all::<Deliver>().await.len(), 1);
    assert!(stage.kit.run_all::<Deliver>().await.is_empty());
    assert_eq!(stage.controls.callbacks("told").await.len(), 1);
}

#[tokio::test]
async fn a_wish_stored_twice_under_one_id_is_one_wish() {
    let stage = Stage::new().await;
    let asked = stage.ask(AMY, None).await;
    let args = jobs::profiles::Enrich { profile: kernel::profile_url::ProfileUrl::parse(AMY).unwrap() };
    let again = queue::NewJob::of(&args).unwrap().tenant(asked.tenant).id(asked.job);
    let mut conn = stage.pool().acquire().await.unwrap();
    queue::enqueue(&mut conn, again).await.unwrap();
    assert_eq!(stage.kit.run_all::<Enrich>().await.len(), 1);
    stage.kit.leaves::<Enrich>(1);
    stage.kit.leaves::<Fetch>(1);
}

#[tokio::test]
async fn that_a_profile_was_not_found_answers_for_a_while_without_a_call() {
    let stage = Stage::new().await;
    let url = "https://www.tiktok.com/@missing.amy";
    stage.ask(url, None).await;
    stage.kit.run_one::<Enrich>().await;
    let fetch = stage.kit.run_one::<Fetch>().await;
    let asked = stage.ask(url, Some("told")).await;
    let again = stage.kit.run_one::<Enrich>().await;
    assert_eq!((again.id, again.status), (asked.job, JobStatus::Failed));
    assert_eq!(again.failure, fetch.failure);
    stage.kit.run_one::<Deliver>().await;
    let told = stage.controls.callbacks("told").await[0].verified(&stage.partner.webhook_secret);
    assert_eq!(told["error"]["code"], "NOT_FOUND");
    assert_eq!(stage.controls.enriched("missing.amy").await, 1);

    sqlx::query!("update pool_misses set missed_at = missed_at - interval '6 minutes'")
        .execute(stage.pool())
        .await
        .unwrap();
    stage.ask(url, None).await;
    assert_eq!(stage.kit.run_one::<Enrich>().await.status, JobStatus::Processing);
    stage.kit.run_one::<Fetch>().await;
    assert_eq!(stage.controls.enriched("missing.amy").await, 2);
}
