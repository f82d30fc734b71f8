//! The tier of a creator by its followers (S0 6.4): a pure rule.

/// From here on PREMIUM.
const PREMIUM_FOLLOWERS_MIN: i64 = 100_000;
/// Beyond this, VIP.
const PREMIUM_FOLLOWERS_MAX: i64 = 1_000_000;

/// How large a creator's audience is. Not the partner's subscription tier, nor its commission tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InfluencerTier {
    /// Under 100,000 followers.
    Standard,
    /// 100,000 to 1,000,000 followers, both included.
    Premium,
    /// Over 1,000,000 followers.
    Vip,
}

/// No such tier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of: standard, premium, vip")]
pub struct UnknownInfluencerTier;

impl std::str::FromStr for InfluencerTier {
    type Err = UnknownInfluencerTier;

    /// Reads a name in either letter case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Standard, Self::Premium, Self::Vip];
        all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownInfluencerTier)
    }
}

impl InfluencerTier {
    /// The tier that `followers` give.
    pub fn of(followers: i64) -> Self {
        match followers {
            ..PREMIUM_FOLLOWERS_MIN => Self::Standard,
            PREMIUM_FOLLOWERS_MIN..=PREMIUM_FOLLOWERS_MAX => Self::Premium,
            _ => Self::Vip,
        }
    }

    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Premium => "PREMIUM",
            Self::Vip => "VIP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S0-266
    #[test]
    fn the_tier_changes_at_a_hundred_thousand_and_after_a_million() {
        for (followers, tier) in [
            (0, "STANDARD"),
            (99_999, "STANDARD"),
            (100_000, "PREMIUM"),
            (1_000_000, "PREMIUM"),
            (1_000_001, "VIP"),
            (i64::MAX, "VIP"),
        ] {
            assert_eq!(InfluencerTier::of(followers).as_str(), tier, "{followers}");
        }
    }
}
