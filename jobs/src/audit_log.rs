//! Sealing the audit log; one function whatever its door: the leader's upkeep, and whoever is about to verify the log.

use audit::{AuditError, SEALED_MAX};
use db::Pool;
use kernel::sealing::Keyring;

/// Transactions of one call at the most; the next call does the rest.
const CHUNKS_MAX: usize = 100;

/// Seals all entries that wait, in transactions of its own, and answers how many.
///
/// # Errors
/// [`AuditError`]; what was sealed before stays so.
pub async fn seal(pool: &Pool, keyring: &Keyring) -> Result<usize, AuditError> {
    let mut entries = 0;
    for _ in 0..CHUNKS_MAX {
        let mut tx = db::begin(pool).await?;
        let sealed = audit::seal(&mut tx, keyring, SEALED_MAX).await?;
        tx.commit().await?;
        if sealed.is_broken {
            tracing::error!(
                "the audit log's chain does not end where it did; `millpond audit verify` says more"
            );
        }
        entries += sealed.entries;
        if sealed.entries < SEALED_MAX {
            break;
        }
    }
    Ok(entries)
}
