//! Who calls: `X-Partner-ID` and `X-API-Key`, checked before anything else is.
//!
//! Order (G-61): credentials (401), rate (429), state of partner and subscription (403). Every authenticated request
//! draws on the rate limit, whatever becomes of it. Unknown partners and wrong keys get the same answer. A revoked
//! key works for at most `key_cache_ms` longer in a process that has just seen it.

use std::net::IpAddr;
use std::time::Instant;

use audit::Actor;
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use jobs::Door;
use partners::Feature;
use partners::{Access, ApiKey, AuthFailure, Authenticated};

use super::credential_cache::{CredentialHash, Remembered};
use super::peer::peer;
use crate::error::{ApiError, Fault};
use crate::middleware::context::RequestContext;
use crate::state::ApiState;

/// A caller who may use its own account: quota, subscription, its jobs.
#[derive(Clone, Debug)]
pub struct Partner(pub Authenticated);

/// A caller whose subscription allows using the product: the pool and profiles.
#[derive(Clone, Debug)]
pub struct Subscriber(pub Authenticated);

impl Subscriber {
    /// Goes no further unless the subscription's tier has a feature.
    ///
    /// # Errors
    /// 403, which says which tiers have it.
    pub fn needs(&self, feature: Feature) -> Result<(), ApiError> {
        let has_it = feature.is_in(self.0.subscription.tier);
        if has_it { Ok(()) } else { Err(ApiError::FeatureNotInPlan(feature)) }
    }
}

/// The door through which a partner acts, by this request.
pub(crate) fn door<'a>(state: &'a ApiState, partner: &Authenticated) -> Door<'a> {
    Door {
        actor: Actor::Partner(partner.partner),
        request_id: RequestContext::current().map(|context| context.id().to_owned()),
        keyring: state.keyring(),
    }
}

impl FromRequestParts<ApiState> for Partner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        admit(parts, state, Access::OwnAccount).await.map(Self)
    }
}

impl FromRequestParts<ApiState> for Subscriber {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        admit(parts, state, Access::Product).await.map(Self)
    }
}

async fn admit(parts: &Parts, state: &ApiState, access: Access) -> Result<Authenticated, ApiError> {
    let presented = Presented::read(&parts.headers).ok_or(ApiError::Unauthorized)?;
    let caller = authenticate(&presented, peer(parts), state).await?;
    tracing::Span::current().record("partner.id", tracing::field::display(caller.partner));
    if let Some(context) = RequestContext::current() {
        context.set_partner(caller.partner);
    }
    draw_rate(&caller, state).await?;
    caller.check_state(access).map_err(refused)?;
    Ok(caller)
}

struct Presented {
    partner: String,
    key: String,
}

impl Presented {
    /// Both headers, each given once.
    fn read(headers: &HeaderMap) -> Option<Self> {
        Some(Self { partner: single(headers, "x-partner-id")?, key: single(headers, "x-api-key")? })
    }
}

fn single(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

async fn authenticate(
    presented: &Presented,
    peer: IpAddr,
    state: &ApiState,
) -> Result<Authenticated, ApiError> {
    let now = Instant::now();
    let hash = CredentialHash::of(&presented.partner, &presented.key);
    match state.credentials().recall(hash, now) {
        Remembered::Verified(caller) => return Ok(caller),
        Remembered::Known => {}
        Remembered::Unknown => refuse_guesser(peer, state, now)?,
    }
    match verify(presented, state).await? {
        Some(caller) => {
            state.credentials().remember(hash, caller.clone(), now);
            Ok(caller)
        }
        None => {
            state.credentials().forget(hash);
            state.failed_attempts().note(peer, now);
            Err(ApiError::Unauthorized)
        }
    }
}

/// Asks the database, and leaves word there that the partner called.
async fn verify(presented: &Presented, state: &ApiState) -> Result<Option<Authenticated>, ApiError> {
    // The key's checksum spares the database from typing errors.
    let Ok(key) = presented.key.parse::<ApiKey>() else { return Ok(None) };
    let mut conn = state.pool().acquire().await?;
    let credentials = partners::authentication::load_credentials(&mut conn, &presented.partner).await?;
    let verified = partners::authentication::verify(credentials.as_ref(), &key, kernel::clock::now());
    let Ok(caller) = verified else { return Ok(None) };
    partners::authentication::touch_last_call(&mut conn, caller.tenant, caller.key).await?;
    Ok(Some(caller))
}

fn refuse_guesser(peer: IpAddr, state: &ApiState, now: Instant) -> Result<(), ApiError> {
    let Some(left) = state.failed_attempts().refused_for(peer, now) else { return Ok(()) };
    Err(ApiError::RateLimited {
        message: "too many failed attempts from this address",
        retry_after_s: crate::estimate::seconds(left),
    })
}

async fn draw_rate(caller: &Authenticated, state: &ApiState) -> Result<(), ApiError> {
    let rates = state.rates();
    let (allowed, standing) = rates.draw(state.pool(), caller.partner, caller.rate_limit_per_minute).await?;
    if let Some(context) = RequestContext::current() {
        context.set_rate(standing);
    }
    if allowed {
        return Ok(());
    }
    Err(ApiError::RateLimited {
        message: "the partner's requests of this minute are used up",
        retry_after_s: standing.resets_in_s(),
    })
}

fn refused(failure: AuthFailure) -> ApiError {
    let (message, field, code) = match failure {
        AuthFailure::Credentials => return ApiError::Unauthorized,
        AuthFailure::Inactive => ("the partner is deactivated", "partner", "INACTIVE"),
        AuthFailure::Suspended => ("the subscription is suspended", "subscription", "SUSPENDED"),
        AuthFailure::Expired => ("the subscription has expired", "subscription", "EXPIRED"),
    };
    ApiError::Forbidden { message, reason: Box::new(Fault::new(field, code, message)) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn both_headers_are_needed_once_each() {
        let mut headers = HeaderMap::new();
        headers.insert("x-partner-id", HeaderValue::from_static("techcombank"));
        assert!(Presented::read(&headers).is_none());
        headers.insert("x-api-key", HeaderValue::from_static("key"));
        assert!(Presented::read(&headers).is_some());
        headers.append("x-api-key", HeaderValue::from_static("another"));
        assert!(Presented::read(&headers).is_none());
        headers.insert("x-api-key", HeaderValue::from_static(""));
        assert!(Presented::read(&headers).is_none());
    }

    #[test]
    fn a_refusal_names_its_reason_for_programs() {
        let ApiError::Forbidden { reason, .. } = refused(AuthFailure::Expired) else { panic!("403") };
        assert_eq!((reason.field.as_str(), reason.code), ("subscription", "EXPIRED"));
    }
}
