//! Queues as operators steer them.

mod actions;

pub use actions::{QueueActionError, pause, resume, set_concurrency};
