//! `POST /api/v1/profiles/enrich`: S0's FR-006 from the wish to the profile in the pool.

use kernel::ids::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::routes::answer::{Answer, steady};
use crate::routes::stage::{ENRICH, Stage, accepted, ended, profile};
use crate::support::{TestApi, TestPartner};

// S0-081, S0-082, S0-084, S0-296, S0-297, S0-299
#[tokio::test]
async fn the_immediate_answer_is_s0s_and_leads_to_the_job() {
    let stage = Stage::new().await;
    let answer = Answer::to(stage.enrich(&json!({
        "url": "https://www.tiktok.com/@amy.codes",
        "callbackUrl": "https://partner.com/webhooks/enrich",
    })))
    .await;
    let body = answer.expect(202);
    assert_eq!(body["estimatedTime"], 10, "without history, S0's sample");
    assert_eq!(answer.header("retry-after"), Some("10"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    insta::assert_json_snapshot!("accepted", steady(body.clone()));

    let location = answer.header("location").unwrap();
    assert_eq!(location, format!("/api/v1/jobs/{}", body["jobId"].as_str().unwrap()));
    assert_eq!(stage.get(location).await.expect(200)["data"]["jobId"], body["jobId"]);
}

// S0-018, S0-080
#[tokio::test]
async fn every_form_that_people_paste_is_accepted_on_all_four_platforms() {
    let stage = Stage::new().await;
    for url in [
        "https://www.tiktok.com/@amy.codes",
        "tiktok.com/@Amy.Codes?lang=en",
        "m.tiktok.com/@amy.codes/",
        "https://www.youtube.com/channel/UCX6OQ3DkcsbYNE6H8uQQuVA",
        "youtube.com/c/AmyCodes/videos",
        "https://youtube.com/user/amycodes",
        "https://www.youtube.com/@amycodes",
        "https://instagram.com/amy.codes/",
        "https://www.facebook.com/profile.php?id=100044623170418",
        "facebook.com/amy.codes",
        "  https://www.tiktok.com/%40amy.codes  ",
    ] {
        accepted(stage.enrich(&json!({ "url": url, "callbackUrl": null }))).await;
    }
}

#[tokio::test]
async fn the_estimate_follows_how_long_such_jobs_took_lately() {
    let (stage, _worker) = Stage::working().await;
    for handle in ["amy.codes", "bob.cooks"] {
        let job = stage.enriched(handle).await;
        stage.ended(&job).await;
    }
    // A figure is a few seconds old at most; a new process has none yet.
    let api = TestApi::start(&stage.db).await;
    let wish = json!({ "url": profile("cat.paints") });
    let answer = Answer::to(api.request_as(&stage.partner, Method::POST, ENRICH).json(&wish)).await;
    let estimated = answer.expect(202)["estimatedTime"].as_u64().unwrap();
    assert!((1..10).contains(&estimated), "{estimated}");
    assert_eq!(answer.header("retry-after"), Some(estimated.to_string().as_str()));
}

#[tokio::test]
async fn a_profile_asked_for_again_within_a_day_costs_no_vendor_call_but_has_its_own_job() {
    let (stage, _worker) = Stage::working().await;
    let other = TestPartner::create(&stage.db, "vinfast").await;
    let first = stage.enriched("amy.codes").await;
    let crawled = stage.ended(&first).await["result"].clone();
    let again = accepted(stage.enrich(&json!({ "url": "TikTok.com/@AMY.codes?x=1" }))).await;
    let theirs = accepted(
        stage.api.request_as(&other, Method::POST, ENRICH).json(&json!({ "url": profile("amy.codes") })),
    )
    .await;
    assert!(first != again && again != theirs);
    assert_eq!(stage.ended(&again).await["result"], crawled, "the original crawledAt included");
    assert_eq!(ended(&stage.api, &other, &theirs).await["result"], crawled);
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}

#[tokio::test]
async fn a_crawl_older_than_a_day_is_made_again() {
    let (stage, _worker) = Stage::working().await;
    let first = stage.enriched("amy.codes").await;
    stage.ended(&first).await;
    sqlx::query!("update pool_crawls set crawled_at = crawled_at - interval '24 hours'")
        .execute(stage.db.pool())
        .await
        .unwrap();
    let again = stage.enriched("amy.codes").await;
    assert_eq!(stage.ended(&again).await["status"], "completed");
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 2);
}

#[tokio::test]
async fn many_wishes_for_one_profile_at_once_are_one_vendor_call() {
    let (stage, _worker) = Stage::working().await;
    let jobs = futures::future::join_all((0..20).map(|_| stage.enriched("amy.codes"))).await;
    let ends = futures::future::join_all(jobs.iter().map(|job| stage.ended(job))).await;
    let result = &ends[0]["result"];
    assert!(ends.iter().all(|end| end["status"] == "completed" && end["result"] == *result));
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 1);
}

// S0-022, S0-088, S0-089
#[tokio::test]
async fn the_profile_is_kept_in_the_pool_private_and_as_the_partners_find() {
    let (stage, _worker) = Stage::working().await;
    let job = stage.enriched("amy.codes").await;
    let end = stage.ended(&job).await;
    let kept = sqlx::query!(
        "select id, username, visibility, source, added_by_partner_id, followers from pool_influencers"
    )
    .fetch_all(stage.db.pool())
    .await
    .unwrap();
    assert_eq!(kept.len(), 1);
    let (kept, profile) = (&kept[0], &end["result"]["profile"]);
    assert_eq!((kept.visibility.as_str(), kept.source.as_str()), ("PRIVATE", "PARTNER"));
    assert_eq!(kept.added_by_partner_id, Some(stage.partner.id.uuid()));
    assert_eq!(
        (json!(kept.username), json!(kept.followers)),
        (profile["username"].clone(), profile["followers"].clone())
    );
    let id = kernel::ids::InfluencerId::from_uuid(kept.id).to_string();
    assert_eq!(profile["poolInfluencerId"], id);
}

#[tokio::test]
async fn private_and_missing_profiles_fail_alike() {
    let (stage, _worker) = Stage::working().await;
    for handle in ["private.person", "missing.person"] {
        let job = stage.enriched(handle).await;
        let end = stage.ended(&job).await;
        assert_eq!(
            (&end["status"], &end["error"]["code"]),
            (&json!("failed"), &json!("NOT_FOUND")),
            "{handle}"
        );
        assert_eq!(end.get("result"), None);
    }
}

#[tokio::test]
async fn a_vendor_that_refuses_a_while_is_asked_again() {
    let (stage, _worker) = Stage::working().await;
    let fault = json!({ "kind": "status", "status": 503, "retryAfter": "0" });
    stage.faults(json!([{ "handle": "amy.codes", "first": 1, "fault": fault }])).await;
    let job = stage.enriched("amy.codes").await;
    assert_eq!(stage.ended(&job).await["status"], "completed");
    assert_eq!(stage.vendor_calls("amy.codes").await.0, 2);
}

#[tokio::test]
async fn contact_details_are_nowhere_in_what_partners_get() {
    let (stage, _worker) = Stage::working().await;
    let mut reached = 0;
    for number in 0..6 {
        let handle = format!("creator.{number}");
        let contact = stage.vendor_profile(&handle).await["contact"].clone();
        let secrets: Vec<String> =
            ["email", "phone"].iter().filter_map(|name| contact[name].as_str().map(str::to_owned)).collect();
        reached += secrets.len();

        let inbox = format!("told-{number}");
        let wish = json!({ "url": profile(&handle), "callbackUrl": stage.sandbox.inbox_url(&inbox) });
        let held = Answer::to(stage.enrich(&wish).header("Prefer", "wait=15")).await;
        let job = held.expect(200)["jobId"].as_str().unwrap().to_owned();
        let polled = stage.get(&format!("/api/v1/jobs/{job}")).await;
        let listed = stage.get("/api/v1/jobs").await;
        let callback = stage.callback(&inbox).await;
        for text in [held.text(), polled.text(), listed.text(), &callback.body] {
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "{secrets:?} in {text}");
            assert!(!text.to_lowercase().contains("contact") && !text.contains("email"), "{text}");
        }
    }
    assert!(reached >= 2, "the vendor had contact details to leak");
}

#[tokio::test]
async fn an_accepted_job_outlives_the_process_that_took_it() {
    let stage = Stage::new().await;
    let api = TestApi::start(&stage.db).await;
    let wish = json!({ "url": profile("amy.codes") });
    let job = accepted(api.request_as(&stage.partner, Method::POST, ENRICH).json(&wish)).await;
    drop(api);
    let _worker = stage.start_worker();
    assert_eq!(stage.ended(&job).await["status"], "completed");
}

#[tokio::test]
async fn a_refused_wish_leaves_nothing_behind() {
    let stage = Stage::new().await;
    let refused =
        Answer::to(stage.enrich(&json!({ "url": profile("amy.codes"), "callbackUrl": "http://10.0.0.1" })));
    refused.await.refusal(400, "VALIDATION_ERROR");
    let page: Value = stage.get("/api/v1/jobs").await.expect(200);
    assert_eq!(page["data"], json!([]));
    let absent = JobId::new();
    stage.get(&format!("/api/v1/jobs/{absent}")).await.refusal(404, "NOT_FOUND");
}
