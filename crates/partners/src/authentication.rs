//! Who calls, and whether they may.
//!
//! Three steps, in this order, because callers draw on the rate limit between the last two: load the credentials of
//! the partner named in the request, check the presented key against them (401), check the state of the partner
//! and its subscription (403). An unknown partner and a wrong key are one and the same failure, so that partners
//! cannot be probed. Credentials may be remembered for a few seconds: all that depends on the time is checked
//! against the time given, not when they were loaded.

use chrono::{DateTime, Utc};
use db::Connection;
use kernel::ids::{ApiKeyId, PartnerId, TenantId};

use crate::error::PartnerError;
use crate::keys::{ApiKey, same_hash};
use crate::subscription::{Subscription, SubscriptionStatus, SubscriptionTier};

/// A partner with all that is needed to judge a request of theirs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Who it is.
    pub partner: PartnerId,
    /// The code, as in `X-Partner-ID`.
    pub code: String,
    /// Whether the partner may call at all.
    pub is_active: bool,
    /// What the partner has bought, as it stood when this was loaded.
    pub subscription: Subscription,
    /// Requests a clock minute.
    pub rate_limit_per_minute: u32,
    /// The keys that worked when this was loaded; revoked ones are not among them.
    pub keys: Vec<StoredKey>,
}

/// What is stored of a working key.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The key's id; not secret.
    pub id: ApiKeyId,
    /// SHA-256 of the key.
    pub hash: Vec<u8>,
    /// When it stops working; none: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A caller whose key is right. What they may do is another question: [`Authenticated::check_state`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// Who it is.
    pub partner: PartnerId,
    /// The same as owner of rows.
    pub tenant: TenantId,
    /// The code, as in `X-Partner-ID`.
    pub code: String,
    /// The key that was presented.
    pub key: ApiKeyId,
    /// Requests a clock minute.
    pub rate_limit_per_minute: u32,
    /// Whether the partner may call at all.
    pub is_active: bool,
    /// What the partner has bought.
    pub subscription: Subscription,
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The pool and profiles: what the subscription is for.
    Product,
    /// The partner's own account: quota, subscription and its own jobs. Stays readable after expiry, so that a
    /// partner can see why and renew.
    OwnAccount,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthFailure {
    /// 401: no such partner, or not one of its working keys.
    #[error("the partner id or the API key is wrong")]
    Credentials,
    /// 403: an admin deactivated the partner.
    #[error("the partner is deactivated")]
    Inactive,
    /// 403: an admin suspended the subscription.
    #[error("the subscription is suspended")]
    Suspended,
    /// 403: the subscription and its grace period have ended.
    #[error("the subscription has expired")]
    Expired,
}

/// Checks a presented key. `None` for the credentials means that the partner is unknown.
pub fn verify(
    credentials: Option<&Credentials>,
    presented: &ApiKey,
    now: DateTime<Utc>,
) -> Result<Authenticated, AuthFailure> {
    // Hashed before anything is known, so that an unknown partner takes no less time.
    let hash = presented.hash();
    let credentials = credentials.ok_or(AuthFailure::Credentials)?;
    let works = |key: &&StoredKey| key.expires_at.is_none_or(|end| now < end);
    let key = credentials
        .keys
        .iter()
        .filter(works)
        .find(|key| same_hash(&key.hash, &hash))
        .ok_or(AuthFailure::Credentials)?;
    Ok(Authenticated {
        partner: credentials.partner,
        tenant: credentials.partner.into(),
        code: credentials.code.clone(),
        key: key.id,
        rate_limit_per_minute: credentials.rate_limit_per_minute,
        is_active: credentials.is_active,
        subscription: credentials.subscription,
    })
}

impl Authenticated {
    /// Whether the partner and its subscription allow this kind of request.
    pub fn check_state(&self, access: Access) -> Result<(), AuthFailure> {
        if !self.is_active {
            return Err(AuthFailure::Inactive);
        }
        match (self.subscription.status, access) {
            (SubscriptionStatus::Suspended, _) => Err(AuthFailure::Suspended),
            (SubscriptionStatus::Expired, Access::Product) => Err(AuthFailure::Expired),
            _ => Ok(()),
        }
    }
}

/// The credentials of a partner named by code or `ptn_…` id; none when there is no such partner.
pub async fn load_credentials(
    conn: &mut Connection,
    presented: &str,
) -> Result<Option<Credentials>, PartnerError> {
    let id = presented.parse::<PartnerId>().ok().map(PartnerId::uuid);
    let rows = sqlx::query!(
        r#"
        select p.id, p.code, p.is_active, p.rate_limit_per_minute,
               s.tier as "tier: SubscriptionTier", s.status as "status: SubscriptionStatus",
               s.start_date, s.end_date, s.auto_renew, calendar_now() as "today!",
               k.id as "key_id?", k.secret_hash as "secret_hash?", k.expires_at
        from partners p
        join partner_subscriptions s on s.tenant_id = p.id
        left join partner_api_keys k
          on k.tenant_id = p.id and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
        where p.code = $1 or p.id = $2
        order by k.id desc
        "#,
        presented,
        id,
    )
    .fetch_all(conn)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut credentials = Credentials {
        partner: PartnerId::from_uuid(first.id),
        code: first.code.clone(),
        is_active: first.is_active,
        subscription: Subscription {
            tier: first.tier,
            status: first.status,
            starts_at: first.start_date,
            ends_at: first.end_date,
            auto_renew: first.auto_renew,
        }
        .at(first.today),
        rate_limit_per_minute: first.rate_limit_per_minute.unsigned_abs(),
        keys: Vec::new(),
    };
    for row in rows {
        if let (Some(id), Some(hash)) = (row.key_id, row.secret_hash) {
            let id = ApiKeyId::from_uuid(id);
            credentials.keys.push(StoredKey { id, hash, expires_at: row.expires_at });
        }
    }
    Ok(Some(credentials))
}

/// Records, to the minute, that the partner called with a key; true when that was news of the partner. Costs a write
/// at most once a minute and key, whatever is called meanwhile.
pub async fn touch_last_call(
    conn: &mut Connection,
    tenant: TenantId,
    key: ApiKeyId,
) -> Result<bool, PartnerError> {
    let touched = sqlx::query_scalar!(
        r#"
        with key_used as (
            update partner_api_keys set last_used_at = date_trunc('minute', now())
            where tenant_id = $1 and id = $2
              and (last_used_at is null or last_used_at < date_trunc('minute', now()))
        ), partner_called as (
            update partners set last_api_call_at = date_trunc('minute', now())
            where id = $1 and (last_api_call_at is null or last_api_call_at < date_trunc('minute', now()))
            returning 1
        )
        select exists (select from partner_called) as "is_news!"
        "#,
        tenant.uuid(),
        key.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(touched)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn credentials(expires: &[Option<i64>]) -> (Credentials, Vec<ApiKey>) {
        let mut presented = Vec::new();
        let mut keys = Vec::new();
        for seconds in expires {
            let (key, hash, _) = ApiKey::generate();
            let expires_at = seconds.map(|seconds| now() + chrono::TimeDelta::seconds(seconds));
            keys.push(StoredKey { id: ApiKeyId::new(), hash: hash.to_vec(), expires_at });
            presented.push(key);
        }
        let credentials = Credentials {
            partner: PartnerId::new(),
            code: "techcombank".to_owned(),
            is_active: true,
            subscription: Subscription {
                tier: SubscriptionTier::Free,
                status: SubscriptionStatus::Active,
                starts_at: now(),
                ends_at: None,
                auto_renew: false,
            },
            rate_limit_per_minute: 100,
            keys,
        };
        (credentials, presented)
    }

    #[test]
    fn each_working_key_is_accepted_and_an_expired_one_is_not() {
        let (credentials, keys) = credentials(&[None, Some(1), Some(0), Some(-1)]);
        let outcomes = keys.iter().map(|key| verify(Some(&credentials), key, now()));
        let accepted: Vec<Option<ApiKeyId>> = outcomes.map(|outcome| outcome.ok().map(|ok| ok.key)).collect();
        let ids: Vec<ApiKeyId> = credentials.keys.iter().map(|key| key.id).collect();
        assert_eq!(accepted, [Some(ids[0]), Some(ids[1]), None, None]);
    }

    // S0-032
    #[test]
    fn an_unknown_partner_and_a_wrong_key_are_the_same_failure() {
        let (known, _) = credentials(&[None]);
        let (stranger, ..) = ApiKey::generate();
        assert_eq!(verify(None, &stranger, now()), Err(AuthFailure::Credentials));
        assert_eq!(verify(Some(&known), &stranger, now()), Err(AuthFailure::Credentials));
    }

    #[test]
    fn a_wrong_key_says_nothing_about_the_partners_state() {
        let (mut known, keys) = credentials(&[None]);
        known.is_active = false;
        known.subscription.status = SubscriptionStatus::Suspended;
        let (stranger, ..) = ApiKey::generate();
        assert_eq!(verify(Some(&known), &stranger, now()), Err(AuthFailure::Credentials));
        let caller = verify(Some(&known), &keys[0], now()).unwrap();
        assert_eq!(caller.check_state(Access::OwnAccount), Err(AuthFailure::Inactive));
    }

    // S0-035, S0-220
    #[test]
    fn the_subscriptions_status_decides_what_may_be_called() {
        let (mut known, keys) = credentials(&[None]);
        let mut outcome = |status| {
            known.subscription.status = status;
            let caller = verify(Some(&known), &keys[0], now()).unwrap();
            (caller.check_state(Access::Product), caller.check_state(Access::OwnAccount))
        };
        assert_eq!(outcome(SubscriptionStatus::Active), (Ok(()), Ok(())));
        assert_eq!(outcome(SubscriptionStatus::GracePeriod), (Ok(()), Ok(())));
        assert_eq!(outcome(SubscriptionStatus::Expired), (Err(AuthFailure::Expired), Ok(())));
        let suspended = Err(AuthFailure::Suspended);
        assert_eq!(outcome(SubscriptionStatus::Suspended), (suspended, suspended));
    }
}
