//! `millpond limits …`: what jobs may use of others, how full that is, and other bounds for it. Workers see a change with
//! their next call.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use config::Settings;
use db::Pool;
use jobs::limits::{self as actions, shape_as_json};
use queue::limits::{Level, Limit, Period, Shape, levels};
use serde_json::{Value, json};

use super::jobs::{as_outline, instant};
use crate::cli::Globals;
use crate::commands::duration::Span;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, settings};

/// What can be done with limits.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show all limits, and how full they are
    List(WatchArgs),
    /// Show one limit, with each of its buckets
    Show(NameArg),
    /// Change a limit, or make one; settings no longer overwrite it
    Set(SetArgs),
    /// Make a limit what the program and its settings say again
    Reset(NameArg),
}

/// Which limit.
#[derive(Debug, Args)]
pub(crate) struct NameArg {
    /// The limit's name, such as meter.calls
    name: String,
}

/// Arguments of `limits set`.
#[derive(Debug, Args)]
#[command(after_help = "\
A rate counts calls in windows of a length, counted from the epoch; a concurrency, calls at once; a budget, minor units of
money (cents) in a UTC day or month. 0 stops all of it.

Examples:
  millpond limits set meter.calls --rate 300 --window 1m
  millpond limits set meter.concurrency --concurrency 20
  millpond limits set meter.budget --budget 100000 --period day
  millpond limits reset meter.calls")]
pub(crate) struct SetArgs {
    /// The limit's name, such as meter.calls
    name: String,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Of a rate: the length of its windows: 500ms, 10s, 1m
    #[arg(long, value_name = "TIME", requires = "rate")]
    window: Option<Span>,
    /// Of a budget: its period
    #[arg(long, value_enum, requires = "budget")]
    period: Option<PeriodArg>,
}

/// What is bounded.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ShapeArgs {
    /// Calls in a window
    #[arg(long, value_name = "CALLS", requires = "window")]
    rate: Option<i64>,
    /// Calls at once
    #[arg(long, value_name = "CALLS")]
    concurrency: Option<i64>,
    /// Minor units in a period
    #[arg(long, value_name = "MINOR", requires = "period")]
    budget: Option<i64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PeriodArg {
    Day,
    Month,
}

impl SetArgs {
    fn shape(&self) -> Shape {
        match (self.shape.rate, self.shape.concurrency, self.shape.budget) {
            (Some(max), ..) => {
                Shape::Rate { max, window: self.window.map_or(Duration::ZERO, |Span(window)| window) }
            }
            (_, Some(max), _) => Shape::Concurrency { max },
            (.., budget) => {
                let period = match self.period {
                    Some(PeriodArg::Month) => Period::Month,
                    _ => Period::Day,
                };
                Shape::Budget { max_minor: budget.unwrap_or_default(), period }
            }
        }
    }
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: LimitsCommand) -> Result<(), CliError> {
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
    command: LimitsCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    match command {
        LimitsCommand::List(watch) => list(pool, output, watch).await,
        LimitsCommand::Show(NameArg { name }) => show(pool, output, &name).await,
        LimitsCommand::Set(arguments) => {
            let asker = Asker::new(settings, database).await?;
            let limit = Limit::new(arguments.name.clone(), arguments.shape());
            let mut tx = db::begin(pool).await?;
            actions::set(&mut tx, &asker.door(), &limit).await?;
            tx.commit().await?;
            let json = limit_as_json(&limit, true);
            output.show(&json, || format!("{} is {}", limit.name, in_words(&limit.shape)))
        }
        LimitsCommand::Reset(NameArg { name }) => {
            let asker = Asker::new(settings, database).await?;
            let mut tx = db::begin(pool).await?;
            let limit = actions::reset(&mut tx, &asker.door(), &name).await?;
            tx.commit().await?;
            let json =
                json!({"name": name, "limit": limit.as_ref().map(|limit| limit_as_json(limit, false))});
            output.show(&json, || match &limit {
                Some(limit) => format!("{name} is {} again", in_words(&limit.shape)),
                None => format!("{name} is gone: nothing but an operator had made it"),
            })
        }
    }
}

async fn list(pool: &Pool, output: Output, watch: WatchArgs) -> Result<(), CliError> {
    watch
        .show(output, async || {
            let levels = levels(pool).await?;
            let json = levels.iter().map(as_json).collect();
            Ok(View { json, text: as_table(&levels) })
        })
        .await
}

async fn show(pool: &Pool, output: Output, name: &str) -> Result<(), CliError> {
    let levels: Vec<Level> =
        levels(pool).await?.into_iter().filter(|level| level.limit.name == name).collect();
    let Some(first) = levels.first() else {
        return Err(CliError::NotFound(format!(
            "no limit is called {name:?}; `millpond limits list` shows all"
        )));
    };
    let mut json = limit_as_json(&first.limit, first.edited);
    json["buckets"] = levels.iter().map(as_json).collect();
    output.show(&json, || as_outline(&json, 0))
}

fn limit_as_json(limit: &Limit, edited: bool) -> Value {
    let mut json = shape_as_json(&limit.shape);
    json["name"] = limit.name.as_ref().into();
    json["isEdited"] = edited.into();
    json
}

fn as_json(level: &Level) -> Value {
    let mut json = limit_as_json(&level.limit, level.edited);
    json["key"] = level.key.clone().into();
    json["used"] = level.used.into();
    json["reserved"] = level.reserved.into();
    json["endsAt"] = level.ends_at.map(instant).into();
    json["blockedUntil"] = level.blocked_until.map(instant).into();
    json
}

fn in_words(shape: &Shape) -> String {
    match *shape {
        Shape::Rate { max, window } => format!("{max} calls in {window:?}"),
        Shape::Concurrency { max } => format!("{max} calls at once"),
        Shape::Budget { max_minor, period: Period::Day } => format!("{max_minor} minor units a day"),
        Shape::Budget { max_minor, period: Period::Month } => format!("{max_minor} minor units a month"),
    }
}

fn as_table(levels: &[Level]) -> String {
    if levels.is_empty() {
        return "there is no limit".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["LIMIT", "KEY", "BOUND", "USED", "RESERVED", "ENDS", "BLOCKED UNTIL", "SET BY HAND"]);
    for level in levels {
        let at = |at: Option<chrono::DateTime<chrono::Utc>>| at.map_or_else(|| "-".to_owned(), instant);
        table.add_row([
            level.limit.name.to_string(),
            if level.key.is_empty() { "-".to_owned() } else { level.key.clone() },
            in_words(&level.limit.shape),
            level.used.to_string(),
            level.reserved.to_string(),
            at(level.ends_at),
            at(level.blocked_until),
            if level.edited { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table.trim_fmt()
}
