//! The check that a process has the encryption keys of its database.
//!
//! The first process to use a database seals a known value into it; every process must open that value before it does
//! anything else. A process with other keys would write contact details and tokens that its peers cannot read, and
//! would notice only when it is too late, so it refuses to start instead. Keys may be rotated freely as long as the key
//! that sealed the probe stays in the ring.

use kernel::sealing::{Keyring, SealContext};
use uuid::Uuid;

use crate::{DbError, Pool};

const PROBE: &[u8] = b"millpond encryption probe";
const CONTEXT: SealContext =
    SealContext { table: "encryption_probe", column: "sealed", owner: Uuid::nil(), row: Uuid::nil() };

/// Proves that these keys belong to this database; on a database without a probe, these keys become its keys.
/// Concurrent first processes are settled by the primary key: one seals, the others must open.
///
/// # Errors
/// [`DbError::WrongKeys`] when the probe was sealed with keys that are not in the ring.
pub async fn check_keys(pool: &Pool, keyring: &Keyring) -> Result<(), DbError> {
    let ours = keyring.seal(PROBE, &CONTEXT);
    sqlx::query!(
        "insert into encryption_probe (id, sealed) values (1, $1) on conflict (id) do nothing",
        ours
    )
    .execute(pool)
    .await?;
    let sealed =
        sqlx::query_scalar!("select sealed from encryption_probe where id = 1").fetch_one(pool).await?;
    keyring.open(&sealed, &CONTEXT).map_err(DbError::WrongKeys)?;
    Ok(())
}
