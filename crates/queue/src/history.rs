//! What became of jobs, for charts: minutes for two days, hours for ninety, by queue, kind and tenant.
//!
//! Guarantees: a minute is rolled up once, when everything that ended in it can be seen; rolling up moves the watermark
//! in the same transaction, so a run that is killed loses nothing and repeats nothing, and a missed one is caught up
//! with. Hours are the exact sums of their minutes. Each bucket names the [`TENANTS_MAX`] largest tenants of a kind,
//! the others are one row, [`OTHERS`].
//!
//! When is a minute complete? A job ends at its transaction's `now()`, which is seen when that commits. So minutes wait
//! until they are [`LATENESS`] old and no transaction is open that began before their end; for such a one they wait
//! [`WAITED_FOR`] at the most, and what it then still commits into them is in no chart. A failed job that is given another
//! life stays counted as it ended the first time.

mod durations;
mod read;
mod roll_up;

use std::time::Duration;

use kernel::ids::TenantId;
use uuid::Uuid;

pub use durations::{Durations, Histogram};
pub use read::{DepthPoint, History, HistoryFilter, Point, history};
pub use roll_up::{RolledUp, drop_old, roll_up, sample_depths, summarize_new_pages};

/// Tenants of one bucket and kind that have a row of their own.
pub const TENANTS_MAX: i32 = 20;
/// Stands for all tenants of a bucket and kind beyond those.
pub const OTHERS: TenantId = TenantId::from_uuid(Uuid::max());
/// A minute is not looked at before it has been over for so long.
pub const LATENESS: Duration = Duration::from_secs(10);
/// Open transactions hold minutes up for so long.
pub const WAITED_FOR: Duration = Duration::from_secs(5 * 60);
/// How long minutes are kept.
pub const MINUTES_KEPT: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// How long hours are kept.
pub const HOURS_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The length of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Kept for [`MINUTES_KEPT`].
    Minute,
    /// Kept for [`HOURS_KEPT`].
    Hour,
}

impl Step {
    /// Its length.
    #[must_use]
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        })
    }

    /// How long buckets of this length are kept.
    #[must_use]
    pub const fn kept(self) -> Duration {
        match self {
            Self::Minute => MINUTES_KEPT,
            Self::Hour => HOURS_KEPT,
        }
    }

    const fn seconds(self) -> i16 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}
