//! Idempotency keys: the same request sent twice has one effect.
//!
//! Protocol, all in the transaction of the effect: [`claim`], and on [`Claim::New`] do the work and [`store`] what
//! it made. The claim holds a lock until the transaction ends, so of two requests at once the second is told so
//! at once instead of waiting; when the first rolls back, its key is free again. Keys live 24 hours by the
//! database's clock; older rows count as absent, whether or not they have been pruned.

use std::str::FromStr;

use db::Connection;
use kernel::ids::{JobId, RequestId, TenantId};
use uuid::Uuid;

use crate::error::PartnerError;

/// An idempotency key as a client sends it: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Longest key.
pub const KEY_CHARS_MAX: usize = 255;

/// The text cannot be an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to {KEY_CHARS_MAX} visible ASCII characters, without spaces")]
pub struct NotAnIdempotencyKey;

impl IdempotencyKey {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAnIdempotencyKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=KEY_CHARS_MAX).contains(&text.len());
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && visible { Ok(Self(text.to_owned())) } else { Err(NotAnIdempotencyKey) }
    }
}

/// What a request with a key made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A job.
    Job(JobId),
    /// A request for influencers.
    Influencers(RequestId),
}

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: do the work, then [`store`]. Nobody else gets this answer until the transaction ends.
    New,
    /// The same request had this effect: answer with it.
    Replay(Effect),
    /// Another request used the key: 422.
    KeyReused,
    /// A request with this key is being worked on right now: 409.
    InFlight,
}

/// Asks for a key. `fingerprint` is the SHA-256 of method, path and body. Needs a transaction in READ COMMITTED.
pub async fn claim(
    conn: &mut Connection,
    tenant: TenantId,
    key: &IdempotencyKey,
    fingerprint: &[u8; 32],
) -> Result<Claim, PartnerError> {
    // A statement of its own: the next one's snapshot must be taken after the lock is held, or it could miss what
    // the previous holder has just committed. Two keys with the same hash only cost a needless 409.
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1::uuid::text || ':' || $2, 0)) as "locked!""#,
        tenant.uuid(),
        key.as_str(),
    )
    .fetch_one(&mut *conn)
    .await?;
    if !locked {
        return Ok(Claim::InFlight);
    }
    let found = sqlx::query!(
        "
        select fingerprint, job_id, influencer_request_id from idempotency_keys
        where tenant_id = $1 and key = $2 and created_at > now() - interval '24 hours'
        ",
        tenant.uuid(),
        key.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(match found {
        None => Claim::New,
        Some(row) if row.fingerprint == fingerprint => match (row.job_id, row.influencer_request_id) {
            (Some(job), _) => Claim::Replay(Effect::Job(JobId::from_uuid(job))),
            (None, Some(request)) => Claim::Replay(Effect::Influencers(RequestId::from_uuid(request))),
            // The table's constraint leaves no such row.
            (None, None) => Claim::KeyReused,
        },
        Some(_) => Claim::KeyReused,
    })
}

/// Remembers what a request with a key made, in the transaction that claimed the key.
pub async fn store(
    conn: &mut Connection,
    tenant: TenantId,
    key: &IdempotencyKey,
    fingerprint: &[u8; 32],
    effect: Effect,
) -> Result<(), PartnerError> {
    let (job, request) = match effect {
        Effect::Job(job) => (Some(job.uuid()), None),
        Effect::Influencers(request) => (None, Some(request.uuid())),
    };
    // Only a row past its 24 hours can be in the way, because the claim said there is no other.
    sqlx::query!(
        "
        insert into idempotency_keys (tenant_id, key, fingerprint, job_id, influencer_request_id)
        values ($1, $2, $3, $4, $5)
        on conflict (tenant_id, key) do update
        set fingerprint = excluded.fingerprint, job_id = excluded.job_id,
            influencer_request_id = excluded.influencer_request_id, created_at = excluded.created_at
        ",
        tenant.uuid(),
        key.as_str(),
        fingerprint.as_slice(),
        job,
        request,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Remembers whom the jobs behind stored keys are about, so that erasure finds the rows. Jobs without a key are left
/// alone.
pub async fn set_subject(
    conn: &mut Connection,
    jobs: &[(TenantId, JobId)],
    subject: Uuid,
) -> Result<(), PartnerError> {
    let (tenants, ids): (Vec<Uuid>, Vec<Uuid>) =
        jobs.iter().map(|(tenant, job)| (tenant.uuid(), job.uuid())).unzip();
    sqlx::query!(
        "update idempotency_keys k
         set subject_id = $3
         from unnest($1::uuid[], $2::uuid[]) as i (tenant_id, job_id)
         where k.tenant_id = i.tenant_id and k.job_id = i.job_id",
        &tenants,
        &ids,
        subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes at most `rows_max` keys past their 24 hours, oldest first; gives how many. May run any time, several at
/// once.
pub async fn prune(conn: &mut Connection, rows_max: u32) -> Result<u64, PartnerError> {
    let pruned = sqlx::query!(
        "
        delete from idempotency_keys
        where (tenant_id, key) in (
            select tenant_id, key from idempotency_keys
            where created_at <= now() - interval '24 hours'
            order by created_at
            limit $1
            for update skip locked
        )
        ",
        i64::from(rows_max),
    )
    .execute(conn)
    .await?;
    Ok(pruned.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        let longest = "k".repeat(KEY_CHARS_MAX);
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!~\"'", &longest] {
            assert_eq!(good.parse::<IdempotencyKey>().unwrap().as_str(), good);
        }
        let too_long = "k".repeat(KEY_CHARS_MAX + 1);
        for bad in ["", " ", "a b", "a\n", "tab\t", "é", "\u{7f}", &too_long] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(NotAnIdempotencyKey), "{bad:?}");
        }
    }
}
