//! Giving dead jobs another life in bulk, with what they need beside their rows; one function whatever its door.

use db::{Connection, Pool};
use queue::{Queue, Redrive, RedriveChunk};

use crate::webhooks;

/// How often a chunk is tried again when the database says that this may help.
const TRIES_MAX: u8 = 5;

/// Why a bulk redrive stopped. What was moved before remains moved; going on with the frozen filter does the rest.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The jobs were not moved.
    #[error("dead jobs were not moved back to work")]
    Queue(#[from] queue::Error),
    /// The deliveries that they carry out were not reopened.
    #[error("deliveries of dead jobs were not reopened")]
    Webhooks(#[from] ::webhooks::WebhookError),
}

/// Moves all jobs of a bulk redrive back to work, chunk by chunk in transactions of its own, and says after each how
/// far it is. Answers the queues to wake.
///
/// # Errors
/// A [`RedriveError`] with its cause; `redrive` then says how far it came.
pub async fn redrive_many(
    pool: &Pool,
    redrive: &mut Redrive,
    mut progress: impl FnMut(&Redrive) + Send,
) -> Result<Vec<Queue>, RedriveError> {
    let mut queues = Vec::new();
    let mut tries = 0;
    loop {
        match redrive_chunk(pool, redrive).await {
            Ok(None) => break,
            Ok(Some(chunk)) => {
                tries = 0;
                redrive.committed(&chunk);
                queues.extend(chunk.jobs.iter().filter_map(|job| job.queue));
                queues.sort_unstable();
                queues.dedup();
                progress(redrive);
            }
            Err(RedriveError::Queue(error)) if error.is_transient() && tries < TRIES_MAX => tries += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(queues)
}

async fn redrive_chunk(pool: &Pool, redrive: &Redrive) -> Result<Option<RedriveChunk>, RedriveError> {
    let mut tx = db::begin(pool).await.map_err(queue::Error::from)?;
    let Some(chunk) = redrive.chunk(&mut tx).await? else { return Ok(None) };
    reopen(&mut tx, &chunk).await?;
    tx.commit().await.map_err(queue::Error::from)?;
    Ok(Some(chunk))
}

/// What jobs that live again need beside their rows.
async fn reopen(conn: &mut Connection, chunk: &RedriveChunk) -> Result<(), ::webhooks::WebhookError> {
    for job in &chunk.jobs {
        webhooks::reopen(conn, job.tenant, &job.kind, &job.args).await?;
    }
    Ok(())
}
