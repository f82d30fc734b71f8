//! What `db::begin` promises beyond sqlx.

use std::time::Duration;

use db::ConnectOptions;

use crate::support::{TestDb, eventually};

#[tokio::test]
async fn a_transaction_dropped_while_it_begins_leaves_nothing_open_on_its_connection() {
    let db = TestDb::new().await;
    let pool = db.connect_more(1);
    for microseconds in (0..400).step_by(4) {
        // Dropped at ever later moments of its beginning.
        let _ = tokio::time::timeout(Duration::from_micros(microseconds), db::begin(&pool)).await;
        eventually("the connection to be out of any transaction", async || {
            sqlx::query_scalar!(
                r#"select not exists (
                       select from pg_stat_activity
                       where datname = current_database() and state like 'idle in transaction%'
                   ) as "none!""#
            )
            .fetch_one(db.pool())
            .await
            .unwrap()
        })
        .await;
    }
}

#[tokio::test]
async fn who_gives_up_behind_a_locked_table_leaves_no_session_waiting_there() {
    let db = TestDb::new().await;
    let mut locked = db::begin(db.pool()).await.unwrap();
    sqlx::raw_sql("lock table partners").execute(&mut *locked).await.unwrap();
    // Straight to the server: a pooler keeps its own sessions.
    let options = ConnectOptions {
        answer_timeout: Some(Duration::from_millis(200)),
        application_name: "who gives up".to_owned(),
        ..ConnectOptions::new(db.server().clone())
    };
    let pool = db::connect(&options).await.unwrap();
    let given_up = sqlx::raw_sql("select from partners").execute(&pool).await;
    assert!(given_up.is_err(), "it was locked");

    eventually("the server to notice", async || {
        sqlx::query_scalar!(
            r#"select not exists (
                   select from pg_stat_activity where application_name = 'who gives up' and wait_event_type = 'Lock'
               ) as "none!""#
        )
        .fetch_one(db.pool())
        .await
        .unwrap()
    })
    .await;
}
