//! Everything behind a pooler in transaction mode: a pgbouncer that knows no prepared statements and changes the
//! server's session under its clients whenever they are in no transaction.

mod working;

use std::time::Duration;

use db::Pool;
use futures::future::join_all;
use kernel::sealing::Keyring;
use sqlx::Error;

use crate::support::{Pooler, TestDb, eventually};

/// Clients at once, and how much each of them does.
const CLIENTS: i32 = 24;
const ROUNDS: i32 = 25;

/// A database with a table of numbers, and the pooler in front of it.
async fn place() -> (TestDb, Pooler) {
    let db = TestDb::new().await;
    sqlx::raw_sql("create table numbers (client int, round int, way text, primary key (client, round, way))")
        .execute(db.pool())
        .await
        .unwrap();
    let pooler = Pooler::in_front_of(&db).await;
    (db, pooler)
}

async fn insert(conn: &mut db::Connection, client: i32, round: i32, way: &str) -> Result<u64, Error> {
    let insert = sqlx::query("insert into numbers (client, round, way) values ($1, $2, $3)");
    let done = insert.bind(client).bind(round).bind(way).execute(&mut *conn).await?;
    Ok(done.rows_affected())
}

async fn count(pool: &Pool, client: i32, round: i32) -> Result<i64, Error> {
    let count = sqlx::query_scalar("select count(*) from numbers where client = $1 and round = $2");
    count.bind(client).bind(round).fetch_one(pool).await
}

/// What one client does: alone on the pool, alone on a connection, committed, rolled back, dropped, refused.
async fn one_round(pool: &Pool, direct: &Pool, client: i32, round: i32) -> Result<(), Error> {
    let insert_on_pool = sqlx::query("insert into numbers (client, round, way) values ($1, $2, 'pool')");
    insert_on_pool.bind(client).bind(round).execute(pool).await?;
    assert_eq!(count(direct, client, round).await?, 1, "it has committed when it answers");

    let mut conn = pool.acquire().await?;
    assert_eq!(insert(&mut conn, client, round, "connection").await?, 1);
    assert_eq!(count(direct, client, round).await?, 2, "it has committed when it answers");
    let again = insert(&mut conn, client, round, "connection").await.unwrap_err();
    assert!(again.as_database_error().is_some_and(|error| error.is_unique_violation()), "{again}");
    let none = sqlx::query("select 1 where $1").bind(false).fetch_optional(&mut conn).await?;
    assert!(none.is_none());
    drop(conn);

    let mut tx = db::begin(pool).await?;
    insert(&mut tx, client, round, "committed").await?;
    assert_eq!(count(direct, client, round).await?, 2, "it has not committed before it does");
    insert(&mut tx, client, round, "committed too").await?;
    tx.commit().await?;

    let mut tx = db::begin(pool).await?;
    insert(&mut tx, client, round, "rolled back").await?;
    tx.rollback().await?;
    let mut tx = db::begin(pool).await?;
    insert(&mut tx, client, round, "dropped").await?;
    drop(tx);

    let ways: Vec<String> =
        sqlx::query_scalar("select way from numbers where client = $1 and round = $2 order by 1")
            .bind(client)
            .bind(round)
            .fetch_all(pool)
            .await?;
    assert_eq!(ways, ["committed", "committed too", "connection", "pool"]);
    Ok(())
}

#[tokio::test]
async fn statements_and_transactions_of_many_clients_share_few_sessions() {
    let (db, pooler) = place().await;
    let pools = [pooler.connect(10).await, pooler.connect(10).await];
    let clients = (0..CLIENTS).map(|client| {
        let pool = &pools[usize::from(client % 2 == 0)];
        let db = &db;
        async move {
            for round in 0..ROUNDS {
                one_round(pool, db.pool(), client, round).await.unwrap();
            }
        }
    });
    join_all(clients).await;
    let kept: i64 = sqlx::query_scalar("select count(*) from numbers").fetch_one(&pools[0]).await.unwrap();
    assert_eq!(kept, i64::from(CLIENTS * ROUNDS * 4));
}

#[tokio::test]
async fn production_statements_leave_no_name_on_any_session() {
    let (_db, pooler) = place().await;
    let pools = [pooler.connect(5).await, pooler.connect(5).await];
    let keyring = Keyring::generate();
    let checks = (0..40).map(|number| db::check_keys(&pools[number % 2], &keyring));
    for check in join_all(checks).await {
        check.unwrap();
    }
    let asked = (0..40).map(async |number: usize| {
        sqlx::raw_sql("select 1 from pg_prepared_statements where name <> ''")
            .fetch_optional(&pools[number % 2])
            .await
    });
    assert!(join_all(asked).await.into_iter().all(|named| named.unwrap().is_none()));
}

#[tokio::test]
async fn a_statement_given_up_half_way_leaves_no_transaction_open() {
    let (db, pooler) = place().await;
    let pool = pooler.connect(1).await;
    for microseconds in (0..2000).step_by(20) {
        // At ever later moments: while it begins, runs, commits.
        let given_up = count(&pool, 1, 1);
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), given_up).await;
        eventually("all sessions to be out of any transaction", async || {
            let open = "select count(*) from pg_stat_activity
                        where datname = current_database() and state like 'idle in transaction%'";
            sqlx::query_scalar::<_, i64>(open).fetch_one(db.pool()).await.unwrap() == 0
        })
        .await;
    }
    assert_eq!(count(&pool, 1, 1).await.unwrap(), 0);
}

// S0-340, S0-361
#[tokio::test]
async fn an_empty_database_is_migrated_by_several_processes_at_once() {
    let (db, pooler) = place().await;
    sqlx::raw_sql("drop schema public cascade; create schema public").execute(db.pool()).await.unwrap();
    let pools = join_all((0..4).map(|_| pooler.connect(2))).await;
    for migrated in join_all(pools.iter().map(db::migrate)).await {
        migrated.unwrap();
    }
    assert!(db::migrations_applied(&pools[0]).await.unwrap());
    db::migrate(&pools[1]).await.unwrap();
    db::migrate(&db.connect_more(1)).await.unwrap();
}

/// sqlx asks the server about such a type between parsing a statement and executing it, and by asking loses the
/// statement, which has no name.
#[test]
fn no_statement_takes_or_gives_a_type_of_our_own() {
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.sqlx");
    for file in std::fs::read_dir(cache).unwrap() {
        let query: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        let describe = &query["describe"];
        let columns = describe["columns"].as_array().unwrap().iter().map(|column| &column["type_info"]);
        let parameters = describe["parameters"]["Left"].as_array().into_iter().flatten();
        let own = columns.chain(parameters).find(|kind| !kind.is_string());
        assert!(own.is_none(), "cast {} to text in: {}", own.unwrap(), query["query"]);
    }
}
