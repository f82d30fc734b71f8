//! Schedules at work: their ticks become jobs, and people change them.

mod actions;
mod error;
mod ticks;

pub use actions::{
    Preview, RunNow, Shown, change, declare, list, pause, preview, remove, reset, resume, run_now, show,
};
pub use error::ActionError;
pub use ticks::{Ticked, tick};
