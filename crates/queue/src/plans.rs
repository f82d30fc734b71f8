//! Plans that hold at every size. The hot statements are functions that bring their own settings; the rarer ones get
//! theirs for a transaction.

use db::Connection;

use crate::Error;

/// Leaves the planner one sensible plan for each statement of this transaction, whatever the statistics say: the queue
/// may have grown by millions since they were taken, or since the connection planned the statement.
///
/// # Errors
/// [`Error::Database`].
pub(crate) async fn pin(conn: &mut Connection) -> Result<(), Error> {
    sqlx::query!(
        "select set_config(name, 'off', true)
         from unnest(array['jit', 'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin']) as name"
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}
