//! `millpond partners show`, `update` and `notify`.

use clap::{ArgGroup, Args};
use config::Settings;
use db::Pool;
use jobs::partners as actions;
use partners::rotation::list_keys;
use partners::{PartnerChange, quota};
use serde_json::json;

use super::{ContactArgs, PartnerArg, as_json, find};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::Asker;

/// Keys shown, the newest.
const KEYS_SHOWN_MAX: u32 = 50;

/// Arguments of `partners update`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("update").required(true).multiple(true)
        .args(["name", "rate_limit", "contact_name", "contact_email", "contact_phone"])),
    after_help = "\
Examples:
  millpond partners update acme --rate-limit 600
  millpond partners update acme --contact-name 'Lan' --contact-email lan@example.com")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// The name people read
    #[arg(long)]
    name: Option<String>,
    /// Requests a minute
    #[arg(long, value_name = "PER_MINUTE")]
    rate_limit: Option<u32>,
    #[command(flatten)]
    contact: ContactArgs,
}

/// Arguments of `partners notify`.
#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// One line
    #[arg(long)]
    subject: String,
    /// Plain text
    #[arg(long)]
    message: String,
}

/// Shows what is known of a partner.
pub(super) async fn show(
    settings: &Settings,
    pool: &Pool,
    output: Output,
    asker: &Asker,
    partner: &str,
) -> Result<(), CliError> {
    let mut conn = pool.acquire().await?;
    let partner = find(&mut conn, partner).await?;
    let contact = partner.contact(asker.keyring())?;
    let at = quota::calendar_now(&mut conn).await?;
    let zone = settings.partners.quota_time_zone;
    let quota = quota::read(&mut conn, partner.id.into(), at, zone).await?;
    let keys = list_keys(&mut conn, partner.id, KEYS_SHOWN_MAX).await?;
    let mut shown = as_json(&partner);
    shown["contact"] = json!({
        "name": contact.name, "email": contact.email.as_ref().map(|email| email.as_str()), "phone": contact.phone,
    });
    shown["quota"] = json!({
        "used": quota.used, "limit": quota.limit, "remaining": quota.remaining(), "resetsAt": quota.month.resets_at,
    });
    let keys_as_json = keys.iter().map(|key| {
        json!({
            "id": key.id, "name": key.name, "prefix": key.prefix, "createdAt": key.created_at,
            "lastUsedAt": key.last_used_at, "expiresAt": key.expires_at, "revokedAt": key.revoked_at,
        })
    });
    shown["keys"] = keys_as_json.collect();
    output.show(&shown, || {
        let or_none = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let subscription = &partner.subscription;
        let ends = subscription.ends_at.map_or("never".to_owned(), |end| end.to_string());
        let limit = quota.limit.map_or("no limit".to_owned(), |limit| limit.to_string());
        let mut text = format!(
            "{} ({})\ncontact       {}, {}, {}\nsubscription  {} ({}), ends {ends}{}\nquota         {} of {limit}, \
             until {}\n",
            partner.code,
            partner.name,
            or_none(contact.name.as_deref()),
            or_none(contact.email.as_ref().map(|email| email.as_str())),
            or_none(contact.phone.as_deref()),
            subscription.tier,
            subscription.status,
            if subscription.auto_renew { " and is renewed" } else { "" },
            quota.used,
            quota.month.resets_at,
        );
        for key in &keys {
            let state = match (key.revoked_at, key.expires_at) {
                (Some(at), _) => format!("revoked {at}"),
                (None, Some(at)) => format!("expires {at}"),
                (None, None) => "works".to_owned(),
            };
            text.push_str(&format!(
                "key           {} {} {} {state}\n",
                key.id,
                key.prefix,
                or_none(key.name.as_deref())
            ));
        }
        text.trim_end().to_owned()
    })
}

/// Changes what is known of a partner.
pub(super) async fn update(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: UpdateArgs,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    let change = PartnerChange {
        name: arguments.name,
        rate_limit_per_minute: arguments.rate_limit,
        contact_name: arguments.contact.contact_name.map(Some),
        contact_email: arguments.contact.contact_email.map(Some),
        contact_phone: arguments.contact.contact_phone.map(Some),
    };
    let partner = actions::update(&mut tx, &asker.door(), partner.id, change).await?;
    tx.commit().await?;
    output.show(&as_json(&partner), || format!("{} is changed", partner.code))
}

/// Writes to a partner.
pub(super) async fn notify(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: NotifyArgs,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    let NotifyArgs { subject, message, .. } = &arguments;
    let told = actions::send_message(&mut tx, &asker.door(), partner.id, subject, message).await?;
    tx.commit().await?;
    let json = json!({ "partnerId": partner.code, "eventId": told.event, "isMailed": told.mail.is_some() });
    output.show(&json, || match told.mail {
        Some(_) => format!("a mail to {} is on its way", partner.code),
        None => format!("{} has left no address: its webhook endpoints are told", partner.code),
    })
}
