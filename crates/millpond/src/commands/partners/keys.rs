//! `millpond partners rotate-key`, `add-key` and `revoke-key`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use db::Pool;
use jobs::partners as actions;
use kernel::ids::ApiKeyId;
use partners::{directory, rotation::KeyTerms};
use serde_json::{Value, json};

use super::{PartnerArg, SecretForm, find, with_secrets};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::Asker;

/// Arguments of `partners rotate-key`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// How long the old keys go on working
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    overlap: u64,
    #[command(flatten)]
    pub(super) form: SecretForm,
}

/// Arguments of `partners add-key`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond partners add-key acme --name staging
  millpond partners add-key acme --name 'spring audit' --expires 2027-03-31T17:00:00Z --json")]
pub(crate) struct AddKeyArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// When it stops working, e.g. 2027-12-31T17:00:00Z; never unless given
    #[arg(long, value_name = "INSTANT")]
    expires: Option<DateTime<Utc>>,
}

/// Arguments of `partners revoke-key`.
#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArgs {
    #[command(flatten)]
    partner: PartnerArg,
    /// The key's id (key_…); `millpond partners show` lists them
    key: ApiKeyId,
}

/// Gives a partner a key for all others, with what verifies its callbacks.
pub(super) async fn rotate(pool: &Pool, asker: &Asker, arguments: RotateArgs) -> Result<Value, CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    let overlap = Duration::from_secs(arguments.overlap);
    let key = actions::rotate_key(&mut tx, &asker.door(), partner.id, overlap, KeyTerms::default()).await?;
    let webhook_secret = directory::webhook_secret(&mut tx, asker.keyring(), partner.id.into()).await?;
    tx.commit().await?;
    Ok(with_secrets(&partner, key.api_key.expose(), &webhook_secret))
}

/// Gives a partner another key.
pub(super) async fn add(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: AddKeyArgs,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    let terms = KeyTerms { name: arguments.name, expires_at: arguments.expires };
    let key = actions::add_key(&mut tx, &asker.door(), partner.id, terms).await?;
    tx.commit().await?;
    let json = json!({
        "partnerId": partner.code, "keyId": key.id, "apiKey": key.api_key.expose(),
        "expiresAt": arguments.expires,
    });
    output.show(&json, || {
        format!(
            "X-Partner-ID    {}\nX-API-Key       {}\nkey id          {}\nThe key is shown this once.",
            partner.code,
            key.api_key.expose(),
            key.id
        )
    })
}

/// Ends a key.
pub(super) async fn revoke(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    arguments: RevokeKeyArgs,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, &arguments.partner.partner).await?;
    actions::revoke_key(&mut tx, &asker.door(), partner.id, arguments.key).await?;
    tx.commit().await?;
    output.show(&json!({ "partnerId": partner.code, "keyId": arguments.key, "isRevoked": true }), || {
        format!("{} of {} works no more (in effect everywhere within 5 s)", arguments.key, partner.code)
    })
}
