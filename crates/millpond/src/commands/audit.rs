//! `millpond audit …`: who changed what, and whether the log of it is whole.

mod export;

use std::io::IsTerminal;

use audit::{ActorKind, Filter, Finding, Head, Order, Recorded, Verified};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use config::Settings;
use db::{Connection, Pool};
use indicatif::{ProgressBar, ProgressDrawTarget};
use kernel::ids::{AuditId, TenantId};
use serde_json::{Value, json};

use super::{jobs::instant, partners};
use crate::cli::Globals;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Database, reading, settings};

/// Most entries shown at once.
const LIMIT_MAX: i64 = audit::LIST_MAX as i64;

/// What can be asked of the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show who changed what, the newest first
    List(ListArgs),
    /// Check that nothing in the log was changed, removed or put there by other means than the program
    Verify(VerifyArgs),
    /// Write the log, the oldest first, as lines of JSON or as CSV
    Export(export::ExportArgs),
}

/// Which entries.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// user, partner, cli or system
    #[arg(long, value_name = "KIND", value_parser = actor_kind)]
    actor_kind: Option<ActorKind>,
    /// Who: a person's id (usr_…), a partner's (ptn_…), an account
    #[arg(long)]
    actor: Option<String>,
    /// What the action begins with: queues.pause, or queues. for all of them
    #[arg(long)]
    action: Option<String>,
    /// What it was done to: a job's id, a queue's name
    #[arg(long)]
    target: Option<String>,
    /// Whose that is: a partner's code or id, or `system`
    #[arg(long)]
    partner: Option<String>,
    /// The request, or run of a command, that asked
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// At or after this time, such as 2026-11-21T09:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
}

/// Arguments of `audit list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond audit list
  millpond audit list --action queues. --since 2026-11-21T09:00:00Z
  millpond audit list --target enrich --json
  millpond audit list --actor-kind cli --watch

Values that may be personal stand as keyed digests (key:hex): equal for equal values.")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The oldest first
    #[arg(long)]
    oldest: bool,
    /// How many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=LIMIT_MAX))]
    limit: i64,
    /// Behind this entry: the page after the one that ended with it
    #[arg(long, value_name = "ENTRY")]
    after: Option<AuditId>,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
It seals what waits, walks the whole chain and compares the log with it; workers go on meanwhile. It ends with 0 when all
is well, and with 1 and a list when it is not. It needs the installation's keys, those of before a rotation too.

Keep the head that it shows somewhere else (a ticket, a mail): whoever can put back an older state of the whole database
is only found by comparing with it.

Examples:
  millpond audit verify
  millpond audit verify --head 1207:k1:6f0c… --json")]
pub(crate) struct VerifyArgs {
    /// A head that an earlier run showed and that was kept elsewhere: SEQ:LINK
    #[arg(long, value_name = "SEQ:LINK")]
    head: Option<Head>,
}

fn actor_kind(text: &str) -> Result<ActorKind, String> {
    let kind = ActorKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| "one of user, partner, cli, system".to_owned())
}

impl FilterArgs {
    async fn filter(&self, conn: &mut Connection) -> Result<Filter, CliError> {
        let tenant = match self.partner.as_deref() {
            Some("system") => Some(TenantId::SYSTEM),
            Some(partner) => Some(TenantId::from(partners::find(conn, partner).await?.id)),
            None => None,
        };
        Ok(Filter {
            actor_kind: self.actor_kind,
            actor: self.actor.clone(),
            action: self.action.clone(),
            target: self.target.clone(),
            tenant,
            request_id: self.request.clone(),
            from: self.since,
            before: self.before,
        })
    }
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: AuditCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let output = Output::new(globals.json);
    let result = match command {
        AuditCommand::List(arguments) => list(&database.pool, output, &arguments).await,
        AuditCommand::Verify(arguments) => verify(&settings, &database, output, &arguments).await,
        AuditCommand::Export(arguments) => export::run(&database.pool, output, &arguments).await,
    };
    let closed = database.close().await;
    result.and(closed)
}

async fn list(pool: &Pool, output: Output, arguments: &ListArgs) -> Result<(), CliError> {
    let limit = usize::try_from(arguments.limit).unwrap_or_default();
    let order = if arguments.oldest { Order::Oldest } else { Order::Newest };
    arguments
        .watch
        .show(output, async || {
            let mut tx = reading(pool).await?;
            let filter = arguments.filter.filter(&mut tx).await?;
            let page = audit::list(&mut tx, &filter, order, arguments.after, limit).await?;
            let items: Vec<Value> = page.entries.iter().map(as_json).collect();
            let mut text = as_table(&page.entries);
            if let Some(next) = page.next {
                text.push_str(&format!("\nthere are more: --after {next}"));
            }
            Ok(View { json: json!({"items": items, "next": page.next}), text })
        })
        .await
}

async fn verify(
    settings: &Settings,
    database: &Database,
    output: Output,
    arguments: &VerifyArgs,
) -> Result<(), CliError> {
    let keyring = database.keys(settings).await?;
    jobs::audit_log::seal(&database.pool, &keyring).await?;
    let is_seen = std::io::stderr().is_terminal();
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    let mut conn = database.pool.acquire().await?;
    let verified = audit::verify(&mut conn, &keyring, arguments.head.as_ref(), |entries| {
        bar.set_message(format!("{entries} entries verified …"));
        bar.tick();
    })
    .await;
    bar.finish_and_clear();
    let verified = verified?;
    output.show(&verified_as_json(&verified), || verified_as_text(&verified))?;
    match verified.findings.len() {
        0 => Ok(()),
        findings => Err(CliError::Tampered { findings, has_more: verified.has_more }),
    }
}

fn verified_as_json(verified: &Verified) -> Value {
    let finding = |finding: &Finding| json!({"code": finding.code(), "entry": finding.entry(), "message": finding.to_string()});
    json!({
        "isWhole": verified.findings.is_empty(),
        "entries": verified.entries,
        "head": verified.head.as_ref().map(ToString::to_string),
        "findings": verified.findings.iter().map(finding).collect::<Vec<_>>(),
        "hasMore": verified.has_more,
    })
}

fn verified_as_text(verified: &Verified) -> String {
    let head = verified.head.as_ref().map_or_else(|| "none yet".to_owned(), ToString::to_string);
    let mut text = format!("{} entries verified\nhead: {head}", verified.entries);
    if verified.findings.is_empty() {
        text.push_str("\nthe log is whole");
    }
    for finding in &verified.findings {
        text.push_str(&format!("\n  {:<16}{finding}", finding.code()));
    }
    text
}

fn as_json(entry: &Recorded) -> Value {
    json!({
        "id": entry.id,
        "at": instant(entry.at),
        "actorKind": entry.actor_kind,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "tenant": entry.tenant,
        "before": entry.before,
        "after": entry.after,
        "requestId": entry.request_id,
        "seq": entry.seq,
    })
}

fn as_table(entries: &[Recorded]) -> String {
    if entries.is_empty() {
        return "no such entry".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["AT", "WHO", "ACTION", "TARGET", "BEFORE", "AFTER", "SEALED", "ENTRY"]);
    let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
    for entry in entries {
        table.add_row([
            instant(entry.at),
            format!("{} {}", entry.actor_kind, entry.actor),
            entry.action.clone(),
            entry.target.clone(),
            text(&entry.before),
            text(&entry.after),
            entry.seq.map_or_else(|| "not yet".to_owned(), |seq| seq.to_string()),
            entry.id.to_string(),
        ]);
    }
    table.trim_fmt()
}
