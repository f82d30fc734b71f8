//! What partners are told by mail, in words.

use ::partners::{SubscriptionStatus, SubscriptionTier};
use chrono::{DateTime, NaiveDate, Utc};

/// Something that a partner's contact is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// 80% of the month's quota is used.
    QuotaWarning(QuotaTold),
    /// All of it is.
    QuotaExhausted(QuotaTold),
    /// The subscription ends soon.
    SubscriptionExpiring {
        /// When.
        ends_at: DateTime<Utc>,
        /// Whether it is renewed then.
        auto_renew: bool,
    },
    /// It has ended and works on for a while.
    SubscriptionGracePeriod {
        /// Until when.
        until: DateTime<Utc>,
    },
    /// It works no more.
    SubscriptionExpired,
    /// It was renewed.
    SubscriptionRenewed {
        /// When the new period ends.
        ends_at: DateTime<Utc>,
    },
    /// An admin changed it.
    SubscriptionUpdated {
        /// The tier now.
        tier: SubscriptionTier,
        /// How it stands now.
        status: SubscriptionStatus,
        /// When it ends now; none: never.
        ends_at: Option<DateTime<Utc>>,
        /// Influencers a month now; none: as many as wanted.
        quota: Option<u32>,
        /// What counts as used of this month, if that was changed.
        used: Option<u32>,
    },
    /// An admin writes.
    Message {
        /// Of one line.
        subject: String,
        /// As its reader will see it.
        text: String,
    },
}

/// A quota, as it stood when a line was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuotaTold {
    /// Influencers used.
    pub(super) used: u32,
    /// Of so many.
    pub(super) limit: u32,
    /// The day on which the next month begins, where the quota's month does.
    pub(super) resets_on: NaiveDate,
}

impl Notice {
    /// In a word for operators.
    pub(super) fn about(&self) -> &'static str {
        match self {
            Self::QuotaWarning(_) => "quota-warning",
            Self::QuotaExhausted(_) => "quota-exhausted",
            Self::SubscriptionExpiring { .. } => "subscription-expiring",
            Self::SubscriptionGracePeriod { .. } => "subscription-grace-period",
            Self::SubscriptionExpired => "subscription-expired",
            Self::SubscriptionRenewed { .. } => "subscription-renewed",
            Self::SubscriptionUpdated { .. } => "subscription-updated",
            Self::Message { .. } => "partner-message",
        }
    }

    /// The subject and the text of a mail to whoever looks after `partner`.
    pub(super) fn letter(&self, partner: &str) -> (String, String) {
        let (subject, text) = match self {
            Self::QuotaWarning(QuotaTold { used, limit, resets_on }) => (
                format!("{used} of {limit} influencers are used"),
                format!(
                    "{partner} has used {used} of its {limit} influencers of this month. The next month begins on \
                     {resets_on}."
                ),
            ),
            Self::QuotaExhausted(QuotaTold { used, limit, resets_on }) => (
                format!("All {limit} influencers are used"),
                format!(
                    "{partner} has used {used} of its {limit} influencers of this month. Requests for others are denied \
                     until the next month begins on {resets_on}; those that were approved this month stay free."
                ),
            ),
            Self::SubscriptionExpiring { ends_at, auto_renew } => {
                let day = day(*ends_at);
                let then = if *auto_renew { "is renewed" } else { "ends" };
                let todo = if *auto_renew {
                    "You need not do anything."
                } else {
                    "Renew it to go on without a break; it works on for seven days after its end."
                };
                (
                    format!("Your subscription {then} on {day}"),
                    format!("The subscription of {partner} {then} on {day}. {todo}"),
                )
            }
            Self::SubscriptionGracePeriod { until } => {
                let day = day(*until);
                (
                    "Your subscription has ended".to_owned(),
                    format!(
                        "The subscription of {partner} has ended. It works on until {day}; renew it before."
                    ),
                )
            }
            Self::SubscriptionExpired => (
                "Your subscription has expired".to_owned(),
                format!(
                    "The subscription of {partner} has expired. The pool and profiles are closed to it; its quota, its \
                     subscription and its jobs can still be read."
                ),
            ),
            Self::SubscriptionRenewed { ends_at } => {
                let day = day(*ends_at);
                (
                    "Your subscription was renewed".to_owned(),
                    format!("The subscription of {partner} was renewed until {day}."),
                )
            }
            Self::SubscriptionUpdated { tier, status, ends_at, quota, used } => {
                let until = ends_at.map_or("without an end".to_owned(), |end| format!("until {}", day(end)));
                let quota = quota.map_or("as many influencers as wanted".to_owned(), |quota| {
                    format!("{quota} influencers a month")
                });
                let used = used.map_or(String::new(), |used| format!(", {used} of them used"));
                let standing = match status {
                    SubscriptionStatus::Active => "active",
                    SubscriptionStatus::GracePeriod => "in its grace period",
                    SubscriptionStatus::Expired => "expired",
                    SubscriptionStatus::Suspended => "suspended",
                };
                (
                    "Your subscription was changed".to_owned(),
                    format!(
                        "The subscription of {partner} is now {tier}, {until}, with {quota}{used}. It is {standing}."
                    ),
                )
            }
            Self::Message { subject, text } => (subject.clone(), text.clone()),
        };
        (subject, format!("{text}\n"))
    }
}

fn day(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M UTC").to_string()
}
