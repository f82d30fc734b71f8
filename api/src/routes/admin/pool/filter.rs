//! What admins narrow the pool by: as partners do, and by what only admins decide.

use ::pool::InfluencerTier;
use ::pool::search::PoolFilter;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use crate::extract::fields::{Fields, FromFields, Problem, text};
use crate::routes::partners::search::search_filter;

/// All that [`PoolWords`] reads.
const FIELDS: [&str; 10] = [
    "q",
    "platform",
    "category",
    "tier",
    "syncStatus",
    "minFollowers",
    "maxFollowers",
    "minEngagement",
    "maxEngagement",
    "minScore",
];

/// Which creators.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct PoolFilterParams {
    /// Part of the username or the name, as partners search: without regard to case, accents and slips.
    #[param(min_length = 1, max_length = 100, required = false, nullable = false, example = "nguyen linh")]
    q: Option<String>,
    /// `tiktok`, `youtube`, `instagram` or `facebook`.
    #[param(required = false, nullable = false, example = "tiktok")]
    platform: Option<String>,
    /// `beauty`, `tech`, `lifestyle`, `food`, `travel` or `gaming`.
    #[param(required = false, nullable = false, example = "beauty")]
    category: Option<String>,
    /// `standard`, `premium` or `vip`.
    #[param(required = false, nullable = false, example = "premium")]
    tier: Option<String>,
    /// `ACTIVE`, `PAUSED`, `FAILED` or `ARCHIVED`.
    #[param(required = false, nullable = false, example = "ACTIVE")]
    sync_status: Option<String>,
    /// At least so many followers.
    #[param(minimum = 0, required = false, nullable = false, example = 10000)]
    min_followers: Option<u32>,
    /// At most so many followers.
    #[param(minimum = 0, required = false, nullable = false, example = 1000000)]
    max_followers: Option<u32>,
    /// Engagement of at least so many percent.
    #[param(minimum = 0, required = false, nullable = false, example = 3.0)]
    min_engagement: Option<f64>,
    /// Engagement of at most so many percent.
    #[param(minimum = 0, required = false, nullable = false)]
    max_engagement: Option<f64>,
    /// A score of at least so much.
    #[param(minimum = 0, maximum = 100, required = false, nullable = false, example = 60)]
    min_score: Option<u32>,
}

/// By whom creators may be seen.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // The schema of what is read by hand.
pub struct VisibilityQuery {
    /// `PUBLIC` or `PRIVATE`.
    #[param(required = false, nullable = false, example = "PRIVATE")]
    visibility: Option<String>,
}

/// A filter without visibility, and how it was given.
#[derive(Debug)]
pub(super) struct PoolWords {
    pub(super) filter: PoolFilter,
    pub(super) given: Map<String, Value>,
}

impl FromFields for PoolWords {
    fn read(fields: &mut Fields) -> Option<Self> {
        let given = fields.given_of(&FIELDS);
        let filter = PoolFilter {
            search: search_filter(fields),
            visibility: None,
            tier: fields.optional("tier", tier),
            sync_status: fields
                .optional("syncStatus", |value| text(value)?.parse().map_err(Problem::invalid)),
        };
        Some(Self { filter, given })
    }
}

fn tier(value: &Value) -> Result<InfluencerTier, Problem> {
    text(value)?.parse().map_err(Problem::invalid)
}

/// The filter of the list.
#[derive(Debug)]
pub struct PoolQuery {
    pub(super) filter: PoolFilter,
}

impl FromFields for PoolQuery {
    fn read(fields: &mut Fields) -> Option<Self> {
        let visibility = fields.optional("visibility", super::visibility);
        let PoolWords { filter, .. } = PoolWords::read(fields)?;
        Some(Self { filter: PoolFilter { visibility, ..filter } })
    }
}
