//! `webhooks.deliver` to receivers that break, keep silent, ask for patience, or are not ours to call.

use std::time::Duration;

use outbound::{OutboundClient, OutboundSettings};
use queue::JobStatus;
use serde_json::json;
use webhooks::DeliveryStatus;

use crate::jobs::stage::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test]
async fn the_next_attempt_waits_as_long_as_the_receiver_asks() {
    let stage = Stage::new().await;
    for (status, asked_for, waits) in [
        (429, "7", Duration::from_secs(7)),
        (503, "600", Duration::from_secs(600)),
        // Never sooner than the schedule, and never later than in a day.
        (429, "1", Duration::from_secs(5)),
        (503, "9999999", DAY),
        (503, "soon", Duration::from_secs(5)),
    ] {
        stage.receiver_fault(json!({ "kind": "status", "status": status, "retryAfter": asked_for })).await;
        stage.ended("told").await;
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!((job.status, job.attempts), (JobStatus::Processing, 1));
        assert_eq!(delay(&job), waits, "{status} {asked_for}");
    }
    stage.kit.leaves::<Deliver>(5);
}

#[tokio::test]
async fn an_answer_is_kept_up_to_16_kib() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "oversized", "bytes": 3_000_000 })).await;
    let asked = stage.ended("told").await;
    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Completed, "2xx is 2xx");
    let (delivery, attempts) = stage.delivery(asked).await;
    assert_eq!(delivery.status, DeliveryStatus::Delivered);
    assert_eq!(attempts[0].response_body.as_ref().unwrap().len(), 16 * 1024);
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_left_at_the_time_limit_and_told_again_later() {
    let stage = Stage::with_receiver_timeout(Duration::from_millis(200)).await;
    for fault in [json!({ "kind": "hang" }), json!({ "kind": "slow_body", "ms": 60_000 })] {
        stage.receiver_fault(fault.clone()).await;
        let asked = stage.ended("told").await;
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!((job.status, job.attempts), (JobStatus::Processing, 1), "{fault}");
        assert_eq!(delay(&job), Duration::from_secs(5));
        let (delivery, attempts) = stage.delivery(asked).await;
        assert_eq!(delivery.status, DeliveryStatus::Pending);
        assert_eq!((attempts[0].response_status, &attempts[0].response_body), (None, &None), "{fault}");
        assert_eq!(attempts[0].error.as_deref(), Some("no complete answer within 200 ms"), "{fault}");
        assert!(attempts[0].duration_ms >= 200, "{fault}: {} ms", attempts[0].duration_ms);
    }
    stage.kit.leaves::<Deliver>(2);
}

#[tokio::test]
async fn a_slow_answer_within_the_limit_counts() {
    let stage = Stage::new().await;
    stage.receiver_fault(json!({ "kind": "slow_body", "ms": 100 })).await;
    stage.ended("told").await;
    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Completed);
}

#[tokio::test]
async fn a_broken_connection_is_recorded_and_tried_again() {
    let stage = Stage::new().await;
    for (fault, begins) in [(json!({ "kind": "drop" }), "HTTP: "), (json!({ "kind": "truncated" }), "HTTP: ")]
    {
        stage.receiver_fault(fault.clone()).await;
        let asked = stage.ended("told").await;
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!(job.status, JobStatus::Processing, "{fault}");
        let (_, attempts) = stage.delivery(asked).await;
        let error = attempts[0].error.as_deref().unwrap();
        assert!(error.starts_with(begins), "{fault}: {error}");
        assert_eq!(job.errors[0].message, error);
        assert_eq!(attempts[0].response_status, None);
    }
    stage.kit.leaves::<Deliver>(2);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_again() {
    let stage = Stage::new().await;
    let asked = stage.ended_telling("http://127.0.0.1:9/hook?token=secret".to_owned()).await;
    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Processing);
    let error = stage.delivery(asked).await.1[0].error.clone().unwrap();
    assert!(error.starts_with("connecting: "), "{error}");
    assert!(!error.contains("secret"), "{error}");
    stage.kit.leaves::<Deliver>(1);
}

#[tokio::test]
async fn addresses_inside_a_network_are_refused_when_sending_even_if_they_were_stored() {
    let stage = Stage::new().await;
    for url in [
        "http://10.0.0.1/hook",
        "http://192.168.1.1:443/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0/",
        "ftp://example.com/",
        "https://user:password@example.com/",
        "https://example.com:8443/",
    ] {
        let asked = stage.ended_telling(url.to_owned()).await;
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!((job.status, job.attempts), (JobStatus::Failed, 1), "{url}");
        assert_eq!(failure_code(&job), "ADDRESS_REFUSED", "{url}");
        let (delivery, attempts) = stage.delivery(asked).await;
        assert_eq!((delivery.status, attempts.len()), (DeliveryStatus::Failed, 1), "{url}");
        assert!(attempts[0].error.as_deref().unwrap().starts_with("the address "), "{url}: {attempts:?}");
    }
}

#[tokio::test]
async fn what_is_no_address_at_all_fails_at_once_and_ends_the_delivery() {
    let stage = Stage::new().await;
    let asked = stage.ended_telling("not an address".to_owned()).await;
    let job = stage.kit.run_one::<Deliver>().await;
    assert_eq!((job.status, failure_code(&job)), (JobStatus::Failed, "ADDRESS_REFUSED"));
    assert_eq!(stage.delivery(asked).await.0.status, DeliveryStatus::Failed);
}

#[tokio::test]
async fn this_machine_is_called_only_where_the_settings_allow_it() {
    let stage = Stage::with(|services, _| {
        services.outbound = OutboundClient::new(OutboundSettings::default()).unwrap();
    })
    .await;
    let port = stage.sandbox.addr().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let asked = stage.ended_telling(format!("http://{host}:{port}/partner/callbacks/told")).await;
        let job = stage.kit.run_one::<Deliver>().await;
        assert_eq!((job.status, failure_code(&job)), (JobStatus::Failed, "ADDRESS_REFUSED"), "{host}");
        assert_eq!(stage.delivery(asked).await.0.status, DeliveryStatus::Failed);
    }
    assert_eq!(stage.controls.calls("vendor=partner").await["total"], 0);
}

#[tokio::test]
async fn a_secret_that_cannot_be_opened_stops_no_delivery_for_good() {
    let stage = Stage::new().await;
    let asked = stage.ended("told").await;
    let secret =
        sqlx::query_scalar!("select webhook_secret from partners where id = $1", stage.partner.id.uuid())
            .fetch_one(stage.pool())
            .await
            .unwrap();
    let set = async |secret: &[u8]| {
        sqlx::query!(
            "update partners set webhook_secret = $2 where id = $1",
            stage.partner.id.uuid(),
            secret
        )
        .execute(stage.pool())
        .await
        .unwrap();
    };
    set(b"sealed with a key that this process does not have").await;
    let job = stage.kit.run_one::<Deliver>().await;
    assert_eq!((job.status, job.errors[0].code.as_str()), (JobStatus::Processing, "INTERNAL_ERROR"));
    assert!(stage.controls.callbacks("told").await.is_empty(), "nothing unsigned goes out");
    assert!(stage.delivery(asked).await.1.is_empty());

    set(&secret).await;
    stage.make_due(job.id).await;
    assert_eq!(stage.kit.run_one::<Deliver>().await.status, JobStatus::Completed);
}
