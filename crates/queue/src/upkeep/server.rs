//! The state of the whole server, as far as it decides whether our tables can be kept clean and connections be had.

use db::Pool;

use super::alone::MARK;
use crate::Error;

/// Numbers of transactions count back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerState {
    /// For how far back some session keeps dead rows, our own cleaning aside.
    pub xmin_age_sessions: i32,
    /// The same for prepared transactions.
    pub xmin_age_prepared: i32,
    /// The same for replication slots.
    pub xmin_age_slots: i32,
    /// The oldest row of any database that is not frozen; the server stops at 2.1 billion.
    pub wraparound_age: i32,
    /// Sessions of clients.
    pub connections: i64,
    /// Sessions that there may be.
    pub connections_max: i32,
}

/// The state of the server now: reads of the server's memory, none of tables.
///
/// # Errors
/// [`Error::Database`].
pub async fn server_state(pool: &Pool) -> Result<ServerState, Error> {
    let state = sqlx::query_as!(
        ServerState,
        r#"select
               (select coalesce(max(age(backend_xmin)), 0) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and query not like $1)
                   as "xmin_age_sessions!",
               (select coalesce(max(age(transaction)), 0) from pg_prepared_xacts
                where database = current_database()) as "xmin_age_prepared!",
               (select coalesce(max(greatest(age(xmin), age(catalog_xmin))), 0) from pg_replication_slots)
                   as "xmin_age_slots!",
               (select max(age(datfrozenxid)) from pg_database) as "wraparound_age!",
               (select count(*) from pg_stat_activity where backend_type = 'client backend') as "connections!",
               current_setting('max_connections')::integer as "connections_max!""#,
        format!("/* {MARK} %"),
    )
    .fetch_one(pool)
    .await?;
    Ok(state)
}
