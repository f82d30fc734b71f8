//! `POST /api/v1/admin/partners/{id}/notifications`: write to a partner.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jobs::partners as actions;
use queue::Queue;
use serde::Serialize;
use utoipa::ToSchema;

use super::PathPartner;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, text};
use crate::extract::person::{Admin, door};
use crate::routes::body::Data;
use crate::state::ApiState;

/// What to write.
#[derive(Debug, ToSchema)]
#[schema(as = Notification, rename_all = "camelCase", example = json!({
    "subject": "Maintenance on Sunday", "message": "The pool is not refreshed between 01:00 and 03:00 on Sunday."
}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct NotificationSchema {
    /// One line.
    #[schema(min_length = 1, max_length = 200)]
    subject: String,
    /// Plain text.
    #[schema(min_length = 1, max_length = 5000)]
    message: String,
}

struct Notification {
    subject: String,
    message: String,
}

impl FromFields for Notification {
    fn read(fields: &mut Fields) -> Option<Self> {
        let subject = fields.required("subject", |value| text(value).map(str::to_owned));
        let message = fields.required("message", |value| text(value).map(str::to_owned));
        Some(Self { subject: subject?, message: message? })
    }
}

/// How the partner is told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notified {
    /// The `partner.message` event, for endpoints that listen to it.
    #[schema(example = "evt_01jd8x4xkre9a8y9tbn2p5q3mw")]
    event_id: String,
    /// Whether a mail goes out too: false for a partner without a contact address.
    #[schema(example = true)]
    is_mailed: bool,
}

/// Write to a partner
///
/// By mail to its contact, and as an event for the endpoints it has registered.
#[utoipa::path(
    post, path = "/api/v1/admin/partners/{id}/notifications", tag = "Partners", operation_id = "notifyPartner",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the partner's code or `ptn_…` id", example = "techcombank")),
    request_body = NotificationSchema,
    responses(
        (status = 202, description = "it is on its way", body = Data<Notified>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody)))]
pub async fn send(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let Notification { subject, message } = body.fields.finish(Notification::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let partner = path.find(&mut tx).await?;
    let told = actions::send_message(&mut tx, &door(&state, &me), partner.id, &subject, &message).await?;
    tx.commit().await?;
    state.waker().wake(Queue::Maintenance);
    let notified = Notified { event_id: told.event.to_string(), is_mailed: told.mail.is_some() };
    Ok((StatusCode::ACCEPTED, Data::of(notified)).into_response())
}
