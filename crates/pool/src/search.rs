//! Finding creators in the pool: filters, orders, pages.
//!
//! What is filtered and sorted by is kept in memory, column by column, in step with the database
//! ([`SearchIndex::in_step`]); what is shown of the page that was found is read from the database. So a search costs two
//! small statements whatever its filters are, and a creator who is not public any more is not shown even in the
//! instant between the two.
//!
//! All creators that were not removed are in it, also private ones. A [`SearchFilter`] cannot ask for those: it is made
//! a [`PoolFilter`] in one place, and that one asks for public ones.

mod columns;
mod index;
mod name;
mod named;
mod page;
mod preview;

pub use index::SearchIndex;
pub use name::{NameQuery, NoLetters};
pub use page::{Found, From, Place};
pub use preview::{Preview, previews};

use std::fmt;
use std::str::FromStr;

use kernel::Platform;

use crate::{InfluencerTier, SyncStatus, Visibility};

/// Totals up to this are exact; beyond, they may be an estimate.
pub const TOTAL_EXACT_MAX: usize = 10_000;

/// What a creator is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Beauty.
    Beauty,
    /// Technology.
    Tech,
    /// Lifestyle.
    Lifestyle,
    /// Food.
    Food,
    /// Travel.
    Travel,
    /// Games.
    Gaming,
}

/// No such category.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: beauty, tech, lifestyle, food, travel, gaming")]
pub struct UnknownCategory;

impl Category {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Beauty, Self::Tech, Self::Lifestyle, Self::Food, Self::Travel, Self::Gaming];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Beauty => "beauty",
            Self::Tech => "tech",
            Self::Lifestyle => "lifestyle",
            Self::Food => "food",
            Self::Travel => "travel",
            Self::Gaming => "gaming",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    /// Reads a name in either letter case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownCategory)
    }
}

/// Whom a partner's search is for: of those who are public, for whom all that is given holds. All bounds are included.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchFilter {
    /// So named.
    pub name: Option<NameQuery>,
    /// Of this category.
    pub category: Option<Category>,
    /// On this platform.
    pub platform: Option<Platform>,
    /// With at least so many followers.
    pub followers_min: Option<u64>,
    /// With at most so many followers.
    pub followers_max: Option<u64>,
    /// Engaging at least so many percent.
    pub engagement_min: Option<f64>,
    /// Engaging at most so many percent.
    pub engagement_max: Option<f64>,
    /// Scored at least so high.
    pub score_min: Option<u8>,
}

/// Whom an admin's search is for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolFilter {
    /// As partners search.
    pub search: SearchFilter,
    /// So visible.
    pub visibility: Option<Visibility>,
    /// Of this tier.
    pub tier: Option<InfluencerTier>,
    /// So kept in step with the vendor.
    pub sync_status: Option<SyncStatus>,
}

impl PoolFilter {
    /// Whom partners find.
    fn public(search: SearchFilter) -> Self {
        Self { search, visibility: Some(Visibility::Public), ..Self::default() }
    }
}

/// By what a page is sorted. Whoever is equal in that goes by score, then followers, then id, so that the order is
/// always the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortKey {
    /// The vendor's score.
    #[default]
    Score,
    /// Followers.
    Followers,
    /// Engagement.
    Engagement,
    /// When the creator came into the pool.
    Created,
    /// How well the name is met that is asked for; score without one.
    Name,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchSort {
    /// By what.
    pub key: SortKey,
    /// The largest first; else the exact reverse of that order.
    pub descending: bool,
}

impl Default for SearchSort {
    fn default() -> Self {
        Self { key: SortKey::Score, descending: true }
    }
}

impl SearchFilter {
    /// The order unless asked otherwise: the best first.
    pub fn order(&self) -> SearchSort {
        let key = if self.name.is_some() { SortKey::Name } else { SortKey::Score };
        SearchSort { key, descending: true }
    }
}
