//! What operators ask of many jobs at once.

mod actions;
mod bulk;

pub use actions::{
    BulkActionError, BulkGroups, BulkPreview, BulkRequest, BulkStarted, RATE_MAX, preview_bulk, start_bulk,
};
pub use bulk::Bulk;
