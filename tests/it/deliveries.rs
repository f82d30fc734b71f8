//! The record of outgoing webhooks, on a real database.

use std::time::Duration;

use db::Connection;
use kernel::ids::{DeliveryId, JobId, PartnerId, TenantId};
use webhooks::{
    Attempt, DeliveryStatus, NewDelivery, create, get, list_attempts, list_of_job, mark_delivered,
    mark_failed, prune, record_attempt,
};

use crate::support::TestDb;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn delivery(conn: &mut Connection, tenant: TenantId) -> DeliveryId {
    let (id, job) = (DeliveryId::new(), JobId::new());
    let new = NewDelivery { tenant, id, job, url: "https://hooks.example.com/", subject: None };
    assert!(create(conn, new).await.unwrap());
    assert!(!create(conn, new).await.unwrap(), "a repeated step makes nothing");
    assert_eq!(list_of_job(conn, tenant, job).await.unwrap()[0].id, id);
    id
}

#[tokio::test]
async fn a_delivery_exists_once_for_its_tenant_and_ends_once() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let tenant = TenantId::from(PartnerId::new());
    let id = delivery(&mut conn, tenant).await;

    assert_eq!(get(&mut conn, TenantId::SYSTEM, id).await.unwrap(), None);
    assert_eq!(get(&mut conn, tenant, id).await.unwrap().unwrap().status, DeliveryStatus::Pending);
    assert!(!mark_delivered(&mut conn, TenantId::SYSTEM, id).await.unwrap());
    assert!(mark_delivered(&mut conn, tenant, id).await.unwrap());
    assert!(!mark_failed(&mut conn, tenant, id).await.unwrap());
    let ended = get(&mut conn, tenant, id).await.unwrap().unwrap();
    assert_eq!(ended.status, DeliveryStatus::Delivered);
    assert!(ended.ended_at.is_some());
}

#[tokio::test]
async fn attempts_are_numbered_in_their_order_and_keep_whatever_the_receiver_answered() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let tenant = TenantId::from(PartnerId::new());
    let id = delivery(&mut conn, tenant).await;
    let refused = Attempt {
        duration: Duration::from_millis(1_500),
        response_status: Some(500),
        response_body: Some("a\0b".to_owned()),
        error: None,
    };
    let silent = Attempt { error: Some("no complete answer".to_owned()), ..Attempt::default() };
    assert_eq!(record_attempt(&mut conn, tenant, id, &refused).await.unwrap(), 1);
    assert_eq!(record_attempt(&mut conn, tenant, id, &silent).await.unwrap(), 2);

    let attempts = list_attempts(&mut conn, tenant, id).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((attempts[0].response_status, attempts[0].duration_ms), (Some(500), 1_500));
    assert_eq!(attempts[0].response_body.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(attempts[1].error.as_deref(), Some("no complete answer"));
}

#[tokio::test]
async fn old_deliveries_go_with_their_attempts_a_few_at_a_time() {
    let db = TestDb::new().await;
    let mut conn = db.pool().acquire().await.unwrap();
    let tenant = TenantId::from(PartnerId::new());
    let mut old = Vec::new();
    for _ in 0..3 {
        let id = delivery(&mut conn, tenant).await;
        record_attempt(&mut conn, tenant, id, &Attempt::default()).await.unwrap();
        old.push(id);
    }
    sqlx::query!("update webhook_deliveries set created_at = now() - interval '36 days'")
        .execute(&mut conn)
        .await
        .unwrap();
    let new = delivery(&mut conn, tenant).await;

    assert_eq!(prune(&mut conn, 35 * DAY, 2).await.unwrap(), 2);
    assert_eq!(prune(&mut conn, 35 * DAY, 2).await.unwrap(), 1);
    assert_eq!(prune(&mut conn, 35 * DAY, 2).await.unwrap(), 0);
    assert!(get(&mut conn, tenant, new).await.unwrap().is_some());
    assert!(list_attempts(&mut conn, tenant, old[0]).await.unwrap().is_empty());
}
