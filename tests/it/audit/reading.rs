//! Reading the log.

use ::audit::{ActorKind, Cursor};
use kernel::ids::{PartnerId, UserId};

use super::*;

async fn record(
    pool: &Pool,
    actor: Actor,
    action: &str,
    target: &str,
    tenant: TenantId,
    request: &str,
) -> AuditId {
    let mut tx = db::begin(pool).await.unwrap();
    let request_id = Some(request);
    let entry = Entry { actor: &actor, action, target, tenant, before: None, after: None, request_id };
    let id = ::audit::record(&mut tx, &keyring(), &entry).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn ids(db: &TestDb, filter: Filter) -> Vec<AuditId> {
    let mut conn = db.pool().acquire().await.unwrap();
    let page = ::audit::list(&mut conn, &filter, Order::Oldest, None, 100).await.unwrap();
    page.entries.iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn entries_are_found_by_who_what_whose_when_and_for_which_request() {
    let db = TestDb::new().await;
    let (user, partner) = (UserId::new(), PartnerId::new());
    let tenant = TenantId::from(partner);
    let pool = db.pool();
    let pause = record(pool, Actor::User(user), "queues.pause", "enrich", TenantId::SYSTEM, "r-1").await;
    let odd = record(pool, Actor::User(user), "queues_x", "100%", TenantId::SYSTEM, "r-2").await;
    let asked = record(pool, Actor::Partner(partner), "profiles.enrich", "job_1", tenant, "r-3").await;
    let all = Filter::default;

    assert_eq!(ids(&db, all()).await, [pause, odd, asked]);
    let by_kind = Filter { actor_kind: Some(ActorKind::Partner), ..all() };
    assert_eq!(ids(&db, by_kind).await, [asked]);
    assert_eq!(ids(&db, Filter { actor: Some(user.to_string()), ..all() }).await, [pause, odd]);
    for (prefix, expected) in [("queues", vec![pause, odd]), ("queues.", vec![pause]), ("queues_", vec![odd])]
    {
        assert_eq!(ids(&db, Filter { action: Some(prefix.to_owned()), ..all() }).await, expected, "{prefix}");
    }
    assert_eq!(ids(&db, Filter { target: Some("100%".to_owned()), ..all() }).await, [odd]);
    assert_eq!(ids(&db, Filter { tenant: Some(tenant), ..all() }).await, [asked]);
    assert_eq!(ids(&db, Filter { request_id: Some("r-1".to_owned()), ..all() }).await, [pause]);
    let at = log(&db).await[1].at;
    assert_eq!(ids(&db, Filter { from: Some(at), ..all() }).await, [odd, asked]);
    assert_eq!(ids(&db, Filter { before: Some(at), ..all() }).await, [pause]);
}

#[tokio::test]
async fn pages_follow_one_another_both_ways_without_loss() {
    let db = TestDb::new().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(recorded(db.pool(), &n.to_string()).await);
    }
    let walk = async |order| {
        let (mut seen, mut after): (Vec<AuditId>, Option<Cursor>) = (Vec::new(), None);
        loop {
            let mut conn = db.pool().acquire().await.unwrap();
            let page = ::audit::list(&mut conn, &Filter::default(), order, after, 3).await.unwrap();
            assert!(page.entries.len() <= 3);
            seen.extend(page.entries.iter().map(|entry| entry.id));
            after = page.next;
            if after.is_none() {
                return seen;
            }
        }
    };
    assert_eq!(walk(Order::Oldest).await, expected);
    expected.reverse();
    assert_eq!(walk(Order::Newest).await, expected);
}

#[tokio::test]
async fn values_come_back_as_they_were_recorded() {
    let db = TestDb::new().await;
    recorded(db.pool(), "ngân hàng \u{1F600} \"'\\").await;
    let entry = &log(&db).await[0];
    assert_eq!(entry.after, Some(json!({"value": "ngân hàng \u{1F600} \"'\\", "list": [1, 2.5, null]})));
    assert_eq!((entry.actor_kind.as_str(), entry.actor.as_str()), ("cli", "somebody"));
    assert_eq!((entry.before.as_ref(), entry.seq), (None, None));
    sealed(db.pool()).await;
    assert_eq!(log(&db).await[0].seq, Some(1));
}
