//! What operators can do to deliveries.

use ::webhooks::WebhookError;
use db::Connection;
use kernel::ids::TenantId;
use queue::{Job, JobRecord};
use serde::Deserialize;
use serde_json::Value;

use super::Deliver;

/// Prepares what a job that is tried again needs beside its row: a delivery that was given up is pending again. Call
/// it in the transaction that redrives the job.
///
/// # Errors
/// [`WebhookError`] when the database refused.
pub async fn reopen_for(conn: &mut Connection, job: &JobRecord) -> Result<(), WebhookError> {
    reopen(conn, job.tenant, &job.kind, &job.args).await
}

/// The same for a job that is known by these alone.
pub(crate) async fn reopen(
    conn: &mut Connection,
    tenant: TenantId,
    kind: &str,
    args: &Value,
) -> Result<(), WebhookError> {
    if kind != Deliver::KIND {
        return Ok(());
    }
    // Arguments that cannot be read are the job's own failure, told when it runs.
    if let Ok(deliver) = Deliver::deserialize(args) {
        ::webhooks::reopen(conn, tenant, deliver.delivery).await?;
    }
    Ok(())
}
