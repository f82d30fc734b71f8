//! Pausing, resuming and draining queues and kinds: the next claim sees it, since every claim asks. And how many jobs of a
//! queue each worker process runs at once.

use std::num::NonZeroU16;

use db::Connection;

use crate::{Error, Queue};

/// A queue, or the jobs of one kind in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The queue.
    pub queue: Queue,
    /// One kind of its jobs; `None` is all of them.
    pub kind: Option<String>,
}

/// Something that is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The queue's name.
    pub queue: String,
    /// The kind, unless the whole queue is paused.
    pub kind: Option<String>,
    /// Who paused it.
    pub by: String,
    /// Since when, by the database's clock.
    pub since: chrono::DateTime<chrono::Utc>,
    /// Jobs of it that still run; a pause with none is drained.
    pub running: i64,
}

/// No more jobs of the scope are claimed. Those that run go on; wait for [`running`] to be none to have it drained.
/// Answers whether it was not paused before.
///
/// # Errors
/// [`Error::Database`].
pub async fn pause(conn: &mut Connection, scope: &Scope, by: &str) -> Result<bool, Error> {
    let added = sqlx::query!(
        "insert into job_pauses (queue, kind, paused_by) values ($1, $2, $3) on conflict do nothing",
        scope.queue.as_str(),
        scope.kind.as_deref().unwrap_or_default(),
        by,
    )
    .execute(conn)
    .await?;
    Ok(added.rows_affected() > 0)
}

/// Jobs of the scope are claimed again; answers whether it was paused. Wake the queue after the commit.
///
/// # Errors
/// [`Error::Database`].
pub async fn resume(conn: &mut Connection, scope: &Scope) -> Result<bool, Error> {
    let removed = sqlx::query!(
        "delete from job_pauses where queue = $1 and kind = $2",
        scope.queue.as_str(),
        scope.kind.as_deref().unwrap_or_default(),
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected() > 0)
}

/// How many jobs of the scope run now.
///
/// # Errors
/// [`Error::Database`].
pub async fn running(db: impl sqlx::PgExecutor<'_>, scope: &Scope) -> Result<i64, Error> {
    let running = sqlx::query_scalar!(
        r#"select count(*) as "n!" from jobs
           where state = 'running' and queue = $1 and ($2::text is null or kind = $2)"#,
        scope.queue.as_str(),
        scope.kind,
    )
    .fetch_one(db)
    .await?;
    Ok(running)
}

/// Everything that is paused.
///
/// # Errors
/// [`Error::Database`].
pub async fn pauses(db: impl sqlx::PgExecutor<'_>) -> Result<Vec<Pause>, Error> {
    let rows = sqlx::query!(
        r#"select p.queue, p.kind, p.paused_by, p.paused_at,
               (select count(*) from jobs j
                where j.state = 'running' and j.queue = p.queue and p.kind in ('', j.kind)) as "running!"
           from job_pauses p
           order by p.queue, p.kind"#
    )
    .fetch_all(db)
    .await?;
    let pauses = rows.into_iter().map(|row| Pause {
        queue: row.queue,
        kind: Some(row.kind).filter(|kind| !kind.is_empty()),
        by: row.paused_by,
        since: row.paused_at,
        running: row.running,
    });
    Ok(pauses.collect())
}

/// An operator's bound of how many jobs of a queue each worker process runs at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueBound {
    /// The queue's name.
    pub queue: String,
    /// Jobs at once; a process with fewer slots runs no more than it has.
    pub concurrency_max: i32,
    /// Who set it.
    pub by: String,
    /// Since when, by the database's clock.
    pub since: chrono::DateTime<chrono::Utc>,
}

/// Bounds how many jobs of a queue each worker process runs at once, or frees it again. Workers see it within about a second;
/// those that run more let them end. To have none run, [`pause`] the queue. Answers what was.
///
/// # Errors
/// [`Error::Database`].
pub async fn set_queue_concurrency(
    conn: &mut Connection,
    queue: Queue,
    concurrency_max: Option<NonZeroU16>,
    by: &str,
) -> Result<Option<i32>, Error> {
    let max = concurrency_max.map(|max| i32::from(max.get()));
    let before = sqlx::query_scalar!(
        "select concurrency_max from job_queue_bounds where queue = $1 for update",
        queue.as_str()
    )
    .fetch_optional(&mut *conn)
    .await?;
    match max {
        Some(max) => {
            sqlx::query!(
                "insert into job_queue_bounds (queue, concurrency_max, set_by) values ($1, $2, $3)
                 on conflict (queue) do update
                 set concurrency_max = excluded.concurrency_max, set_by = excluded.set_by, set_at = now()",
                queue.as_str(),
                max,
                by,
            )
            .execute(conn)
            .await?;
        }
        None => {
            sqlx::query!("delete from job_queue_bounds where queue = $1", queue.as_str())
                .execute(conn)
                .await?;
        }
    }
    Ok(before)
}

/// Every queue whose workers are bounded.
///
/// # Errors
/// [`Error::Database`].
pub async fn queue_bounds(conn: &mut Connection) -> Result<Vec<QueueBound>, Error> {
    let rows =
        sqlx::query!("select queue, concurrency_max, set_by, set_at from job_queue_bounds order by queue")
            .fetch_all(conn)
            .await?;
    let bounds = rows.into_iter().map(|row| QueueBound {
        queue: row.queue,
        concurrency_max: row.concurrency_max,
        by: row.set_by,
        since: row.set_at,
    });
    Ok(bounds.collect())
}
