//! Reading and writing the JSON bodies of the sandbox. All errors have the meter's form,
//! `{"error": {"code", "message"}}`, including those of the sandbox's own controls.

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request that is not carried out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// A request whose body or parameters make no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// The answer, naming the request it belongs to.
    pub(crate) fn answer(&self, request_id: Option<&str>) -> Response {
        let mut error = serde_json::json!({"code": self.code, "message": self.message});
        if let Some(request_id) = request_id {
            error["requestId"] = request_id.into();
        }
        answer(self.status, &serde_json::json!({"error": error}))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.answer(None)
    }
}

/// An answer with a JSON body.
pub(crate) fn answer<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        // The sandbox writes only its own types; this would be a mistake in the sandbox, to be seen as one.
        Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, fault.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a whole JSON body, or says why not.
pub(crate) fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    serde_json::from_slice(&bytes(body)?).map_err(|fault| Refusal::invalid(fault.to_string()))
}

/// The raw body, or why there is none: too large, or it did not arrive.
pub(crate) fn bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|rejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
            _ => "invalid_request",
        };
        Refusal::new(rejection.status(), code, rejection.body_text())
    })
}

/// The parameters of an address, or what is wrong with them.
pub(crate) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(parameters)| parameters).map_err(|rejection| Refusal::invalid(rejection.body_text()))
}

/// At most so many characters of a text, for names and messages that are kept or shown.
pub(crate) fn shortened(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}
