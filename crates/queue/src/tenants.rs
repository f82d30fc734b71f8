//! What a tenant may have of the workers.

use db::Connection;
use kernel::ids::TenantId;

use crate::Error;

/// A tenant's share of the workers. Tenants that were never set have the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantShare {
    /// Jobs of this tenant for every job of one with weight 1, while both have jobs waiting; 1 to 1,000.
    pub weight: i16,
    /// Jobs of its share running at once, in all queues and workers.
    pub concurrency_max: Option<i32>,
}

impl Default for TenantShare {
    fn default() -> Self {
        Self { weight: 1, concurrency_max: None }
    }
}

/// Sets a tenant's share in the caller's transaction: whoever changes what decides it calls this in the same one.
///
/// # Errors
/// [`Error::Database`], also when weight or cap is out of its range.
pub async fn set_tenant(conn: &mut Connection, tenant: TenantId, share: TenantShare) -> Result<(), Error> {
    sqlx::query!(
        "insert into job_tenants (tenant_id, weight, concurrency_max) values ($1, $2, $3)
         on conflict (tenant_id) do update
         set weight = excluded.weight, concurrency_max = excluded.concurrency_max",
        tenant.uuid(),
        share.weight,
        share.concurrency_max,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A tenant's share, locked to the end of the caller's transaction: who changes a part of it writes the whole, and would
/// take back what another changed meanwhile. Of a partner, lock the partner first.
///
/// # Errors
/// [`Error::Database`].
pub async fn lock_tenant_share(conn: &mut Connection, tenant: TenantId) -> Result<TenantShare, Error> {
    // A row that is not there cannot be locked.
    sqlx::query!("insert into job_tenants (tenant_id) values ($1) on conflict do nothing", tenant.uuid())
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query!(
        "select weight, concurrency_max from job_tenants where tenant_id = $1 for update",
        tenant.uuid()
    )
    .fetch_one(conn)
    .await?;
    Ok(TenantShare { weight: row.weight, concurrency_max: row.concurrency_max })
}
