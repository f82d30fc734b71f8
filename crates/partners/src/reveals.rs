//! Keys that wait to be fetched, once, by whoever has the code from the onboarding mail: keys do not lie in mailboxes.
//!
//! Guarantees: a key waits sealed; its code is stored as a hash; it is told once, and not after its time.

use std::time::Duration;

use db::Connection;
use kernel::ids::{ApiKeyId, PartnerId};
use kernel::sealing::{Keyring, SealContext};
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::PartnerError;
use crate::rotation::NewKey;

/// How long a key waits.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// What every code begins with.
const CODE_PREFIX: &str = "mpo_";
/// log2(62⁴³) is just over 256.
const RANDOM_CHARS: usize = 43;

/// Leaves a key to be fetched; answers the code. Do not log it.
pub async fn leave(
    conn: &mut Connection,
    keyring: &Keyring,
    partner: PartnerId,
    key: &NewKey,
) -> Result<String, PartnerError> {
    let code = format!("{CODE_PREFIX}{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM_CHARS));
    let hash = hash(&code);
    let sealed = keyring.seal(key.api_key.expose().as_bytes(), &sealed_in(partner, key.id));
    sqlx::query!(
        "
        insert into partner_key_reveals (tenant_id, key_id, code_hash, sealed_key, expires_at)
        values ($1, $2, $3, $4, now() + interval '7 days')
        ",
        partner.uuid(),
        key.id.uuid(),
        hash.as_slice(),
        sealed,
    )
    .execute(conn)
    .await?;
    Ok(code)
}

/// A key that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed {
    /// Whose.
    pub partner: PartnerId,
    /// Its id.
    pub key: ApiKeyId,
    /// The key. Do not log it.
    pub api_key: String,
}

/// Fetches the key of a code, which works no more then; none when it never did, or no more, or when the key works no
/// more itself.
pub async fn fetch(
    conn: &mut Connection,
    keyring: &Keyring,
    code: &str,
) -> Result<Option<Revealed>, PartnerError> {
    let hash = hash(code);
    let row = sqlx::query!(
        "
        delete from partner_key_reveals r
        using partner_api_keys k
        where r.code_hash = $1 and r.expires_at > now()
          and k.tenant_id = r.tenant_id and k.id = r.key_id and k.revoked_at is null
          and (k.expires_at is null or k.expires_at > now())
        returning r.tenant_id, r.key_id, r.sealed_key
        ",
        hash.as_slice(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (partner, key) = (PartnerId::from_uuid(row.tenant_id), ApiKeyId::from_uuid(row.key_id));
    let opened = keyring.open(&row.sealed_key, &sealed_in(partner, key))?;
    let api_key = String::from_utf8(opened).map_err(|_| PartnerError::Damaged("key"))?;
    Ok(Some(Revealed { partner, key, api_key }))
}

/// Forgets keys that nobody fetched in time, at most `rows_max`; gives how many.
pub async fn prune(conn: &mut Connection, rows_max: u32) -> Result<u64, PartnerError> {
    let pruned = sqlx::query!(
        "
        delete from partner_key_reveals
        where (tenant_id, key_id) in (
            select tenant_id, key_id from partner_key_reveals where expires_at <= now()
            order by expires_at limit $1 for update skip locked
        )
        ",
        i64::from(rows_max),
    )
    .execute(conn)
    .await?;
    Ok(pruned.rows_affected())
}

fn hash(code: &str) -> [u8; 32] {
    Sha256::digest(code.as_bytes()).into()
}

fn sealed_in(partner: PartnerId, key: ApiKeyId) -> SealContext {
    let (owner, row): (Uuid, Uuid) = (partner.uuid(), key.uuid());
    SealContext { table: "partner_key_reveals", column: "sealed_key", owner, row }
}
