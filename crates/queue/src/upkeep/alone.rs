//! Statements that no transaction takes, and that may take long.

use std::time::Duration;

use db::Pool;
use sqlx::AssertSqlSafe;
use tokio::time::timeout;
use uuid::Uuid;

use crate::Error;

/// How long the order to give a statement up may take.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(2);

/// Runs a statement in no transaction, for at most `time_max`; then the server is told to give it up.
///
/// The bound is ours and not `statement_timeout`: that would have to be set for the session, and behind a pooler the
/// next statement may get another. So the statement carries a mark by which another session finds it.
pub(crate) async fn run_alone(pool: &Pool, statement: &str, time_max: Duration) -> Result<(), Error> {
    let mark = format!("/* {} {} */", MARK, Uuid::now_v7().simple());
    let text = format!("{mark} {statement}");
    let mut connection = pool.with_answer_timeout(None).acquire().await?;
    match timeout(time_max, sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection)).await {
        Ok(ran) => Ok(ran.map(|_| ())?),
        Err(_) => {
            // It is closed, since its statement broke off.
            drop(connection);
            let cancelled = sqlx::query!(
                "select pg_cancel_backend(pid) from pg_stat_activity
                 where query like $1 || '%' and state = 'active' and pid <> pg_backend_pid()",
                mark,
            )
            .fetch_optional(pool);
            // If it is not heard, the server finishes what it began: no harm but its work.
            let _ = timeout(CANCEL_TIME_MAX, cancelled).await;
            Err(Error::Unanswered)
        }
    }
}

/// How statements of this kind begin, after the comment's opening.
pub(crate) const MARK: &str = "millpond upkeep";
