//! `millpond tenants …`: whose share of the workers is how large, and what they make of it.

use std::time::Duration;

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use config::Settings;
use db::{Connection, Pool};
use jobs::tenants::{self as actions, ShareChange};
use kernel::ids::TenantId;
use queue::ops::{Shares, TenantStanding};
use serde_json::{Value, json};

use super::jobs::Names;
use super::partners;
use crate::cli::Globals;
use crate::commands::duration::Span;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, reading, settings};

/// What can be done with tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Show everyone's share: what it is to be, what it is, what was done and spent
    List(ListArgs),
    /// Change a tenant's weight or its bound of jobs at once
    Set(SetArgs),
}

/// Arguments of `tenants list`.
#[derive(Debug, Args)]
#[command(after_help = "\
TARGET is a tenant's weight among those that have work; ACTUAL is its part of what runs.

Examples:
  millpond tenants list --watch
  millpond tenants list --since 24h --json")]
pub(crate) struct ListArgs {
    /// How far back jobs are counted that were done or failed: 10m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h")]
    since: Span,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Arguments of `tenants set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond tenants set acme --weight 8
  millpond tenants set acme --weight tier          again as its subscription says
  millpond tenants set acme --concurrency 50
  millpond tenants set acme --concurrency none     no bound of its own")]
pub(crate) struct SetArgs {
    /// A partner's code or id, or `system`
    tenant: String,
    /// Jobs of it for every job of one with weight 1, from 1 to 1000; or `tier`
    #[arg(long, required_unless_present = "concurrency", value_parser = weight)]
    weight: Option<Weight>,
    /// Jobs of it at once, over all queues; or `none`
    #[arg(long, value_name = "JOBS", value_parser = bound)]
    concurrency: Option<Bound>,
}

/// A weight, or that of the tier.
#[derive(Debug, Clone, Copy)]
struct Weight(Option<i16>);

/// A bound, or none.
#[derive(Debug, Clone, Copy)]
struct Bound(Option<i32>);

fn weight(text: &str) -> Result<Weight, String> {
    match text {
        "tier" => Ok(Weight(None)),
        number => {
            number.parse().map(|weight| Weight(Some(weight))).map_err(|_| "a number, or `tier`".to_owned())
        }
    }
}

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound(None)),
        number => number.parse().map(|jobs| Bound(Some(jobs))).map_err(|_| "a number, or `none`".to_owned()),
    }
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: TenantsCommand) -> Result<(), CliError> {
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let output = Output::new(globals.json);
    let result = match command {
        TenantsCommand::List(arguments) => list(&database.pool, output, &arguments).await,
        TenantsCommand::Set(arguments) => set(&settings, &database, output, &arguments).await,
    };
    let closed = database.close().await;
    result.and(closed)
}

async fn list(pool: &Pool, output: Output, arguments: &ListArgs) -> Result<(), CliError> {
    let names = Names::load(pool).await?;
    let Span(since) = arguments.since;
    arguments
        .watch
        .show(output, async || {
            let shares = shares(pool, since).await?;
            let tenants: Vec<Value> = shares.tenants.iter().map(|tenant| as_json(tenant, &names)).collect();
            let json = json!({"items": tenants, "running": shares.running, "isCapped": shares.is_capped});
            Ok(View { json, text: as_table(&shares, &names) })
        })
        .await
}

async fn shares(pool: &Pool, since: Duration) -> Result<Shares, CliError> {
    let mut tx = reading(pool).await?;
    let now = schedules::database_now(&mut tx).await?;
    let since = TimeDelta::from_std(since).unwrap_or(TimeDelta::days(90));
    Ok(queue::ops::shares(&mut tx, now - since, now).await?)
}

async fn set(
    settings: &Settings,
    database: &Database,
    output: Output,
    arguments: &SetArgs,
) -> Result<(), CliError> {
    let asker = Asker::new(settings, database).await?;
    let change = ShareChange {
        weight: arguments.weight.map(|Weight(weight)| weight),
        concurrency_max: arguments.concurrency.map(|Bound(jobs)| jobs),
    };
    let mut tx = db::begin(&database.pool).await?;
    let tenant = found(&mut tx, &arguments.tenant).await?;
    let share = actions::set_share(&mut tx, &asker.door(), tenant, change).await?;
    tx.commit().await?;
    let json =
        json!({"tenant": arguments.tenant, "weight": share.weight, "concurrencyMax": share.concurrency_max});
    output.show(&json, || {
        let bound =
            share.concurrency_max.map_or_else(|| "no bound".to_owned(), |jobs| format!("{jobs} at once"));
        format!("{} has weight {} and {bound}", arguments.tenant, share.weight)
    })
}

/// A tenant as people name it.
pub(in crate::commands) async fn found(conn: &mut Connection, text: &str) -> Result<TenantId, CliError> {
    match text {
        "system" => Ok(TenantId::SYSTEM),
        partner => Ok(TenantId::from(partners::find(conn, partner).await?.id)),
    }
}

fn as_json(tenant: &TenantStanding, names: &Names) -> Value {
    let spent: Vec<Value> = tenant
        .spent
        .iter()
        .map(|spent| {
            json!({"budget": spent.name, "spentMinor": spent.spent_minor, "reservedMinor": spent.reserved_minor})
        })
        .collect();
    json!({
        "owner": names.of(tenant.tenant),
        "tenant": tenant.tenant,
        "weight": tenant.weight,
        "concurrencyMax": tenant.concurrency_max,
        "hasWork": tenant.has_work,
        "target": tenant.target,
        "actual": tenant.actual,
        "running": tenant.running,
        "completed": tenant.completed,
        "failed": tenant.failed,
        "spent": spent,
    })
}

fn as_table(shares: &Shares, names: &Names) -> String {
    if shares.tenants.is_empty() {
        return "nobody has work, and nobody's share was ever set".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table
        .set_header(["OWNER", "WEIGHT", "AT ONCE", "TARGET", "ACTUAL", "RUNNING", "DONE", "FAILED", "SPENT"]);
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    for tenant in &shares.tenants {
        let spent: Vec<String> =
            tenant.spent.iter().map(|spent| format!("{} {}", spent.name, spent.spent_minor)).collect();
        table.add_row([
            names.of(tenant.tenant),
            tenant.weight.to_string(),
            tenant.concurrency_max.map_or_else(|| "-".to_owned(), |jobs| jobs.to_string()),
            if tenant.has_work { percent(tenant.target) } else { "-".to_owned() },
            percent(tenant.actual),
            tenant.running.to_string(),
            tenant.completed.to_string(),
            tenant.failed.to_string(),
            if spent.is_empty() { "-".to_owned() } else { spent.join(", ") },
        ]);
    }
    let table = table.trim_fmt();
    match shares.is_capped {
        true => format!("{table}\nthere are more with work than were looked at"),
        false => table,
    }
}
