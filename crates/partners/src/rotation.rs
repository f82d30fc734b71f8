//! A partner's API keys over time: new ones, overlapping ones, revoked ones.
//!
//! Guarantees: a rotation leaves the new key and, for the overlap asked for, those before it; at most
//! [`KEYS_LIVE_MAX`] keys of a partner work at once; a revoked or expired key never works again. Processes that
//! remember credentials notice within their cache's few seconds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{ApiKeyId, PartnerId};
use sqlx::postgres::types::PgInterval;

use crate::error::{FieldFault, PartnerError};
use crate::keys::ApiKey;

/// How many keys of one partner may work at once.
pub const KEYS_LIVE_MAX: i64 = 8;
/// Longest time an old key may work beside the new one.
pub const OVERLAP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A key just made. The only time it can be seen.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The key's id; not secret.
    pub id: ApiKeyId,
    /// The key itself.
    pub api_key: ApiKey,
    /// The part it may be recognised by.
    pub prefix: String,
}

/// What a new key is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyTerms {
    /// What people call it.
    pub name: Option<String>,
    /// When it stops working; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Longest name of a key.
pub const KEY_NAME_CHARS_MAX: usize = 200;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySummary {
    /// The key's id; not secret.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: Option<String>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The part it may be recognised by.
    pub prefix: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Makes a new key. The keys before it die at once, or after `overlap` (at most a day); none lives longer by it.
/// Needs a transaction: several statements belong together.
pub async fn rotate_key(
    conn: &mut Connection,
    partner: PartnerId,
    overlap: Duration,
    terms: &KeyTerms,
) -> Result<NewKey, PartnerError> {
    if overlap > OVERLAP_MAX {
        let message = format!("at most {} hours", OVERLAP_MAX.as_secs() / 3_600);
        return Err(PartnerError::Invalid(vec![FieldFault { field: "overlap", message }]));
    }
    check(terms, lock(conn, partner).await?)?;
    match overlap.is_zero() {
        true => revoke_all(conn, partner).await?,
        false => expire_all(conn, partner, overlap).await?,
    }
    insert_key(conn, partner, terms).await
}

/// Makes a new key beside those there are. Needs a transaction: several statements belong together.
pub async fn add_key(
    conn: &mut Connection,
    partner: PartnerId,
    terms: &KeyTerms,
) -> Result<NewKey, PartnerError> {
    check(terms, lock(conn, partner).await?)?;
    insert_key(conn, partner, terms).await
}

/// Locked, so that two who make keys at once count each other's; answers the time.
async fn lock(conn: &mut Connection, partner: PartnerId) -> Result<DateTime<Utc>, PartnerError> {
    let now = sqlx::query_scalar!(
        r#"select now() as "now!" from partners where id = $1 for update"#,
        partner.uuid(),
    );
    now.fetch_optional(conn).await?.ok_or(PartnerError::NotFound("partner"))
}

fn check(terms: &KeyTerms, now: DateTime<Utc>) -> Result<(), PartnerError> {
    let mut faults = Vec::new();
    let fits = |name: &String| {
        (1..=KEY_NAME_CHARS_MAX).contains(&name.trim().chars().count()) && !name.chars().any(char::is_control)
    };
    if terms.name.as_ref().is_some_and(|name| !fits(name)) {
        let message = format!("1 to {KEY_NAME_CHARS_MAX} characters on one line");
        faults.push(FieldFault { field: "name", message });
    }
    if terms.expires_at.is_some_and(|end| end <= now) {
        faults.push(FieldFault { field: "expiresAt", message: "an instant to come".to_owned() });
    }
    if faults.is_empty() { Ok(()) } else { Err(PartnerError::Invalid(faults)) }
}

/// Revokes one key. Revoking it again changes nothing.
pub async fn revoke_key(
    conn: &mut Connection,
    partner: PartnerId,
    key: ApiKeyId,
) -> Result<(), PartnerError> {
    let revoked = sqlx::query!(
        "
        update partner_api_keys set revoked_at = coalesce(revoked_at, now())
        where tenant_id = $1 and id = $2
        ",
        partner.uuid(),
        key.uuid(),
    )
    .execute(conn)
    .await?;
    match revoked.rows_affected() {
        0 => Err(PartnerError::NotFound("API key")),
        _ => Ok(()),
    }
}

/// The newest keys of a partner, at most `rows_max`, dead ones included.
pub async fn list_keys(
    conn: &mut Connection,
    partner: PartnerId,
    rows_max: u32,
) -> Result<Vec<KeySummary>, PartnerError> {
    let rows = sqlx::query!(
        "
        select id, name, last_used_at, prefix, created_at, expires_at, revoked_at from partner_api_keys
        where tenant_id = $1 order by id desc limit $2
        ",
        partner.uuid(),
        i64::from(rows_max),
    )
    .fetch_all(conn)
    .await?;
    let summary = rows.into_iter().map(|row| KeySummary {
        id: ApiKeyId::from_uuid(row.id),
        name: row.name,
        last_used_at: row.last_used_at,
        prefix: row.prefix,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    });
    Ok(summary.collect())
}

/// Adds a key.
pub(crate) async fn insert_key(
    conn: &mut Connection,
    partner: PartnerId,
    terms: &KeyTerms,
) -> Result<NewKey, PartnerError> {
    let id = ApiKeyId::new();
    let (api_key, hash, prefix) = ApiKey::generate();
    let inserted = sqlx::query!(
        "
        insert into partner_api_keys (tenant_id, id, prefix, secret_hash, name, expires_at)
        select $1, $2, $3, $4, $6, $7
        where (
            select count(*) from partner_api_keys
            where tenant_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())
        ) < $5
        ",
        partner.uuid(),
        id.uuid(),
        prefix,
        hash.as_slice(),
        KEYS_LIVE_MAX,
        terms.name.as_deref().map(str::trim),
        terms.expires_at,
    )
    .execute(conn)
    .await?;
    match inserted.rows_affected() {
        0 => Err(PartnerError::TooManyKeys { live_max: KEYS_LIVE_MAX }),
        _ => Ok(NewKey { id, api_key, prefix }),
    }
}

async fn revoke_all(conn: &mut Connection, partner: PartnerId) -> Result<(), PartnerError> {
    sqlx::query!(
        "update partner_api_keys set revoked_at = now() where tenant_id = $1 and revoked_at is null",
        partner.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn expire_all(
    conn: &mut Connection,
    partner: PartnerId,
    overlap: Duration,
) -> Result<(), PartnerError> {
    let microseconds = i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX);
    // `least` ignores null: a key without an end gets one.
    sqlx::query!(
        "
        update partner_api_keys set expires_at = least(expires_at, now() + $2)
        where tenant_id = $1 and revoked_at is null
        ",
        partner.uuid(),
        PgInterval { months: 0, days: 0, microseconds },
    )
    .execute(conn)
    .await?;
    Ok(())
}
