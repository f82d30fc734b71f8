//! What `db::begin` promises beyond sqlx.

use std::time::Duration;

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
