//! What operators do to limits, one function each whatever the door. They want a connection with an open transaction, to
//! be rolled back on an error. All workers see a change with their next call.

use audit::AuditError;
use db::Connection;
use kernel::ids::TenantId;
use queue::limits::{Limit, Period, Shape, lock_limit, reset_limit, set_limit};
use serde_json::{Value, json};

use crate::{Deed, Door};

/// Longest name of a limit.
const NAME_CHARS_MAX: usize = 64;
/// Longest window of a rate.
pub const WINDOW_MS_MAX: i64 = 31 * 24 * 60 * 60 * 1_000;
/// Most permits, or minor units of money: what programs that read JSON can hold exactly.
pub const MAX_MAX: i64 = 1 << 53;

/// What went wrong; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitActionError {
    /// There is none of this name.
    #[error("no limit is called {0:?}")]
    NotFound(String),
    /// It cannot be what was asked for.
    #[error("{field}: {message}")]
    Invalid {
        /// What is wrong.
        field: &'static str,
        /// What is allowed.
        message: String,
    },
    /// Nobody changed it.
    #[error("the limit {0:?} is what the program says already")]
    NotEdited(String),
    /// The limit was not read or changed.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The entry of the audit log was not stored.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Changes a limit, or makes one. What code and settings say of it holds no longer, until it is [reset](reset).
///
/// # Errors
/// [`LimitActionError::Invalid`].
pub async fn set(conn: &mut Connection, door: &Door<'_>, limit: &Limit) -> Result<(), LimitActionError> {
    check(limit)?;
    let before = lock_limit(conn, &limit.name).await?;
    set_limit(conn, limit).await?;
    let deed = Deed {
        before: before.map(|before| state(&before.limit.shape, before.edited)),
        after: Some(state(&limit.shape, true)),
    };
    Ok(door.record(conn, "limits.set", &limit.name, TenantId::SYSTEM, deed).await?)
}

/// Makes a limit what code and settings say again; one that they say nothing of is gone. Answers what it is then.
///
/// # Errors
/// [`LimitActionError::NotFound`], [`LimitActionError::NotEdited`].
pub async fn reset(
    conn: &mut Connection,
    door: &Door<'_>,
    name: &str,
) -> Result<Option<Limit>, LimitActionError> {
    let before = lock_limit(conn, name).await?.ok_or_else(|| LimitActionError::NotFound(name.to_owned()))?;
    if !before.edited {
        return Err(LimitActionError::NotEdited(name.to_owned()));
    }
    let after = reset_limit(conn, name).await?;
    let deed = Deed {
        before: Some(state(&before.limit.shape, true)),
        after: after.as_ref().map(|after| state(&after.shape, false)),
    };
    door.record(conn, "limits.reset", name, TenantId::SYSTEM, deed).await?;
    Ok(after)
}

/// A limit's shape as people and programs read it.
#[must_use]
pub fn shape_as_json(shape: &Shape) -> Value {
    match *shape {
        Shape::Rate { max, window } => {
            json!({"shape": "rate", "max": max, "windowMs": window.as_millis() as u64})
        }
        Shape::Concurrency { max } => json!({"shape": "concurrency", "max": max}),
        Shape::Budget { max_minor, period } => {
            let period = match period {
                Period::Day => "day",
                Period::Month => "month",
            };
            json!({"shape": "budget", "maxMinor": max_minor, "period": period})
        }
    }
}

fn state(shape: &Shape, edited: bool) -> Value {
    let mut state = shape_as_json(shape);
    state["isEdited"] = edited.into();
    state
}

fn check(limit: &Limit) -> Result<(), LimitActionError> {
    let invalid = |field, message: String| Err(LimitActionError::Invalid { field, message });
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if limit.name.is_empty() || limit.name.len() > NAME_CHARS_MAX || !limit.name.bytes().all(is_name) {
        return invalid("name", format!("1 to {NAME_CHARS_MAX} of a-z, 0-9, '.', '_' and '-'"));
    }
    let max = match limit.shape {
        Shape::Rate { max, .. } | Shape::Concurrency { max } => max,
        Shape::Budget { max_minor, .. } => max_minor,
    };
    if !(0..=MAX_MAX).contains(&max) {
        return invalid("max", format!("a whole number from 0 to {MAX_MAX}"));
    }
    match limit.shape {
        Shape::Rate { window, .. } if !(1..=WINDOW_MS_MAX as u128).contains(&window.as_millis()) => {
            invalid("windowMs", "1 millisecond to 31 days".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_that_cannot_be_is_refused_by_the_field_that_is_wrong() {
        let window = Duration::from_secs(60);
        let fault = |name: &'static str, shape| match check(&Limit::new(name, shape)) {
            Err(LimitActionError::Invalid { field, .. }) => Some(field),
            _ => None,
        };
        assert_eq!(fault("meter.calls", Shape::Rate { max: 0, window }), None);
        assert_eq!(fault("Meter calls", Shape::Rate { max: 1, window }), Some("name"));
        assert_eq!(fault("a", Shape::Concurrency { max: -1 }), Some("max"));
        assert_eq!(fault("a", Shape::Rate { max: 1, window: Duration::ZERO }), Some("windowMs"));
        assert_eq!(fault("a", Shape::Rate { max: 1, window: 32 * 1_440 * window }), Some("windowMs"));
        assert_eq!(fault("a", Shape::Budget { max_minor: i64::MAX, period: Period::Day }), Some("max"));
    }
}
