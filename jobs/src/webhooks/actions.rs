//! What operators can do to deliveries.

use ::webhooks::WebhookError;
use queue::{Job, JobRecord};
use sqlx::PgConnection;

use super::Deliver;

/// Prepares what a job that is tried again needs beside its row: a delivery that was given up is pending again. Call
/// it in the transaction that redrives the job.
///
/// # Errors
/// [`WebhookError`] when the database refused.
pub async fn reopen_for(conn: &mut PgConnection, job: &JobRecord) -> Result<(), WebhookError> {
    if job.kind != Deliver::KIND {
        return Ok(());
    }
    // Arguments that cannot be read are the job's own failure, told when it runs.
    if let Ok(deliver) = serde_json::from_value::<Deliver>(job.args.clone()) {
        ::webhooks::reopen(conn, job.tenant, deliver.delivery).await?;
    }
    Ok(())
}
