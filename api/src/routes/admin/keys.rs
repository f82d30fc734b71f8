//! `/api/v1/admin/partners/{id}/…key`: a partner's API keys. Revoking is in force everywhere within five seconds.

use std::time::Duration;

use ::partners::rotation::{KeyTerms, OVERLAP_MAX};
use ::partners::{KeySummary, NewKey};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use jobs::partners as actions;
use kernel::ids::ApiKeyId;
use serde::Serialize;
use utoipa::ToSchema;

use super::PathPartner;
use crate::error::{ApiError, ErrorBody};
use crate::extract::body::JsonBody;
use crate::extract::fields::{Fields, FromFields, Problem, instant as read_instant, text, whole_in};
use crate::extract::person::{Admin, door};
use crate::routes::body::Data;
use crate::routes::instant;
use crate::state::ApiState;

/// A key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyView {
    #[schema(example = "key_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// What people call it.
    name: Option<String>,
    /// What it may be recognised by.
    #[schema(example = "mpk_1a2B3c4D")]
    prefix: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// To the minute; null: never.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// When it stops working; null: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl From<KeySummary> for KeyView {
    fn from(key: KeySummary) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            prefix: key.prefix,
            created_at: instant(key.created_at),
            last_used_at: key.last_used_at.map(instant),
            expires_at: key.expires_at.map(instant),
            revoked_at: key.revoked_at.map(instant),
        }
    }
}

/// A key just made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewKeyView {
    #[schema(example = "key_01jd8x4xkre9a8y9tbn2p5q3mw")]
    id: String,
    /// The key: shown this once.
    #[schema(example = "mpk_EXAMPLE00000000000000000000000000000000")]
    api_key: String,
    /// What it may be recognised by.
    #[schema(example = "mpk_EXAMPLE0")]
    key_prefix: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl NewKeyView {
    fn of(key: &NewKey, expires_at: Option<DateTime<Utc>>) -> Self {
        Self {
            id: key.id.to_string(),
            api_key: key.api_key.expose().to_owned(),
            key_prefix: key.prefix.clone(),
            expires_at: expires_at.map(instant),
        }
    }
}

/// A key to be made.
#[derive(Debug, ToSchema)]
#[schema(as = NewKey, rename_all = "camelCase", example = json!({"name": "staging", "expiresAt": "2027-12-31T17:00:00Z"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct NewKeySchema {
    /// What people call it.
    #[schema(required = false, max_length = 200)]
    name: Option<String>,
    /// When it stops working; never unless given.
    #[schema(required = false)]
    expires_at: Option<DateTime<Utc>>,
}

struct Terms(KeyTerms);

impl FromFields for Terms {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.optional("name", |value| text(value).map(str::to_owned));
        Some(Self(KeyTerms { name, expires_at: fields.optional("expiresAt", read_instant) }))
    }
}

/// Make another key
///
/// The others go on working. At most eight work at once.
#[utoipa::path(
    post, path = "/api/v1/admin/partners/{id}/keys", tag = "Partners", operation_id = "addPartnerKey",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the partner's code or `ptn_…` id")),
    request_body = NewKeySchema,
    responses(
        (status = 201, description = "the key", body = Data<NewKeyView>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody),
        (status = 409, description = "too many keys work already", body = ErrorBody)))]
pub async fn add(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let Terms(terms) = body.fields.finish(Terms::read)?;
    let expires_at = terms.expires_at;
    let mut tx = db::begin(state.pool()).await?;
    let partner = path.find(&mut tx).await?;
    let key = actions::add_key(&mut tx, &door(&state, &me), partner.id, terms).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Data::of(NewKeyView::of(&key, expires_at))).into_response())
}

/// A key that takes the place of all others.
#[derive(Debug, ToSchema)]
#[schema(as = KeyRotation, rename_all = "camelCase", example = json!({"overlapSeconds": 3600}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct RotationSchema {
    /// What people call it.
    #[schema(required = false, max_length = 200)]
    name: Option<String>,
    /// When it stops working; never unless given.
    #[schema(required = false)]
    expires_at: Option<DateTime<Utc>>,
    /// How long the others go on working; 0 unless given.
    #[schema(required = false, nullable = false, minimum = 0, maximum = 86400)]
    overlap_seconds: u32,
}

struct Rotation(KeyTerms, Duration);

impl FromFields for Rotation {
    fn read(fields: &mut Fields) -> Option<Self> {
        let Terms(terms) = Terms::read(fields)?;
        let overlap = fields.optional("overlapSeconds", |value| {
            whole_in(value, 0..=u32::try_from(OVERLAP_MAX.as_secs()).unwrap_or(u32::MAX))
        });
        Some(Self(terms, Duration::from_secs(overlap.unwrap_or(0).into())))
    }
}

/// Give a partner a new key for all others
///
/// The others end at once, or after `overlapSeconds`.
#[utoipa::path(
    post, path = "/api/v1/admin/partners/{id}/regenerate-key", tag = "Partners",
    operation_id = "regeneratePartnerKey",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the partner's code or `ptn_…` id")),
    request_body = RotationSchema,
    responses(
        (status = 200, description = "the key", body = Data<NewKeyView>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is no such partner", body = ErrorBody),
        (status = 409, description = "too many keys would work", body = ErrorBody)))]
pub async fn regenerate(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<axum::Json<Data<NewKeyView>>, ApiError> {
    let Rotation(terms, overlap) = body.fields.finish(Rotation::read)?;
    let expires_at = terms.expires_at;
    let mut tx = db::begin(state.pool()).await?;
    let partner = path.find(&mut tx).await?;
    let key = actions::rotate_key(&mut tx, &door(&state, &me), partner.id, overlap, terms).await?;
    tx.commit().await?;
    Ok(Data::of(NewKeyView::of(&key, expires_at)))
}

/// A key to be revoked.
#[derive(Debug, ToSchema)]
#[schema(as = KeyRevocation, rename_all = "camelCase", example = json!({"keyId": "key_01jd8x4xkre9a8y9tbn2p5q3mw"}))]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct RevocationSchema {
    #[schema(example = "key_01jd8x4xkre9a8y9tbn2p5q3mw")]
    key_id: String,
}

struct Revocation(ApiKeyId);

impl FromFields for Revocation {
    fn read(fields: &mut Fields) -> Option<Self> {
        fields.required("keyId", |value| text(value)?.parse().map_err(Problem::invalid)).map(Self)
    }
}

/// What is revoked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    #[schema(example = "key_01jd8x4xkre9a8y9tbn2p5q3mw")]
    key_id: String,
}

/// Revoke a key
///
/// At once, and in every process within five seconds. Revoking it again changes nothing.
#[utoipa::path(
    post, path = "/api/v1/admin/partners/{id}/revoke-key", tag = "Partners", operation_id = "revokePartnerKey",
    security(("session" = []), ("bearer" = [])), extensions(("x-required-role" = json!("admin"))),
    params(("id" = String, Path, description = "the partner's code or `ptn_…` id")),
    request_body = RevocationSchema,
    responses(
        (status = 200, description = "it works no more", body = Data<Revoked>),
        (status = 400, description = "the body is not valid; all its faults", body = ErrorBody),
        (status = 404, description = "there is no such partner, or it has no such key", body = ErrorBody)))]
pub async fn revoke(
    State(state): State<ApiState>,
    Admin(me): Admin,
    path: PathPartner,
    body: JsonBody,
) -> Result<axum::Json<Data<Revoked>>, ApiError> {
    let Revocation(key) = body.fields.finish(Revocation::read)?;
    let mut tx = db::begin(state.pool()).await?;
    let partner = path.find(&mut tx).await?;
    actions::revoke_key(&mut tx, &door(&state, &me), partner.id, key).await?;
    tx.commit().await?;
    Ok(Data::of(Revoked { key_id: key.to_string() }))
}
