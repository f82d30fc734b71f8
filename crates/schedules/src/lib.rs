//! Schedules: when something is to happen, as data.
//!
//! Pure rules: [`Line`] reads a cron line, [`next_after`] says when it fires in a zone, [`Missed`] what becomes of ticks
//! that came too late, [`in_words`] what a line means. And the two tables: definitions with what was edited, and what
//! became of each tick. Everything here is cheap whatever the input: lines and definitions come from people.
//!
//! Each tick is decided once because the schedule's row is locked, its watermark moved and the tick recorded in one
//! transaction, which the caller also stores the job in. docs/SCHEDULER.md has the rules in full.

mod declared;
mod definition;
mod due;
mod error;
mod instants;
mod line;
mod missed;
mod record;
mod store;
mod words;

pub use declared::{EXPIRES, declare, expire, refresh};
pub use definition::{
    ARGS_BYTES_MAX, Change, Definition, Fault, JITTER_MAX, NAME_CHARS_MAX, Timing, check_name,
};
pub use due::{Due, LOOK_BACK_MAX, Span, due_between};
pub use error::ScheduleError;
pub use instants::next_after;
pub use line::{LINE_CHARS_MAX, Line, LineError, YEARS_MAX};
pub use missed::{BACKFILL_MAX, Decided, GRACE, Missed, ROWS_MAX, UnknownMissed};
pub use record::{KEPT_DAYS, TICKS_KEPT_MAX, TickOutcome, TickRow, prune, record, record_manual, ticks};
pub use store::{
    DueSchedules, SCHEDULES_MAX, Schedule, database_now, due, get, insert, list, lock, lock_due, note_error,
    remove, update,
};
pub use words::in_words;
