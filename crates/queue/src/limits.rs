//! Limits on what jobs use of others: calls in a window, calls at once, money in a period.
//!
//! What holds: they are kept in the database, so they hold for all workers together. A permit is drawn immediately
//! before each call; a window is the vendor's own, counted from the Unix epoch. A claim only looks whether there is
//! room, so that jobs that would have to wait stay where they are; of a budget it reserves what the job is expected to
//! cost, which is settled to what it did cost when the attempt is over.
//!
//! On failure: what a process drew or reserved and never told the end of counts as used: a rate's permit and a
//! reservation for their window, a slot until the process is declared dead.

mod definitions;
mod draw;
mod editing;
mod permits;
mod reservations;

use std::{borrow::Cow, time::Duration};

pub use definitions::{Level, define, levels, limits, register_kinds, set_limit};
pub use draw::{Draw, draw, key_of, tighten, unblock};
pub use editing::{Defined, lock_limit, reset_limit};
pub use permits::{Permit, Permits};
pub use reservations::{Spending, clean_holds, clean_reservations, settle_spending};

/// A named limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The name that kinds draw on it by, `<vendor>.<what>`.
    pub name: Cow<'static, str>,
    /// What it bounds.
    pub shape: Shape,
}

/// What a limit bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Permits in each fixed window. Windows are counted from the Unix epoch.
    Rate {
        /// Permits in one window.
        max: i64,
        /// Its length; whole milliseconds.
        window: Duration,
    },
    /// Permits held at once.
    Concurrency {
        /// That many.
        max: i64,
    },
    /// Money in a period.
    Budget {
        /// In minor units of its currency.
        max_minor: i64,
        /// The period.
        period: Period,
    },
}

/// A calendar period in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// From midnight.
    Day,
    /// From the first of the month.
    Month,
}

impl Limit {
    /// A limit.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, shape: Shape) -> Self {
        Self { name: name.into(), shape }
    }
}

/// A shape as its columns.
struct Columns {
    shape: &'static str,
    max: i64,
    window_ms: Option<i64>,
    period: Option<&'static str>,
}

impl Shape {
    fn columns(self) -> Columns {
        let none = Columns { shape: "", max: 0, window_ms: None, period: None };
        match self {
            Self::Rate { max, window } => {
                let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
                Columns { shape: "rate", max, window_ms: Some(window_ms), ..none }
            }
            Self::Concurrency { max } => Columns { shape: "concurrency", max, ..none },
            Self::Budget { max_minor, period } => {
                let period = match period {
                    Period::Day => "day",
                    Period::Month => "month",
                };
                Columns { shape: "budget", max: max_minor, period: Some(period), ..none }
            }
        }
    }

    /// The shape that these columns hold; their checks allow no other.
    fn of(shape: &str, max: i64, window_ms: Option<i64>, period: Option<&str>) -> Self {
        match (shape, window_ms) {
            ("rate", Some(window_ms)) => {
                Self::Rate { max, window: Duration::from_millis(window_ms.unsigned_abs()) }
            }
            ("budget", _) => {
                let period = if period == Some("month") { Period::Month } else { Period::Day };
                Self::Budget { max_minor: max, period }
            }
            _ => Self::Concurrency { max },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_survives_being_stored() {
        let shapes = [
            Shape::Rate { max: 300, window: Duration::from_secs(900) },
            Shape::Concurrency { max: 20 },
            Shape::Budget { max_minor: 100_000, period: Period::Day },
            Shape::Budget { max_minor: 100_000, period: Period::Month },
        ];
        for shape in shapes {
            let Columns { shape: word, max, window_ms, period } = shape.columns();
            assert_eq!(Shape::of(word, max, window_ms, period), shape);
        }
    }
}
