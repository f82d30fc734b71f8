//! The shared pool of creators: one entry per creator, refreshed by crawls, and the record of crawls that makes
//! results reusable. SQL and rules.
//!
//! Guarantees: a creator's entry follows the vendor's profile id through renames; a platform and username exist
//! once; a crawl never changes what an administrator decided (category, visibility, a tier set by hand, paused or
//! archived sync) nor who added the entry; contact details are stored sealed and never leave through
//! [`ProfileResult`]; simultaneous crawls of one creator, under whatever names it was asked for, wait for each
//! other instead of failing.
//!
//! Failure behaviour: everything happens in the caller's transaction, at `read committed`, PostgreSQL's default.
//! On any [`PoolError`] the caller rolls back and may repeat: repeating a save is harmless.

mod crawl;
mod entry;
mod fresh;
mod listed;
mod profile;
pub mod search;
mod tier;
mod visibility;

pub use crawl::{Crawl, save_crawl};
pub use entry::{Contact, PoolEntry, servable};
pub use fresh::{fresh, missed, prune_crawls, prune_misses, save_miss};
pub use listed::{ListedEntry, listed};
pub use profile::{PoolProfile, ProfileMetrics, ProfileResult, get};
pub use tier::{InfluencerTier, UnknownInfluencerTier};
pub use visibility::{
    Seen, SyncStatus, UnknownSyncStatus, UnknownVisibility, Visibility, lock_seen, seen, set_visibility,
};

/// Why the pool could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The vendor's profile id is that of an entry on another platform: one of the two is wrong.
    #[error("the vendor's profile id belongs to an entry on another platform")]
    OtherPlatform,
    /// Contact details could not be opened.
    #[error("a creator's contact details could not be opened")]
    Sealed(#[source] kernel::sealing::SealError),
    /// The database refused or could not be reached.
    #[error("pool: the database failed")]
    Database(#[from] sqlx::Error),
}
