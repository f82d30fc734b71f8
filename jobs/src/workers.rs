//! What operators ask of worker processes.

mod actions;

pub use actions::{WorkerActionError, ask};
