//! The oldest transaction. While it lasts, no row that died after it began can be removed from any table, and the
//! tables through which jobs pass grow with every job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Pool;

use super::alone::MARK;
use crate::Error;

/// A transaction, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct OldTransaction {
    /// The session's process on the server; 0 for a prepared transaction, which has none.
    pub pid: i32,
    /// What the session says that it is; of a prepared transaction, its name.
    pub application: String,
    /// `active`, `idle in transaction`, …; `prepared`.
    pub state: String,
    /// By the database's clock.
    pub began_at: DateTime<Utc>,
    /// How long it has lasted.
    pub age: Duration,
    /// Whether dead rows are kept for it. One that only reads, and is idle, keeps none between its statements.
    pub keeps_rows: bool,
}

/// The transaction in this database that has lasted longest, without our own upkeep. None if there is none, or if the
/// server lets us see only our own (it takes `pg_read_all_stats` to see those of others).
///
/// # Errors
/// [`Error::Database`].
pub async fn oldest_transaction(pool: &Pool) -> Result<Option<OldTransaction>, Error> {
    let oldest = sqlx::query!(
        r#"select pid as "pid!", application as "application!", state as "state!", began_at as "began_at!",
               keeps_rows as "keeps_rows!",
               extract(epoch from greatest(clock_timestamp() - began_at, '0'))::float8 as "age_s!"
           from (
               select pid, coalesce(application_name, '') as application, coalesce(state, '') as state,
                   xact_start as began_at, backend_xid is not null or backend_xmin is not null as keeps_rows
               from pg_stat_activity
               where datname = current_database() and backend_type = 'client backend'
                 and xact_start is not null and pid <> pg_backend_pid()
                 and query not like $1
               union all
               select 0, gid, 'prepared', prepared, true
               from pg_prepared_xacts where database = current_database()
           ) as transactions
           order by began_at
           limit 1"#,
        format!("/* {MARK} %"),
    )
    .fetch_optional(pool)
    .await?;
    Ok(oldest.map(|row| OldTransaction {
        pid: row.pid,
        application: row.application,
        state: row.state,
        began_at: row.began_at,
        age: Duration::try_from_secs_f64(row.age_s).unwrap_or_default(),
        keeps_rows: row.keeps_rows,
    }))
}
