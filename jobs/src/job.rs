//! One job as people act on it.

mod actions;

pub use actions::{CancelledJob, JobActionError, cancel, retry};
