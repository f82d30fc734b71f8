//! The reconciler of counters: it takes no input, rereads the tables, and may run at any time, in any number.

use db::{Connection, Pool};
use uuid::Uuid;

use crate::{Error, Queue, turn::queues};

/// Children counted by one call, about: when open batches have more, each call counts some of the batches, by
/// chance, so that each gets its turn.
const COUNTED_MAX: f64 = 200_000.0;
/// Batches repaired by one call; the next does the rest.
const BATCHES_MAX: i64 = 100;

/// What a recount did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recounted {
    /// Batches whose counters were wrong and are right now.
    pub repaired: u64,
    /// Of these, batches that turned out to be finished.
    pub finished: u64,
    /// Queues to wake.
    pub released: Vec<Queue>,
}

/// Compares the counters of open batches with their children, repairs what is wrong, and finishes what is finished.
///
/// Looking takes no locks: counters and children change together, so one snapshot shows whether they agree.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn recount_batches(pool: &Pool) -> Result<Recounted, Error> {
    let mut recounted = Recounted::default();
    for id in wrong(pool).await? {
        let mut tx = db::begin(pool).await?;
        if let Some(repaired) = repair(&mut tx, id).await? {
            tx.commit().await?;
            recounted.repaired += 1;
            recounted.finished += u64::from(repaired.is_finished);
            recounted.released.extend(repaired.released);
        }
    }
    recounted.released.sort_unstable();
    recounted.released.dedup();
    Ok(recounted)
}

/// Open batches whose counters do not agree with their children, or that are open without a live child.
async fn wrong(pool: &Pool) -> Result<Vec<Uuid>, Error> {
    let mut tx = db::begin(pool).await?;
    by_index(&mut tx).await?;
    let wrong = sqlx::query_file_scalar!("src/batches/wrong.sql", COUNTED_MAX, BATCHES_MAX)
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(wrong)
}

struct Repaired {
    is_finished: bool,
    released: Vec<Queue>,
}

/// Counts an open batch anew. `None` when it has finished meanwhile.
async fn repair(conn: &mut Connection, id: Uuid) -> Result<Option<Repaired>, Error> {
    by_index(conn).await?;
    // Under this lock nothing is counted, and the next statement's snapshot sees all that was.
    let open = sqlx::query!(
        "select id from job_batches where id = $1 and finished_at is null for no key update",
        id,
    )
    .fetch_optional(&mut *conn)
    .await?;
    if open.is_none() {
        return Ok(None);
    }
    let is_finished =
        sqlx::query_file_scalar!("src/batches/repair.sql", id).fetch_optional(&mut *conn).await?;
    let Some(is_finished) = is_finished else { return Ok(None) };
    let mut released = Vec::new();
    if is_finished {
        let freed = sqlx::query_scalar!(r#"select job_release_batches(array[$1::uuid]) as "queues!""#, id)
            .fetch_one(conn)
            .await?;
        released = queues(&freed);
    }
    Ok(Some(Repaired { is_finished, released }))
}

/// History may be large and its statistics stale: children are found by the index of batches or not at all.
async fn by_index(conn: &mut Connection) -> Result<(), Error> {
    sqlx::query!("select set_config('enable_seqscan', 'off', true)").fetch_one(conn).await?;
    Ok(())
}
