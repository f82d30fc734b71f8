//! Many jobs at once, seen before they are touched.

use super::jobs::fail;
use super::*;

#[tokio::test]
async fn what_a_preview_showed_is_what_is_redriven() {
    let stage = OpsStage::new().await;
    let mut ids = Vec::new();
    for handle in ["amy.codes", "bob.cooks", "carla.sings"] {
        let id = stage.enrich(handle).await;
        fail(&stage, id.parse().unwrap(), "no answer").await;
        ids.push(id);
    }
    let preview = stage.read("jobs/bulk?action=redrive&kind=profiles.enrich&tenant=techcombank").await;
    assert_eq!(preview["matched"]["count"], 3);
    assert_eq!(preview["owners"]["techcombank"], 3);
    assert_eq!(preview["errors"][0]["errorSignature"], "no answer");
    let filter = preview["filter"].clone();
    // What fails after the preview is not touched.
    let late = stage.enrich("dan.dances").await;
    fail(&stage, late.parse().unwrap(), "no answer").await;

    let body = json!({"action": "redrive", "filter": filter, "ratePerS": 1000});
    let started = stage.post("jobs/bulk", body).await.expect(202)["data"].clone();
    assert_eq!(started["matched"]["count"], 3);
    stage.post("queues/enrich/pause", json!({})).await.expect(200);
    let _worker = crate::support::WorkerOptions::new(::jobs::ALL).start(&stage.db);
    let path = format!("jobs/{}", started["jobId"].as_str().unwrap());
    let done = crate::support::found("the end", async || {
        let job = stage.read(&path).await;
        (job["state"] == "completed").then_some(job)
    });
    assert_eq!(done.await["result"]["changed"], 3);
    for id in ids {
        assert_eq!(stage.read(&format!("jobs/{id}")).await["status"], "queued");
    }
    assert_eq!(stage.read(&format!("jobs/{late}")).await["state"], "failed");
    let entry = stage.audited("jobs.bulk_redrive").await.remove(0);
    assert_eq!(entry["after"]["filter"]["kinds"], json!(["profiles.enrich"]));
}

#[tokio::test]
async fn a_preview_is_submitted_as_it_is_also_with_an_argument() {
    let stage = OpsStage::new().await;
    for handle in ["amy.codes", "bob.cooks"] {
        let id = stage.enrich(handle).await;
        fail(&stage, id.parse().unwrap(), "no answer").await;
    }
    let preview = stage
        .read(
            "jobs/bulk?kind=profiles.enrich&finishedFrom=2020-01-01T00:00:00Z&argument=profile.platform%3Dtiktok",
        )
        .await;
    let started = stage.post("jobs/bulk", json!({"action": "redrive", "filter": preview["filter"]})).await;
    let data = started.expect(202)["data"].clone();
    assert_eq!((&data["filter"], &data["matched"]), (&preview["filter"], &preview["matched"]));
    let entry = stage.audited("jobs.bulk_redrive").await.remove(0);
    assert!(!entry.to_string().contains("tiktok"), "{entry}");
}

#[tokio::test]
async fn a_filter_that_is_misspelt_or_says_nothing_matches_nothing() {
    let stage = OpsStage::new().await;
    for (filter, rate) in [
        (json!({"kind": "profiles.enrich"}), json!(1)),
        (json!({}), json!(1)),
        (json!({"kinds": "profiles.enrich"}), json!(1)),
        (json!({"tenant": "nobody"}), json!(1)),
        (json!({"key": "\u{0}"}), json!(1)),
        (json!({"kinds": ["profiles.enrich"]}), json!(0)),
    ] {
        let body = json!({"action": "cancel", "filter": filter, "ratePerS": rate});
        let refused = stage.post("jobs/bulk", body.clone()).await;
        assert_eq!(refused.faults().len(), 1, "{body}");
    }
    assert!(stage.audited("jobs.bulk").await.is_empty());
}
