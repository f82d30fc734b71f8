//! A typed id as the one parameter of a path. A wrong prefix is a 400 that says which one was expected.

use std::fmt::Display;
use std::str::FromStr;

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::error::ApiError;

/// Longer names are nobody's.
const NAME_CHARS_MAX: usize = 200;

/// The name in the path.
pub struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let refused = || ApiError::invalid("name", "INVALID", "must have 1 to 200 printable characters");
        let Path(text) = parts.extract::<Path<String>>().await.map_err(|_| refused())?;
        let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control);
        if fits { Ok(Self(text)) } else { Err(refused()) }
    }
}

/// The id in the path.
pub struct PathId<T>(pub T);

impl<S, T> FromRequestParts<S> for PathId<T>
where
    S: Send + Sync,
    T: FromStr<Err: Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let refused = |message: String| ApiError::invalid("id", "INVALID", message);
        let Path(text) =
            parts.extract::<Path<String>>().await.map_err(|rejection| refused(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| refused(error.to_string()))
    }
}
