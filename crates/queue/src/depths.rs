//! How much stands in each queue, for people: exact up to a cap, so that a look costs the same whatever the backlog.

use db::Pool;

use crate::{Error, Queue, lane::lanes_of};

/// Jobs are counted up to this many; there may be more.
pub const DEPTH_MAX: i64 = 10_000;

/// What stands in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// The queue.
    pub queue: Queue,
    /// Jobs that could run, up to [`DEPTH_MAX`].
    pub ready: i64,
    /// Jobs whose time has not come, up to [`DEPTH_MAX`].
    pub scheduled: i64,
    /// Jobs that run.
    pub running: i64,
}

/// What stands in every queue now.
///
/// # Errors
/// [`Error::Database`].
pub async fn depths(pool: &Pool) -> Result<Vec<Depth>, Error> {
    let mut depths = Vec::new();
    for queue in Queue::ALL {
        let (from, to) = lanes_of(queue);
        let row = sqlx::query!(
            r#"select
                   (select count(*) from (
                       select from jobs where state = 'ready' and lane >= $1 and lane < $2 limit $4
                   ) as r) as "ready!",
                   (select count(*) from (
                       select from jobs where state = 'scheduled' and queue = $3 limit $4
                   ) as s) as "scheduled!",
                   (select count(*) from jobs where state = 'running' and queue = $3) as "running!""#,
            from,
            to,
            queue.as_str(),
            DEPTH_MAX,
        )
        .fetch_one(pool)
        .await?;
        depths.push(Depth { queue, ready: row.ready, scheduled: row.scheduled, running: row.running });
    }
    Ok(depths)
}
