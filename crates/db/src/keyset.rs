//! Opaque cursors for keyset paging.
//!
//! A cursor is base64url of one version byte and the fields of the last row as JSON. Callers must not read or make
//! them: the version byte lets a listing change its sort key and refuse old cursors instead of misreading them. A
//! cursor is not a secret and grants nothing: each query still filters by its tenant. Decoding is total: any text at
//! all gives the fields or a [`CursorError`], with work bounded by [`CURSOR_BYTES_MAX`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest cursor that is looked at, in bytes of text.
pub const CURSOR_BYTES_MAX: usize = 1024;

/// Why a cursor was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Longer than any cursor made here.
    #[error("the cursor is longer than {CURSOR_BYTES_MAX} bytes")]
    TooLong,
    /// Not base64url, or without content.
    #[error("the cursor is not one that this server made")]
    Malformed,
    /// Made for another order of this listing, by an older or newer version.
    #[error("the cursor was made by another version of this listing; start again from the first page")]
    Version,
    /// The fields inside are not those of this listing.
    #[error("the cursor belongs to another listing")]
    Fields,
}

/// Makes the cursor that stands behind a row with these fields.
///
/// # Errors
/// [`CursorError::Fields`] when the fields have no JSON form, [`CursorError::TooLong`] when they are too large to come
/// back: both are faults of the listing's author, not of a client.
pub fn encode<T: Serialize>(version: u8, fields: &T) -> Result<String, CursorError> {
    let mut bytes = vec![version];
    serde_json::to_writer(&mut bytes, fields).map_err(|_| CursorError::Fields)?;
    let cursor = URL_SAFE_NO_PAD.encode(bytes);
    if cursor.len() > CURSOR_BYTES_MAX { Err(CursorError::TooLong) } else { Ok(cursor) }
}

/// Reads the fields back out of a cursor that a client sent.
///
/// # Errors
/// One of [`CursorError`]; each is the client's fault and safe to show.
pub fn decode<T: DeserializeOwned>(version: u8, cursor: &str) -> Result<T, CursorError> {
    if cursor.len() > CURSOR_BYTES_MAX {
        return Err(CursorError::TooLong);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError::Malformed)?;
    match bytes.split_first() {
        None => Err(CursorError::Malformed),
        Some((found, _)) if *found != version => Err(CursorError::Version),
        Some((_, fields)) => serde_json::from_slice(fields).map_err(|_| CursorError::Fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    type Fields = (i64, Uuid);

    #[test]
    fn a_cursor_gives_back_its_fields() {
        let fields: Fields = (1_731_000_000_000_001, Uuid::from_u128(7));
        let cursor = encode(1, &fields).unwrap();
        assert_eq!(decode::<Fields>(1, &cursor), Ok(fields));
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    }

    #[test]
    fn a_cursor_of_another_version_is_refused() {
        let cursor = encode(1, &(1_i64, Uuid::nil())).unwrap();
        assert_eq!(decode::<Fields>(2, &cursor), Err(CursorError::Version));
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused() {
        let cursor = encode(1, &"name").unwrap();
        assert_eq!(decode::<Fields>(1, &cursor), Err(CursorError::Fields));
    }

    #[test]
    fn hostile_cursors_are_errors_not_panics() {
        for hostile in ["", "!", "AA==", "\u{0}", "AQ", "ＡＱ", "../../etc/passwd", "AVsxLDJd\n"] {
            assert!(decode::<Fields>(1, hostile).is_err(), "{hostile:?}");
        }
        assert_eq!(decode::<Fields>(1, &"A".repeat(1 << 20)), Err(CursorError::TooLong));
        // Deep nesting must not exhaust the stack.
        let nested = URL_SAFE_NO_PAD.encode([b"\x01".as_slice(), "[".repeat(700).as_bytes()].concat());
        assert_eq!(decode::<serde_json::Value>(1, &nested), Err(CursorError::Fields));
    }
}
