//! Calling a batch off.

use std::time::Duration;

use db::Pool;
use kernel::ids::{BatchId, JobId, TenantId};

use crate::{
    CANCELLED, End, Error, Failure, Queue,
    end::{Ending, end_jobs},
    plans,
};

/// Children ended, or asked to stop, in one transaction.
const CHUNK_MAX: i64 = 1_000;
/// Batches whose cancelling one call resumes; the next does the rest.
const RESUMED_MAX: i64 = 100;
/// How often we look again for children that were locked when we looked: a claim has them for milliseconds, a
/// handler's transaction for longer.
const LOOKS_MAX: u8 = 25;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What calling a batch off came to, so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CancelledBatch {
    /// Children that no worker held: they are cancelled.
    pub cancelled: u64,
    /// Children that run: their workers stop them within a heartbeat.
    pub asked: u64,
    /// Children that others had locked all the while: the reconciler comes back for them.
    pub left: bool,
    /// Queues to wake.
    pub released: Vec<Queue>,
}

/// Calls a batch off: children that no worker holds are cancelled, those that run are asked to stop, and none can be
/// added any more. The completion job runs as usual when the last has ended. `None` when there is no open batch
/// of this id.
///
/// It works in chunks, each a transaction of its own, and may be repeated. Once the first is committed the whole
/// will be done: [`resume_cancels`] goes on where this was interrupted.
///
/// # Errors
/// [`Error::Database`].
pub async fn cancel_batch(
    pool: &Pool,
    tenant: TenantId,
    id: BatchId,
    by: &str,
) -> Result<Option<CancelledBatch>, Error> {
    let open = sqlx::query_scalar!(
        r#"update job_batches set cancelled_by = coalesce(cancelled_by, $3)
           where tenant_id = $1 and id = $2 and finished_at is null
           returning cancelled_by as "by!""#,
        tenant.uuid(),
        id.uuid(),
        by,
    )
    .fetch_optional(pool)
    .await?;
    match open {
        Some(by) => cancel_children(pool, id, &by).await.map(Some),
        None => Ok(None),
    }
}

/// Ends what interrupted cancels began: a reconciler, which takes no input and may run at any time, in any number.
///
/// # Errors
/// [`Error::Database`]; the next call does the rest.
pub async fn resume_cancels(pool: &Pool) -> Result<CancelledBatch, Error> {
    let half_done = sqlx::query!(
        r#"select b.id, b.cancelled_by as "by!"
           from job_batches b
           where b.finished_at is null and b.cancelled_by is not null
             and exists (select from jobs j where j.batch_id = b.id and not j.cancel_requested)
           order by b.created_at
           limit $1"#,
        RESUMED_MAX,
    )
    .fetch_all(pool)
    .await?;
    let mut all = CancelledBatch::default();
    for batch in half_done {
        let one = cancel_children(pool, BatchId::from_uuid(batch.id), &batch.by).await?;
        all.cancelled += one.cancelled;
        all.asked += one.asked;
        all.left |= one.left;
        all.released.extend(one.released);
    }
    all.released.sort_unstable();
    all.released.dedup();
    Ok(all)
}

/// Cancels what is left of a batch that is marked as called off.
async fn cancel_children(pool: &Pool, id: BatchId, by: &str) -> Result<CancelledBatch, Error> {
    let mut all = CancelledBatch::default();
    let mut looks = 0;
    loop {
        let (cancelled, released) = cancel_chunk(pool, id, by).await?;
        let asked = ask_chunk(pool, id).await?;
        all.cancelled += cancelled;
        all.asked += asked;
        all.released.extend(released);
        if cancelled + asked > 0 {
            looks = 0;
            continue;
        }
        // Whoever is asked to stop stays asked, wherever its row goes from here.
        all.left = sqlx::query_scalar!(
            r#"select exists (select from jobs where batch_id = $1 and not cancel_requested) as "left!""#,
            id.uuid(),
        )
        .fetch_one(pool)
        .await?;
        looks += 1;
        if !all.left || looks >= LOOKS_MAX {
            all.released.sort_unstable();
            all.released.dedup();
            return Ok(all);
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}

/// Ends some children that nobody holds.
async fn cancel_chunk(pool: &Pool, id: BatchId, by: &str) -> Result<(u64, Vec<Queue>), Error> {
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    // In no order: whoever skips what is locked waits for nobody.
    let free = sqlx::query!(
        "select tenant_id, id from jobs where batch_id = $1 and leased_by is null
         limit $2
         for update skip locked",
        id.uuid(),
        CHUNK_MAX,
    )
    .fetch_all(&mut *tx)
    .await?;
    if free.is_empty() {
        return Ok((0, Vec::new()));
    }
    let end = End::Cancelled(Failure { code: CANCELLED.into(), message: format!("cancelled by {by}") });
    let endings: Vec<Ending<'_>> = free
        .iter()
        .map(|row| Ending::of_unheld(TenantId::from_uuid(row.tenant_id), JobId::from_uuid(row.id), &end))
        .collect();
    let ended = end_jobs(&mut tx, &endings).await?;
    tx.commit().await?;
    Ok((ended.jobs.len() as u64, ended.released))
}

/// Asks some children that run to stop. It locks jobs alone, and never waits: a handler's transaction may take long.
async fn ask_chunk(pool: &Pool, id: BatchId) -> Result<u64, Error> {
    let mut tx = db::begin(pool).await?;
    plans::pin(&mut tx).await?;
    let asked = sqlx::query!(
        "update jobs
         set cancel_requested = true
         where ctid = any(array(
             select ctid from jobs
             where batch_id = $1 and leased_by is not null and not cancel_requested
             limit $2
             for update skip locked
         ))",
        id.uuid(),
        CHUNK_MAX,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(asked.rows_affected())
}
