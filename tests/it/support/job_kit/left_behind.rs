//! What a test left unfinished, asked when its kit is dropped.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Row};

/// The states of unfinished jobs, by kind.
pub(super) fn in_database(options: &PgConnectOptions) -> BTreeMap<String, Vec<String>> {
    // Dropping cannot wait, and the test's own runtime is the one that drops: a thread with another waits instead.
    let asking = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(options)).map_err(std::io::Error::other)
        });
        asked.join().expect("the question does not panic")
    });
    asking.expect("the test's database answers")
}

async fn ask(options: &PgConnectOptions) -> Result<BTreeMap<String, Vec<String>>, sqlx::Error> {
    let mut connection = options.connect().await?;
    let rows = sqlx::raw_sql("select kind, state::text from jobs order by kind, state")
        .fetch_all(&mut connection)
        .await?;
    let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        left.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(left)
}
