//! `millpond partners …`: partners, their API keys and webhook secrets. Works beside a running `up` on the same data
//! folder.

mod account;
mod keys;
mod subscription;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use config::Settings;
use db::{Connection, Pool};
use jobs::Door;
use jobs::partners::SubscriptionOrder;
use jobs::partners::{self as actions, PartnerActionError, TellingError};
use kernel::Email;
use partners::{
    Contact, Created, FieldFault, NewPartner, Partner, PartnerError, SubscriptionChange, SubscriptionTier,
    directory, share_weight,
};
use serde_json::{Value, json};

use account::{NotifyArgs, UpdateArgs};
use keys::{AddKeyArgs, RevokeKeyArgs, RotateArgs};
use subscription::SubscriptionArgs;

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, settings};

/// Partners read in one go.
const PAGE_ROWS: u32 = 500;

/// What can be done with partners.
#[derive(Debug, Subcommand)]
pub(crate) enum PartnersCommand {
    /// Make a partner and show its key and webhook secret, this once
    Create(CreateArgs),
    /// Show all partners
    List,
    /// Show a partner with its contact, its quota and its keys
    Show(PartnerArg),
    /// Change a partner's name, contact or rate limit
    Update(UpdateArgs),
    /// Change what a partner has bought, until when, its quota, or its share of the workers
    Subscription(SubscriptionArgs),
    /// Give a partner a new key; the old ones end, at once or after a while
    RotateKey(RotateArgs),
    /// Give a partner another key beside those it has
    AddKey(AddKeyArgs),
    /// End one key of a partner, everywhere within 5 s
    RevokeKey(RevokeKeyArgs),
    /// Write to a partner, by mail and by webhook
    Notify(NotifyArgs),
    /// Stop a partner from calling; its jobs and keys stay
    Deactivate(PartnerArg),
    /// Let a partner call again
    Activate(PartnerArg),
}

/// Arguments of `partners create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond partners create --code techcombank --name 'Techcombank' --subscription premium
  millpond partners create --code acme --name Acme --subscription free --rate-limit 600 --json
  eval \"$(millpond partners create --code acme --name Acme --subscription basic --env)\"
                                   leaves PARTNER_ID, API_KEY and WEBHOOK_SECRET in your shell")]
pub(crate) struct CreateArgs {
    /// What the partner calls itself in X-Partner-ID: 2 to 64 of a-z, 0-9 and -
    #[arg(long)]
    code: String,
    /// The name people read
    #[arg(long)]
    name: String,
    /// free, basic, premium or enterprise
    #[arg(long, value_name = "TIER")]
    subscription: String,
    /// Requests a minute
    #[arg(long, value_name = "PER_MINUTE", default_value_t = directory::RATE_LIMIT_DEFAULT.to_string())]
    rate_limit: String,
    /// Its weight among those that share the workers, instead of its tier's (free 1, basic 2, premium 4, enterprise 8)
    #[arg(long, value_name = "WEIGHT")]
    share_weight: Option<i16>,
    /// When the subscription ends, e.g. 2027-12-31T17:00:00Z; never unless given
    #[arg(long, value_name = "INSTANT")]
    ends: Option<DateTime<Utc>>,
    /// At its end the subscription goes on for another period of the same length
    #[arg(long, requires = "ends")]
    auto_renew: bool,
    #[command(flatten)]
    contact: ContactArgs,
    #[command(flatten)]
    form: SecretForm,
}

/// Whom to write to.
#[derive(Debug, Clone, Args)]
struct ContactArgs {
    /// Whom to write to
    #[arg(long, value_name = "NAME")]
    contact_name: Option<String>,
    /// Where welcome and notices go
    #[arg(long, value_name = "ADDRESS", value_parser = |text: &str| Email::parse(text))]
    contact_email: Option<Email>,
    /// Their telephone
    #[arg(long, value_name = "NUMBER")]
    contact_phone: Option<String>,
}

/// Which partner.
#[derive(Debug, Args)]
pub(crate) struct PartnerArg {
    /// The partner's code or id (ptn_…)
    partner: String,
}

/// How secrets are shown.
#[derive(Debug, Clone, Copy, Args)]
struct SecretForm {
    /// Print lines for a shell: export PARTNER_ID=… API_KEY=… WEBHOOK_SECRET=…
    #[arg(long, conflicts_with = "json")]
    env: bool,
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: PartnersCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let result = act(&settings, &database, Output::new(globals.json), command).await;
    let closed = database.close().await;
    result.and(closed)
}

async fn act(
    settings: &Settings,
    database: &Database,
    output: Output,
    command: PartnersCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    let asker = || Asker::new(settings, database);
    match command {
        PartnersCommand::Create(arguments) => {
            let form = arguments.form;
            let secrets = create(settings, database, arguments).await?;
            output.show(&secrets, || secrets_as_text(&secrets, form))
        }
        PartnersCommand::Show(arguments) => {
            account::show(settings, pool, output, &asker().await?, &arguments.partner).await
        }
        PartnersCommand::Update(arguments) => account::update(pool, output, &asker().await?, arguments).await,
        PartnersCommand::Notify(arguments) => account::notify(pool, output, &asker().await?, arguments).await,
        PartnersCommand::RotateKey(arguments) => {
            let form = arguments.form;
            let secrets = keys::rotate(pool, &asker().await?, arguments).await?;
            output.show(&secrets, || secrets_as_text(&secrets, form))
        }
        PartnersCommand::AddKey(arguments) => keys::add(pool, output, &asker().await?, arguments).await,
        PartnersCommand::RevokeKey(arguments) => keys::revoke(pool, output, &asker().await?, arguments).await,
        PartnersCommand::List => {
            let all = all(pool).await?;
            let json: Vec<Value> = all.iter().map(as_json).collect();
            output.show(&json, || as_table(&all))
        }
        PartnersCommand::Subscription(arguments) => {
            subscription::change(settings, pool, output, &asker().await?, arguments).await
        }
        PartnersCommand::Deactivate(arguments) => {
            set_active(pool, output, &asker().await?, &arguments.partner, false).await
        }
        PartnersCommand::Activate(arguments) => {
            set_active(pool, output, &asker().await?, &arguments.partner, true).await
        }
    }
}

async fn create(settings: &Settings, database: &Database, arguments: CreateArgs) -> Result<Value, CliError> {
    let asker = Asker::new(settings, database).await?;
    let mut faults = Vec::new();
    let tier = arguments.subscription.parse::<SubscriptionTier>();
    let rate_limit = arguments.rate_limit.parse::<u32>();
    if tier.is_err() {
        faults.push(FieldFault { field: "subscription", message: one_of_the_tiers() });
    }
    if rate_limit.is_err() {
        let message = format!("a whole number from 1 to {}", directory::RATE_LIMIT_MAX);
        faults.push(FieldFault { field: "rateLimit", message });
    }
    // With stand-ins for what is wrong, the rest is checked too; nothing of it is kept then.
    let tier = tier.unwrap_or(SubscriptionTier::Free);
    let new = NewPartner {
        rate_limit_per_minute: rate_limit.unwrap_or(directory::RATE_LIMIT_DEFAULT),
        contact: Contact {
            name: arguments.contact.contact_name,
            email: arguments.contact.contact_email,
            phone: arguments.contact.contact_phone,
        },
        ends_at: arguments.ends,
        auto_renew: arguments.auto_renew,
        ..NewPartner::of(&arguments.code, &arguments.name, tier)
    };
    let mut tx = db::begin(&database.pool).await?;
    match create_with_share(&mut tx, settings, &asker.door(), new, arguments.share_weight).await {
        Ok(created) if faults.is_empty() => {
            tx.commit().await?;
            Ok(created_as_json(&created))
        }
        Ok(_) => Err(PartnerError::Invalid(faults).into()),
        Err(PartnerActionError::Partner(error)) => refused(error, faults),
        Err(error) => Err(error.into()),
    }
}

/// What was wrong with a partner to be made, all of it.
fn refused(error: PartnerError, mut faults: Vec<FieldFault>) -> Result<Value, CliError> {
    match error {
        PartnerError::Invalid(more) => {
            faults.extend(more);
            Err(PartnerError::Invalid(faults).into())
        }
        taken @ PartnerError::CodeTaken { .. } if faults.is_empty() => Err(CliError::Conflict(format!(
            "{taken}: choose another, or give that partner a new key with `millpond partners rotate-key`"
        ))),
        taken @ PartnerError::CodeTaken { .. } => {
            faults.push(FieldFault { field: "code", message: taken.to_string() });
            Err(PartnerError::Invalid(faults).into())
        }
        error => Err(error.into()),
    }
}

async fn create_with_share(
    conn: &mut Connection,
    settings: &Settings,
    door: &Door<'_>,
    new: NewPartner,
    share_weight: Option<i16>,
) -> Result<Created, PartnerActionError> {
    let mut created = actions::create(conn, door, new).await?;
    if share_weight.is_some() {
        let change = SubscriptionChange { share_weight: Some(share_weight), ..SubscriptionChange::default() };
        let order = SubscriptionOrder::of(change, settings.partners.quota_time_zone);
        created.partner = actions::change_subscription(conn, door, created.partner.id, order).await?;
    }
    let listen = || format!("http://{}", settings.http.listen);
    let url = settings.http.public_url.clone().unwrap_or_else(listen);
    actions::welcome(conn, door, &created, url.trim_end_matches('/')).await?;
    Ok(created)
}

async fn set_active(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    text: &str,
    active: bool,
) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let partner = find(&mut tx, text).await?;
    let partner = actions::set_active(&mut tx, &asker.door(), partner.id, active).await?;
    tx.commit().await?;
    let now = if active { "may call" } else { "may no longer call (in effect everywhere within 5 s)" };
    output.show(&as_json(&partner), || format!("{} {now}", partner.code))
}

impl From<PartnerActionError> for CliError {
    fn from(error: PartnerActionError) -> Self {
        match error {
            PartnerActionError::Partner(error) => error.into(),
            PartnerActionError::Queue(error) => error.into(),
            PartnerActionError::Audit(error) => error.into(),
            PartnerActionError::Telling(TellingError::Partner(error)) => error.into(),
            PartnerActionError::Telling(TellingError::Queue(error)) => error.into(),
            PartnerActionError::Telling(TellingError::Webhook(error)) => error.into(),
        }
    }
}

/// A partner by code or id.
pub(crate) async fn find(conn: &mut Connection, text: &str) -> Result<Partner, CliError> {
    directory::find_by_code_or_id(conn, text).await?.ok_or_else(|| {
        CliError::NotFound(format!(
            "no partner has the code or id {text:?}; `millpond partners list` shows all"
        ))
    })
}

/// Every partner.
pub(crate) async fn all(pool: &Pool) -> Result<Vec<Partner>, CliError> {
    let mut conn = pool.acquire().await?;
    let mut all: Vec<Partner> = Vec::new();
    loop {
        let after = all.last().map(|partner| partner.code.clone());
        let page = directory::list(&mut conn, after.as_deref(), PAGE_ROWS).await?;
        let is_last = page.len() < PAGE_ROWS as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

fn one_of_the_tiers() -> String {
    let tiers: Vec<&str> = SubscriptionTier::ALL.iter().map(|tier| tier.as_str()).collect();
    format!("one of {}", tiers.join(", "))
}

fn as_json(partner: &Partner) -> Value {
    json!({
        "partnerId": partner.code,
        "id": partner.id,
        "name": partner.name,
        "isActive": partner.is_active,
        "subscription": partner.subscription,
        "shareWeight": share_weight(partner.subscription.tier, partner.share_weight),
        "rateLimitPerMinute": partner.rate_limit_per_minute,
        "createdAt": partner.created_at,
        "lastApiCallAt": partner.last_api_call_at,
    })
}

fn created_as_json(created: &Created) -> Value {
    with_secrets(&created.partner, created.key.api_key.expose(), &created.webhook_secret)
}

fn with_secrets(partner: &Partner, api_key: &str, webhook_secret: &str) -> Value {
    let mut json = as_json(partner);
    json["apiKey"] = api_key.into();
    json["webhookSecret"] = webhook_secret.into();
    json
}

/// None of the values can hold what a shell would read differently: codes, keys and secrets are letters, digits and a
/// few signs.
fn secrets_as_text(secrets: &Value, form: SecretForm) -> String {
    let text = |name: &str| secrets[name].as_str().unwrap_or_default().to_owned();
    let (code, key, secret) = (text("partnerId"), text("apiKey"), text("webhookSecret"));
    if form.env {
        return format!(
            "export PARTNER_ID='{code}'\nexport API_KEY='{key}'\nexport WEBHOOK_SECRET='{secret}'"
        );
    }
    format!(
        "partner         {code} ({})\nX-Partner-ID    {code}\nX-API-Key       {key}\nwebhook secret  {secret}\n\
         The key is shown this once; `millpond partners rotate-key {code}` makes a new one.",
        text("name")
    )
}

fn as_table(partners: &[Partner]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["CODE", "NAME", "SUBSCRIPTION", "WEIGHT", "PER MINUTE", "ACTIVE", "LAST CALL", "ID"]);
    for partner in partners {
        let last_call = partner.last_api_call_at.map(|at| at.format("%Y-%m-%d %H:%M").to_string());
        table.add_row([
            partner.code.clone(),
            partner.name.clone(),
            partner.subscription.tier.to_string(),
            share_weight(partner.subscription.tier, partner.share_weight).to_string(),
            partner.rate_limit_per_minute.to_string(),
            if partner.is_active { "yes" } else { "no" }.to_owned(),
            last_call.unwrap_or_else(|| "-".to_owned()),
            partner.id.to_string(),
        ]);
    }
    table.trim_fmt()
}
