//! Subscriptions: tiers, statuses, and what each tier allows. Pure.
//!
//! The matrix is appendix B of the Influence Library's requirements.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What a partner has bought. It governs API quota, never commission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum SubscriptionTier {
    /// 10 influencers a month.
    Free,
    /// 50 influencers a month.
    Basic,
    /// 200 influencers a month.
    Premium,
    /// As many as wanted.
    Enterprise,
}

/// Where a subscription stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum SubscriptionStatus {
    /// Paid up.
    Active,
    /// Its end and the grace period have passed.
    Expired,
    /// Stopped by an admin.
    Suspended,
    /// Its end has passed, and it works on for a while.
    GracePeriod,
}

/// How long a subscription works on after its end.
pub const GRACE: TimeDelta = TimeDelta::days(7);
/// How long before its end the partner is told.
pub const EXPIRING: TimeDelta = TimeDelta::days(7);

/// A partner's subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// What was bought.
    pub tier: SubscriptionTier,
    /// Where it stands; [`Subscription::at`] brings it up to date.
    pub status: SubscriptionStatus,
    /// When it began.
    #[serde(rename = "startDate")]
    pub starts_at: DateTime<Utc>,
    /// When it ends; none: never.
    #[serde(rename = "endDate")]
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether it then goes on for another period of the same length.
    pub auto_renew: bool,
}

impl Subscription {
    /// As it stands at an instant: what an admin decided holds, and the rest follows the calendar, so that no job has
    /// to be on time. One that renews itself never lapses.
    #[must_use]
    pub fn at(self, instant: DateTime<Utc>) -> Self {
        let ended = self.ends_at.filter(|end| *end <= instant && !self.auto_renew);
        let status = match (self.status, ended) {
            (decided @ (SubscriptionStatus::Suspended | SubscriptionStatus::Expired), _) => decided,
            (_, None) => SubscriptionStatus::Active,
            (_, Some(end)) if instant < end + GRACE => SubscriptionStatus::GracePeriod,
            (_, Some(_)) => SubscriptionStatus::Expired,
        };
        Self { status, ..self }
    }

    /// Days left, a begun one counted; 0 after the end, none without an end.
    pub fn days_left(&self, instant: DateTime<Utc>) -> Option<u32> {
        let left = (self.ends_at? - instant).max(TimeDelta::zero());
        let days =
            left.num_milliseconds().div_euclid(MS_A_DAY) + i64::from(left.num_milliseconds() % MS_A_DAY > 0);
        Some(u32::try_from(days).unwrap_or(u32::MAX))
    }

    /// Whether it ends within the time in which the partner is told.
    pub fn is_expiring(&self, instant: DateTime<Utc>) -> bool {
        let is_near = |end: DateTime<Utc>| end > instant && end - instant <= EXPIRING;
        self.at(instant).status == SubscriptionStatus::Active && self.ends_at.is_some_and(is_near)
    }
}

const MS_A_DAY: i64 = 24 * 60 * 60 * 1_000;

/// What a tier allows, under the names partners see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Search the pool.
    pub pool_search: bool,
    /// Request influencers from it.
    pub pool_request: bool,
    /// Enrich profiles.
    pub profile_enrich: bool,
    /// Refresh profiles in batches.
    pub batch_refresh: bool,
    /// Register webhook endpoints. The callback of one job needs no feature.
    pub webhooks: bool,
    /// Support by people, first in line.
    pub priority_support: bool,
    /// Integration work by people.
    pub custom_integration: bool,
}

/// Something that a tier allows or does not, as far as the API is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Search the pool.
    PoolSearch,
    /// Request influencers from it.
    PoolRequest,
    /// Enrich profiles.
    ProfileEnrich,
    /// Refresh profiles in batches.
    BatchRefresh,
    /// Register webhook endpoints.
    Webhooks,
}

impl Feature {
    /// The name partners see it under.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoolSearch => "poolSearch",
            Self::PoolRequest => "poolRequest",
            Self::ProfileEnrich => "profileEnrich",
            Self::BatchRefresh => "batchRefresh",
            Self::Webhooks => "webhooks",
        }
    }

    /// Whether a tier allows it.
    pub const fn is_in(self, tier: SubscriptionTier) -> bool {
        let features = tier.features();
        match self {
            Self::PoolSearch => features.pool_search,
            Self::PoolRequest => features.pool_request,
            Self::ProfileEnrich => features.profile_enrich,
            Self::BatchRefresh => features.batch_refresh,
            Self::Webhooks => features.webhooks,
        }
    }

    /// The tiers that allow it, least first.
    pub fn tiers(self) -> impl Iterator<Item = SubscriptionTier> {
        SubscriptionTier::ALL.into_iter().filter(move |tier| self.is_in(*tier))
    }
}

impl SubscriptionTier {
    /// All tiers, least first.
    pub const ALL: [Self; 4] = [Self::Free, Self::Basic, Self::Premium, Self::Enterprise];

    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Basic => "basic",
            Self::Premium => "premium",
            Self::Enterprise => "enterprise",
        }
    }

    /// What the tier allows.
    pub const fn features(self) -> Features {
        let at_least_basic = !matches!(self, Self::Free);
        let at_least_premium = matches!(self, Self::Premium | Self::Enterprise);
        Features {
            pool_search: true,
            pool_request: true,
            profile_enrich: true,
            batch_refresh: at_least_basic,
            webhooks: at_least_basic,
            priority_support: at_least_premium,
            custom_integration: matches!(self, Self::Enterprise),
        }
    }

    /// Influencers a month; none: no limit.
    pub const fn monthly_quota(self) -> Option<u32> {
        match self {
            Self::Free => Some(10),
            Self::Basic => Some(50),
            Self::Premium => Some(200),
            Self::Enterprise => None,
        }
    }
}

/// The greatest weight a partner may be given.
pub const SHARE_WEIGHT_MAX: i16 = 1_000;

/// A partner's weight when workers share their time among partners: its own if it was given one, else its tier's.
pub const fn share_weight(tier: SubscriptionTier, own: Option<i16>) -> i16 {
    match (own, tier) {
        (Some(own), _) => own,
        (None, SubscriptionTier::Free) => 1,
        (None, SubscriptionTier::Basic) => 2,
        (None, SubscriptionTier::Premium) => 4,
        (None, SubscriptionTier::Enterprise) => 8,
    }
}

impl fmt::Display for SubscriptionTier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

/// No such tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such subscription tier; there are free, basic, premium and enterprise")]
pub struct UnknownTier;

impl FromStr for SubscriptionTier {
    type Err = UnknownTier;

    /// Reads a name in either letter case: documents and samples disagree about it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|tier| tier.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownTier)
    }
}

impl SubscriptionStatus {
    /// The name on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::GracePeriod => "grace_period",
        }
    }
}

impl fmt::Display for SubscriptionStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S0-351..=S0-357, S0-079
    #[test]
    fn features_are_those_of_the_published_matrix() {
        let flags = |tier: SubscriptionTier| {
            let f = tier.features();
            [
                f.pool_search,
                f.pool_request,
                f.profile_enrich,
                f.batch_refresh,
                f.webhooks,
                f.priority_support,
                f.custom_integration,
            ]
            .map(u8::from)
        };
        assert_eq!(flags(SubscriptionTier::Free), [1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(flags(SubscriptionTier::Basic), [1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(flags(SubscriptionTier::Premium), [1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(flags(SubscriptionTier::Enterprise), [1, 1, 1, 1, 1, 1, 1]);
    }

    fn subscription(ends_at: Option<&str>, auto_renew: bool, status: SubscriptionStatus) -> Subscription {
        let starts_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let ends_at = ends_at.map(|text| text.parse().unwrap());
        Subscription { tier: SubscriptionTier::Premium, status, starts_at, ends_at, auto_renew }
    }

    #[test]
    fn a_subscription_has_seven_days_of_grace_and_then_expires() {
        let ends = "2026-06-30T17:00:00Z";
        let stands = |instant: &str, auto_renew, status| {
            subscription(Some(ends), auto_renew, status).at(instant.parse().unwrap()).status
        };
        use SubscriptionStatus::{Active, Expired, GracePeriod, Suspended};
        for (instant, expected) in [
            ("2026-06-30T16:59:59Z", Active),
            (ends, GracePeriod),
            ("2026-07-07T16:59:59Z", GracePeriod),
            ("2026-07-07T17:00:00Z", Expired),
        ] {
            assert_eq!(stands(instant, false, Active), expected, "{instant}");
            assert_eq!(stands(instant, true, Active), Active, "{instant}, renewed");
            assert_eq!(stands(instant, false, Suspended), Suspended, "{instant}, suspended");
        }
        // One that an admin extended while in grace is active again.
        assert_eq!(stands("2026-06-30T16:00:00Z", false, GracePeriod), Active);
    }

    #[test]
    fn days_left_are_rounded_up_and_told_seven_days_ahead() {
        let of = |ends: Option<&str>, instant: &str| {
            let (one, instant) =
                (subscription(ends, false, SubscriptionStatus::Active), instant.parse().unwrap());
            (one.days_left(instant), one.is_expiring(instant))
        };
        // The sample of the requirements.
        assert_eq!(of(Some("2026-12-31T23:59:59Z"), "2026-01-31T00:00:00Z"), (Some(335), false));
        assert_eq!(of(Some("2026-12-31T00:00:00Z"), "2026-12-24T00:00:00Z"), (Some(7), true));
        assert_eq!(of(Some("2026-12-31T00:00:00Z"), "2026-12-23T23:59:59Z"), (Some(8), false));
        assert_eq!(of(Some("2026-12-31T00:00:00Z"), "2026-12-30T23:59:59.999Z"), (Some(1), true));
        assert_eq!(of(Some("2026-12-31T00:00:00Z"), "2026-12-31T00:00:00Z"), (Some(0), false));
        assert_eq!(of(None, "2026-12-31T00:00:00Z"), (None, false));
    }

    // S0-065..=S0-069
    #[test]
    fn quotas_and_weights_grow_with_the_tier() {
        let quotas = SubscriptionTier::ALL.map(SubscriptionTier::monthly_quota);
        assert_eq!(quotas, [Some(10), Some(50), Some(200), None]);
        assert_eq!(SubscriptionTier::ALL.map(|tier| share_weight(tier, None)), [1, 2, 4, 8]);
        assert_eq!(SubscriptionTier::ALL.map(|tier| share_weight(tier, Some(3))), [3; 4]);
    }

    #[test]
    fn a_tier_is_read_in_either_letter_case_and_written_in_lower() {
        for tier in SubscriptionTier::ALL {
            assert_eq!(tier.as_str().parse(), Ok(tier));
            assert_eq!(tier.as_str().to_uppercase().parse(), Ok(tier));
            assert_eq!(serde_json::to_value(tier).unwrap(), tier.as_str());
        }
        assert_eq!("gold".parse::<SubscriptionTier>(), Err(UnknownTier));
        assert_eq!(serde_json::to_value(SubscriptionStatus::GracePeriod).unwrap(), "grace_period");
    }
}
