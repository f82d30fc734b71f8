//! Upkeep of our own tables.

mod prune_jobs;
mod roll_up_history;

pub use prune_jobs::PruneJobs;
pub use roll_up_history::RollUpHistory;
