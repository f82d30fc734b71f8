//! Upkeep of our own tables.

mod prune_jobs;

pub use prune_jobs::PruneJobs;
