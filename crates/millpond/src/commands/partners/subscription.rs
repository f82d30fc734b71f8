//! `millpond partners subscription`: what a partner has bought, until when, and how much of it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use config::Settings;
use db::Pool;
use jobs::partners::{self as actions, SubscriptionOrder};
use partners::directory::QUOTA_MAX;
use partners::{FieldFault, PartnerError, SubscriptionChange, SubscriptionTier, share_weight};

use super::{PartnerArg, as_json, find};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::Asker;

/// Arguments of `partners subscription`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("change").required(true).multiple(true)),
    after_help = "\
The partner is told of what it can see, by mail and by webhook.

Examples:
  millpond partners subscription acme --tier enterprise
  millpond partners subscription acme --ends 2027-12-31T17:00:00Z --auto-renew true
  millpond partners subscription acme --ends never
  millpond partners subscription acme --quota 75 --reason 'a deal until summer'
  millpond partners subscription acme --used 0 --reason 'goodwill for the outage'
  millpond partners subscription acme --suspended true
  millpond partners subscription acme --share-weight tier     again as its tier says")]
pub(crate) struct SubscriptionArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// free, basic, premium or enterprise; another tier brings its own quota
    #[arg(long, group = "change")]
    tier: Option<SubscriptionTier>,
    /// When it begins
    #[arg(long, value_name = "INSTANT", group = "change")]
    starts: Option<DateTime<Utc>>,
    /// When it ends, or `never`
    #[arg(long, value_name = "INSTANT", group = "change")]
    ends: Option<Or<DateTime<Utc>>>,
    /// Whether it then goes on for another period of the same length
    #[arg(long, value_name = "true|false", group = "change")]
    auto_renew: Option<bool>,
    /// Whether it is suspended
    #[arg(long, value_name = "true|false", group = "change")]
    suspended: Option<bool>,
    /// Influencers a month, or `tier`: as its tier says
    #[arg(long, value_name = "INFLUENCERS", group = "change", requires = "reason")]
    quota: Option<Or<u32>>,
    /// What counts as used of the present month
    #[arg(long, value_name = "INFLUENCERS", group = "change", requires = "reason")]
    used: Option<u32>,
    /// Why, for the subscription's history
    #[arg(long)]
    reason: Option<String>,
    /// Its weight among those that share the workers (1 to 1000), or `tier`
    #[arg(long, value_name = "WEIGHT", group = "change")]
    share_weight: Option<Or<i16>>,
}

/// A value, or the word for none of its own: `tier` or `never`.
#[derive(Debug, Clone, Copy)]
struct Or<T>(Option<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Or<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tier" | "never" => Ok(Self(None)),
            value => value.parse().map(|value| Self(Some(value))).map_err(|error: T::Err| error.to_string()),
        }
    }
}

/// Changes a subscription.
pub(super) async fn change(
    settings: &Settings,
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: SubscriptionArgs,
) -> Result<(), CliError> {
    let too_much = |quota: Option<u32>| quota.is_some_and(|quota| quota > QUOTA_MAX);
    let message = || format!("at most {QUOTA_MAX}");
    let mut faults = Vec::new();
    if too_much(arguments.quota.and_then(|Or(quota)| quota)) {
        faults.push(FieldFault { field: "quota", message: message() });
    }
    if too_much(arguments.used) {
        faults.push(FieldFault { field: "used", message: message() });
    }
    if arguments.reason.as_ref().is_some_and(|reason| !(1..=500).contains(&reason.trim().chars().count())) {
        faults.push(FieldFault { field: "reason", message: "1 to 500 characters".to_owned() });
    }
    if !faults.is_empty() {
        return Err(PartnerError::Invalid(faults).into());
    }
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    let order = SubscriptionOrder {
        change: SubscriptionChange {
            tier: arguments.tier,
            is_suspended: arguments.suspended,
            starts_at: arguments.starts,
            ends_at: arguments.ends.map(|Or(ends)| ends),
            auto_renew: arguments.auto_renew,
            monthly_quota: arguments.quota.map(|Or(quota)| quota),
            share_weight: arguments.share_weight.map(|Or(weight)| weight),
        },
        used: arguments.used,
        reason: arguments.reason.map(|reason| reason.trim().to_owned()),
        zone: settings.partners.quota_time_zone,
    };
    let partner = actions::change_subscription(&mut tx, &asker.door(), partner.id, order).await?;
    tx.commit().await?;
    output.show(&as_json(&partner), || {
        let subscription = &partner.subscription;
        let weight = share_weight(subscription.tier, partner.share_weight);
        let ends = subscription.ends_at.map_or("without an end".to_owned(), |end| format!("until {end}"));
        let quota = partner.quota_limit().map_or("as many influencers as wanted".to_owned(), |quota| {
            format!("{quota} influencers a month")
        });
        format!(
            "{} has {} ({}), {ends}, {quota}, and weight {weight} among partners",
            partner.code, subscription.tier, subscription.status
        )
    })
}
