//! The one error of the HTTP edge and the one body errors have on the wire (S0's envelope).
//!
//! Guarantees: every refusal, including those of the router itself, of timeouts and of panics, becomes
//! `{"success":false,"error":{code,message,details?},"requestId"}`. What went wrong inside is logged once, here,
//! and never shown to the client.

mod of_actions;

use std::any::Any;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use partners::Feature;
use serde::Serialize;
use utoipa::ToSchema;

use crate::middleware::context::RequestContext;

/// More faults than this are not listed: nobody reads them, and a hostile body could ask for a megabyte of them.
const FAULTS_LISTED_MAX: usize = 100;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct Fault {
    /// The body field, query parameter, path part or header it concerns.
    #[schema(example = "url")]
    pub field: String,
    /// For programs.
    #[schema(example = "INVALID")]
    pub code: &'static str,
    /// For people.
    #[schema(example = "must be a profile on TikTok, YouTube, Instagram or Facebook")]
    pub message: String,
}

impl Fault {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { field: field.into(), code, message: message.into() }
    }
}

/// Why a request is refused. Each variant has one status and one code.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 401: credentials are missing or wrong. Which of them is not told (G-65).
    #[error("a valid X-Partner-ID and X-API-Key are required")]
    Unauthorized,
    /// 401: nobody is signed in, or the session has ended.
    #[error("sign in first: a session cookie or `Authorization: Bearer` is required")]
    NotSignedIn,
    /// 401: the address or the password is wrong; which of them is not told.
    #[error("the e-mail address or the password is wrong")]
    WrongPassword,
    /// 401: the provider of single sign-on does not prove who somebody is.
    #[error("single sign-on does not prove who you are; begin anew")]
    NotProven,
    /// 403: the caller is known and may not.
    #[error("{message}")]
    Forbidden {
        /// For people.
        message: &'static str,
        /// The reason, for programs.
        reason: Box<Fault>,
    },
    /// 403: the subscription's tier does not have it.
    #[error("the subscription's tier does not have {}; those that do: {}", .0.as_str(), tiers_with(*.0))]
    FeatureNotInPlan(Feature),
    /// 429: too many requests; another attempt makes sense after the given seconds.
    #[error("{message}")]
    RateLimited {
        /// Which limit, for people.
        message: &'static str,
        /// When the limit is lifted.
        retry_after_s: u64,
    },
    /// 404: it does not exist, or is not the caller's.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// 400: the request does not fit its schema. All faults of the part that was read.
    #[error("the request is not valid")]
    Validation(Vec<Fault>),
    /// 409: the state of the resource does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// 422: the idempotency key was used for another request.
    #[error("this Idempotency-Key was used for a request with another method, path or body")]
    IdempotencyKeyReused,
    /// 413: the body is longer than allowed.
    #[error("the body must not be longer than {bytes_max} bytes")]
    PayloadTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// 415: bodies are JSON.
    #[error("the body must be sent as Content-Type: application/json")]
    UnsupportedMediaType,
    /// 415: a body may be compressed by gzip, and by nothing else.
    #[error("the body must be sent as it is, or with Content-Encoding: gzip")]
    UnsupportedEncoding,
    /// 405: the path exists, the method does not.
    #[error("this path does not answer that method")]
    MethodNotAllowed,
    /// 408: the body did not arrive in time.
    #[error("the request body did not arrive in time")]
    RequestTimeout,
    /// 503: too much to do right now; the request was not carried out.
    #[error("the service is busy, try again shortly")]
    Overloaded,
    /// 503: the answer would have taken longer than a read may.
    #[error("the answer took too long: narrow the filter, or try again when there is less to do")]
    TooSlow,
    /// 503: what the process needs cannot be reached, or it is about to stop.
    #[error("{0}")]
    NotReady(&'static str),
    /// 500: a fault of ours.
    #[error("an internal error occurred")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// 500: a handler panicked.
    #[error("an internal error occurred")]
    Panicked(String),
}

impl ApiError {
    /// A fault of ours, with its cause for the log.
    pub fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(cause))
    }

    /// A request with one fault.
    pub fn invalid(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::Validation(vec![Fault::new(field, code, message)])
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized | Self::NotSignedIn | Self::WrongPassword | Self::NotProven => {
                StatusCode::UNAUTHORIZED
            }
            Self::Forbidden { .. } | Self::FeatureNotInPlan(_) => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Validation(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::TooSlow | Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) | Self::Panicked(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code programs look at (S0 appendix A and product.md).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized | Self::NotSignedIn | Self::WrongPassword | Self::NotProven => "UNAUTHORIZED",
            Self::Forbidden { .. } => "FORBIDDEN",
            Self::FeatureNotInPlan(_) => "FEATURE_NOT_IN_PLAN",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Validation(_) => "VALIDATION_ERROR",
            Self::Conflict(_) => "CONFLICT",
            Self::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
            Self::PayloadTooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => "UNSUPPORTED_MEDIA_TYPE",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::RequestTimeout => "REQUEST_TIMEOUT",
            Self::Overloaded | Self::TooSlow | Self::NotReady(_) => "OVERLOADED",
            Self::Internal(_) | Self::Panicked(_) => "INTERNAL_ERROR",
        }
    }

    fn details(&self) -> Option<Vec<Fault>> {
        match self {
            Self::Validation(faults) => Some(faults.iter().take(FAULTS_LISTED_MAX).cloned().collect()),
            Self::Forbidden { reason, .. } => Some(vec![(**reason).clone()]),
            Self::FeatureNotInPlan(feature) => {
                let message = format!("in the tiers {}", tiers_with(*feature));
                Some(vec![Fault::new(feature.as_str(), "NOT_IN_PLAN", message)])
            }
            _ => None,
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s, .. } => Some(*retry_after_s),
            Self::Overloaded | Self::TooSlow => Some(1),
            _ => None,
        }
    }

    fn log(&self) {
        match self {
            Self::Internal(cause) => {
                tracing::error!(error = %cause, chain = chain(&**cause), "request failed");
            }
            Self::Panicked(message) => tracing::error!(panic = message, "handler panicked"),
            _ => {}
        }
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// Always false.
    #[schema(example = false)]
    success: bool,
    error: ErrorDetail,
    /// Name it when asking about this request.
    #[schema(example = "01939b7c-2f6e-7c5a-9a55-0d6d3f1d7f10")]
    request_id: String,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs; stable.
    #[schema(example = "VALIDATION_ERROR")]
    code: &'static str,
    /// For people; may change.
    #[schema(example = "the request is not valid")]
    message: String,
    /// One entry for each fault, all faults of a body at once (at most 100).
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<Fault>>,
}

impl ErrorDetail {
    /// An error whose body says more than this.
    pub(crate) fn new(code: &'static str, message: String) -> Self {
        Self { code, message, details: None }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let is_encoding = matches!(self, Self::UnsupportedEncoding);
        let body = ErrorBody {
            success: false,
            error: ErrorDetail { code: self.code(), message: self.to_string(), details: self.details() },
            request_id: RequestContext::current_id(),
        };
        let mut response = (self.status(), Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if is_encoding {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// What a panicking handler is answered with.
pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let message = cause
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned());
    ApiError::Panicked(message).into_response()
}

fn tiers_with(feature: Feature) -> String {
    feature.tiers().map(|tier| tier.as_str()).collect::<Vec<_>>().join(", ")
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_the_tier_lacks_is_refused_by_name_with_the_tiers_that_have_it() {
        let refusal = ApiError::FeatureNotInPlan(Feature::BatchRefresh);
        assert_eq!((refusal.status().as_u16(), refusal.code()), (403, "FEATURE_NOT_IN_PLAN"));
        let told = refusal.details().unwrap().remove(0);
        assert_eq!((told.field.as_str(), told.code), ("batchRefresh", "NOT_IN_PLAN"));
        assert_eq!(told.message, "in the tiers basic, premium, enterprise");
        assert!(refusal.to_string().contains("batchRefresh; those that do: basic, premium, enterprise"));
    }
}
