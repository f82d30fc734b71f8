//! The audit log: recorded with the change, sealed into a chain, verified against whoever may do anything to the database.

mod actions;
mod reading;
mod sealing;
mod verifying;

use ::audit::{Actor, Entry, Filter, Finding, Head, Order, Recorded, Verified};
use db::Pool;
use kernel::ids::{AuditId, TenantId};
use kernel::sealing::Keyring;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{TestDb, keyring};

/// Records a change to a target, as an action does.
async fn recorded(pool: &Pool, target: &str) -> AuditId {
    recorded_with(pool, &keyring(), target).await
}

async fn recorded_with(pool: &Pool, keyring: &Keyring, target: &str) -> AuditId {
    let mut tx = db::begin(pool).await.unwrap();
    let entry = Entry {
        actor: &Actor::Cli("somebody".to_owned()),
        action: "tests.change",
        target,
        tenant: TenantId::SYSTEM,
        before: None,
        after: Some(json!({"value": target, "list": [1, 2.5, null]})),
        request_id: Some("req-1"),
    };
    let id = ::audit::record(&mut tx, keyring, &entry).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn sealed(pool: &Pool) -> usize {
    jobs::audit_log::seal(pool, &keyring()).await.unwrap()
}

/// Five sealed entries.
async fn five(pool: &Pool) -> Vec<AuditId> {
    let mut ids = Vec::new();
    for target in ["a", "b", "c", "d", "e"] {
        ids.push(recorded(pool, target).await);
    }
    assert_eq!(sealed(pool).await, 5);
    ids
}

async fn verified(pool: &Pool, kept: Option<&Head>) -> Verified {
    let mut conn = pool.acquire().await.unwrap();
    ::audit::verify(&mut conn, &keyring(), kept, |_| {}).await.unwrap()
}

async fn findings(pool: &Pool) -> Vec<Finding> {
    verified(pool, None).await.findings
}

/// What somebody does who may do anything to the database but has no keys.
async fn tamper(pool: &Pool, statement: &str) {
    let statement = format!(
        "set session_replication_role = replica; alter table audit_log disable trigger user; \
         alter table audit_chain disable trigger user; {statement}"
    );
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    sqlx::raw_sql("set session_replication_role = origin").execute(&mut conn).await.unwrap();
}

/// The whole log, the oldest first.
async fn log(db: &TestDb) -> Vec<Recorded> {
    let mut conn = db.pool().acquire().await.unwrap();
    ::audit::list(&mut conn, &Filter::default(), Order::Oldest, None, 1_000).await.unwrap().entries
}

/// The last entry as `action target before after`.
async fn last(db: &TestDb) -> (String, String, Option<Value>, Option<Value>) {
    let last = log(db).await.pop().expect("an entry");
    (last.action, last.target, last.before, last.after)
}
