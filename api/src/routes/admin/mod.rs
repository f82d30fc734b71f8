//! What admins decide about partners (S0 FR-008 and FR-010) and about who may see whom in the pool (FR-009). Whoever is
//! signed in may read; only admins change.

pub mod keys;
pub mod notifications;
pub mod partners;
pub mod pool;
pub mod requests;
pub mod subscription;
pub mod subscriptions;
pub mod usage;

use ::partners::{Partner, directory};
use axum::extract::FromRequestParts;
use db::Connection;
use http::request::Parts;

use crate::error::ApiError;
use crate::extract::path_id::PathName;

/// The partner that a path names, by its code or its `ptn_…` id.
#[derive(Debug)]
pub struct PathPartner(String);

impl<S: Send + Sync> FromRequestParts<S> for PathPartner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        PathName::from_request_parts(parts, state).await.map(|PathName(name)| Self(name))
    }
}

impl PathPartner {
    async fn find(&self, conn: &mut Connection) -> Result<Partner, ApiError> {
        directory::find_by_code_or_id(conn, &self.0).await?.ok_or(ApiError::NotFound("partner"))
    }
}
