//! How much stands in each queue: exact up to a cap, so that a look costs the same whatever the backlog.

use db::{Connection, Pool};

use crate::{Error, Queue, lane::lanes_of, plans};

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
    /// Jobs that wait for the end of another; of all queues the first [`DEPTH_MAX`] are counted.
    pub waiting: i64,
    /// Jobs of kinds that no worker here knew; of all queues the first [`DEPTH_MAX`] are counted.
    pub parked: i64,
}

/// What stands in every queue now.
///
/// # Errors
/// [`Error::Database`].
pub async fn depths(pool: &Pool) -> Result<Vec<Depth>, Error> {
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    let depths = depths_in(&mut tx).await?;
    tx.rollback().await?;
    Ok(depths)
}

/// The same in a transaction with pinned plans.
pub(crate) async fn depths_in(conn: &mut Connection) -> Result<Vec<Depth>, Error> {
    // Which queue they are of stands in no index, so those of all queues are counted at once.
    let others = sqlx::query!(
        r#"select queue as "queue!", count(*) filter (where state = 'running') as "running!",
               count(*) filter (where state = 'waiting') as "waiting!",
               count(*) filter (where state = 'parked') as "parked!"
           from (
               select queue, state from jobs where state = 'running'
               union all (select queue, state from jobs where state = 'waiting' limit $1)
               union all (select queue, state from jobs where state = 'parked' limit $1)
           ) as others
           group by queue"#,
        DEPTH_MAX,
    )
    .fetch_all(&mut *conn)
    .await?;
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
                   ) as s) as "scheduled!""#,
            from,
            to,
            queue.as_str(),
            DEPTH_MAX,
        )
        .fetch_one(&mut *conn)
        .await?;
        let others = others.iter().find(|others| others.queue == queue.as_str());
        let (running, waiting, parked) =
            others.map_or((0, 0, 0), |others| (others.running, others.waiting, others.parked));
        depths.push(Depth { queue, ready: row.ready, scheduled: row.scheduled, running, waiting, parked });
    }
    Ok(depths)
}
