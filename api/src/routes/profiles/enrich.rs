//! `POST /api/v1/profiles/enrich`: ask for a creator's profile to be crawled (S0 FR-006).
//!
//! The job, its callback and the idempotency key are stored in one transaction; the answer comes after its commit,
//! so a job id that was seen is never lost.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use db::Connection;
use http::{HeaderValue, StatusCode, header};
use jobs::Door;
use jobs::profiles::{Enrich, NewEnrich, request_enrich};
use kernel::ids::{JobId, TenantId};
use kernel::profile_url::ProfileUrl;
use partners::Feature;
use partners::idempotency::Effect;
use queue::{Job, JobStatus, Queue};
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorBody};
use crate::estimate;
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, Problem, text};
use crate::extract::idempotency::{IDEMPOTENT_REPLAYED, Idempotency};
use crate::extract::partner::{Subscriber, door};
use crate::extract::prefer::PreferWait;
use crate::middleware::context::RequestContext;
use crate::routes::jobs::{self as job_routes, FinalBody, FinalBodySchema};
use crate::state::ApiState;

/// Which profile, and where to tell when it is known.
#[derive(Debug, ToSchema)]
#[schema(as = EnrichRequest, example = json!({
    "url": "https://www.tiktok.com/@example",
    "callbackUrl": "https://partner.com/webhooks/enrich"
}))]
#[allow(dead_code)] // The schema of what `Wish` reads.
pub struct EnrichRequest {
    /// A profile on TikTok, YouTube, Instagram or Facebook, in any form people paste.
    url: String,
    /// Where the end of the job is posted, signed by Standard Webhooks: http or https, ports 443 and 80, no private
    /// or local address.
    #[schema(rename = "callbackUrl", required = false)]
    callback_url: Option<String>,
}

/// The immediate answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "success": true,
    "jobId": "job_01jd8x4xkre9a8y9tbn2p5q3mw",
    "status": "processing",
    "estimatedTime": 10
}))]
pub struct EnrichAccepted {
    /// Always true.
    success: bool,
    /// Poll it at the address in `Location`.
    #[schema(value_type = String, example = "job_01jd8x4xkre9a8y9tbn2p5q3mw")]
    job_id: JobId,
    /// Always `processing`.
    #[schema(value_type = String)]
    status: JobStatus,
    /// Whole seconds until the result, from how long such jobs took lately.
    estimated_time: u64,
}

/// Ask for a profile to be crawled
///
/// Answers at once with a job id. The result is posted to `callbackUrl`, if one was given, and can be polled with the
/// job id for at least 30 days. A profile crawled within the last 24 hours is answered from that crawl.
///
/// With `Prefer: wait=N` (at most 25 seconds) the answer is held open and, if the job ends in time, is the final body
/// with status 200: that of the callback plus `success`.
///
/// With an `Idempotency-Key`, repeating the request within 24 hours answers with the same job.
#[utoipa::path(
    post, path = "/api/v1/profiles/enrich", tag = "Profiles", operation_id = "enrichProfile",
    security(("partnerId" = [], "apiKey" = [])),
    params(
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer open for up to N seconds, N ≤ 25"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, yours to choose"),
        ("traceparent" = Option<String>, Header, description = "the W3C trace context of your call; the callback carries the same trace"),
    ),
    request_body(content = EnrichRequest, content_type = "application/json"),
    responses(
        (status = 202, description = "the job is stored", body = EnrichAccepted, headers(
            ("Location" = String, description = "where to poll the job"),
            ("Retry-After" = u64, description = "seconds after which polling makes sense"))),
        (status = 200, description = "with `Prefer: wait`: the job has ended, well or not", body = FinalBodySchema, headers(
            ("Location" = String, description = "the job"),
            ("Preference-Applied" = String, description = "the wait that was honoured"))),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 408, description = "the body did not arrive in time", body = ErrorBody),
        (status = 409, description = "a request with this Idempotency-Key is being carried out", body = ErrorBody),
        (status = 413, description = "the body is too long", body = ErrorBody),
        (status = 415, description = "the body is not JSON", body = ErrorBody),
        (status = 422, description = "the Idempotency-Key was used for another request", body = ErrorBody)))]
pub async fn enrich(
    State(state): State<ApiState>,
    subscriber: Subscriber,
    prefer: PreferWait,
    idempotency: Idempotency,
    body: JsonBody,
) -> Result<Response, ApiError> {
    subscriber.needs(Feature::ProfileEnrich)?;
    let Subscriber(partner) = subscriber;
    let wish = body.fields.finish(|fields| Wish::read(fields, state.allow_loopback()))?;
    let new = NewEnrich {
        partner: partner.partner,
        profile: wish.url,
        callback_url: wish.callback_url.map(String::from),
        trace: RequestContext::current().map(|context| context.trace()),
    };

    let mut tx = db::begin(state.pool()).await?;
    let asked = request_once(&mut tx, &door(&state, &partner), &idempotency, &body.bytes, new).await?;
    tx.commit().await?;
    state.waker().wake(Queue::Enrich);

    let mut response = match prefer.duration() {
        Some(wait) => final_or_accepted(&state, partner.tenant, &asked, wait).await?,
        None => accepted(&state, partner.tenant, &asked).await,
    };
    let headers = response.headers_mut();
    headers.extend(prefer.applied());
    headers.extend(asked.replayed.then(|| IDEMPOTENT_REPLAYED.clone()));
    headers.insert(header::LOCATION, job_routes::location(asked.job)?);
    Ok(response)
}

/// The request's body as values.
struct Wish {
    url: ProfileUrl,
    callback_url: Option<Url>,
}

impl Wish {
    fn read(fields: &mut Fields, allow_loopback: bool) -> Option<Self> {
        let url = fields.required("url", |value| ProfileUrl::parse(text(value)?).map_err(Problem::invalid));
        let callback_url = fields.optional("callbackUrl", |value| {
            outbound::check_url(text(value)?, allow_loopback).map_err(Problem::invalid)
        });
        Some(Self { url: url?, callback_url })
    }
}

/// The job that stands for a request, and whether an earlier request made it.
struct Asked {
    job: JobId,
    replayed: bool,
}

/// Stores the job, unless the same request has stored one before.
async fn request_once(
    conn: &mut Connection,
    door: &Door<'_>,
    idempotency: &Idempotency,
    body: &[u8],
    new: NewEnrich,
) -> Result<Asked, ApiError> {
    let tenant = TenantId::from(new.partner);
    match idempotency.earlier(conn, tenant, body).await? {
        None => {
            let job = request_enrich(conn, door, new).await?;
            idempotency.keep(conn, tenant, body, Effect::Job(job)).await?;
            Ok(Asked { job, replayed: false })
        }
        Some(Effect::Job(job)) => Ok(Asked { job, replayed: true }),
        // The fingerprint holds the path, so what another route made is never told here.
        Some(Effect::Influencers(_)) => Err(ApiError::IdempotencyKeyReused),
    }
}

async fn accepted(state: &ApiState, tenant: TenantId, asked: &Asked) -> Response {
    let job = asked.job;
    let eta = match asked.replayed {
        true => estimate::of_live(state, tenant, job).await,
        false => estimate::of_new(state, Enrich::KIND, tenant, job).await,
    };
    let estimated_time = estimate::seconds(eta.map_or(estimate::UNKNOWN, |eta| eta.remaining()));
    let body = EnrichAccepted { success: true, job_id: job, status: JobStatus::Processing, estimated_time };
    let retry_after = HeaderValue::from(job_routes::retry_after_s(estimated_time));
    (StatusCode::ACCEPTED, [(header::RETRY_AFTER, retry_after)], Json(body)).into_response()
}

/// The final body if the job ends within `wait`, else the immediate answer.
async fn final_or_accepted(
    state: &ApiState,
    tenant: TenantId,
    asked: &Asked,
    wait: Duration,
) -> Result<Response, ApiError> {
    let job = asked.job;
    if job_routes::until_ended(state, tenant, job, wait).await {
        let mut conn = state.pool().acquire().await?;
        if let Some(record) = queue::get(&mut conn, tenant, job).await?
            && record.status.has_ended()
        {
            return Ok(Json(FinalBody::of(&record)).into_response());
        }
    }
    // It is no longer new.
    Ok(accepted(state, tenant, &Asked { job, replayed: true }).await)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    async fn read(body: &'static str, allow_loopback: bool) -> Result<Wish, Vec<(String, &'static str)>> {
        #[derive(Clone)]
        struct Limits;
        impl axum::extract::FromRef<Limits> for crate::extract::body::BodyLimits {
            fn from_ref(_: &Limits) -> Self {
                Self::new(10_000, Duration::from_secs(5), Arc::new(Semaphore::new(8)))
            }
        }
        let request = axum::extract::Request::post("/").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body.into()).unwrap();
        let body = <JsonBody as axum::extract::FromRequest<_>>::from_request(request, &Limits).await.unwrap();
        body.fields.finish(|fields| Wish::read(fields, allow_loopback)).map_err(|error| match error {
            ApiError::Validation(faults) => {
                faults.into_iter().map(|fault| (fault.field, fault.code)).collect()
            }
            other => panic!("{other:?}"),
        })
    }

    #[tokio::test]
    async fn a_profile_with_a_callback_is_a_wish() {
        let body = r#"{"url":"tiktok.com/@MrBeast?lang=en","callbackUrl":"https://partner.com/hook"}"#;
        let wish = read(body, false).await.unwrap();
        assert_eq!(wish.url.lookup_key(), "@mrbeast");
        assert_eq!(wish.callback_url.unwrap().as_str(), "https://partner.com/hook");
    }

    #[tokio::test]
    async fn every_fault_of_a_body_is_told_at_once() {
        let body = r#"{"url":"https://example.com/me","callbackUrl":"http://10.0.0.1/","callback":"x"}"#;
        let faults = read(body, false).await.err().unwrap();
        let expected = [("url", "INVALID"), ("callbackUrl", "INVALID"), ("callback", "UNKNOWN")];
        assert_eq!(faults, expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[tokio::test]
    async fn loopback_is_a_callback_only_where_the_setting_says_so() {
        let body = r#"{"url":"tiktok.com/@creator","callbackUrl":"http://127.0.0.1:9000/hook"}"#;
        assert!(read(body, true).await.is_ok());
        assert_eq!(read(body, false).await.err().unwrap(), [("callbackUrl".to_owned(), "INVALID")]);
    }
}
