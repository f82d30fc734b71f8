//! `millpond schedules …`: what runs when. Schedulers see a change within half a second.

mod render;

use clap::{Args, Subcommand};
use config::Settings;
use db::Pool;
use jobs::schedules as actions;
use queue::Waker;
use schedules::{Change, Missed, database_now};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::commands::duration::Span;
use crate::commands::jobs::instant;
use crate::commands::watching::{View, WatchArgs};
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::{Asker, Database, settings};

/// Most ticks shown at once.
const COUNT_MAX: i64 = 1_000;

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum SchedulesCommand {
    /// Show all schedules: when they tick, what they did last, what was missed
    List(WatchArgs),
    /// Show one schedule, its next ticks and what became of its last
    Show(ShowArgs),
    /// Change a schedule, or make a new one
    Set(SetArgs),
    /// Stop a schedule; ticks until it goes on are not made up for
    Pause(NameArg),
    /// Let a schedule tick on, from now
    Resume(NameArg),
    /// Store a job of the schedule now, beside its ticks
    Run(NameArg),
    /// Show when a cron line would fire, without storing anything
    Preview(PreviewArgs),
    /// Make one of the program's own schedules what it was before it was edited
    Reset(NameArg),
    /// Remove a schedule that was made with `set`
    Remove(NameArg),
}

/// Which schedule.
#[derive(Debug, Args)]
pub(crate) struct NameArg {
    /// The schedule's name
    name: String,
}

/// Arguments of `schedules show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The schedule's name
    name: String,
    /// How many ticks, of those to come and of those that were
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=COUNT_MAX))]
    count: i64,
}

/// Arguments of `schedules set`.
#[derive(Debug, Args)]
#[command(after_help = "\
A cron line has five fields: minute, hour, day of month, month, day of week (Sunday is 0 or 7); or six, with seconds
in front. A field is *, numbers, names (mon, jan), ranges (9-17) and lists (1,15), with steps on ranges (*/5, 0-30/10).
When day of month and day of week are both given, either is enough.

Over changes of the clock, a line that names its hours runs once for each of its times: a time that is skipped at the
end of the gap, a time that is repeated only the first time. With * in the hours it follows real time.

Examples:
  millpond schedules set nightly-prune --kind maintenance.prune_jobs --cron '0 4 * * *' --time-zone Asia/Ho_Chi_Minh
  millpond schedules set maintenance.prune_jobs --cron '*/30 * * * *' --missed backfill:3 --jitter 30s
  millpond schedules preview '30 2 * * *' --time-zone Europe/Berlin")]
pub(crate) struct SetArgs {
    /// The schedule's name
    name: String,
    /// When: a cron line of five or six fields
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    cron: Option<String>,
    /// The zone that the line is read in, such as Asia/Ho_Chi_Minh [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// The kind of job, such as maintenance.prune_jobs; a new schedule needs one
    #[arg(long)]
    kind: Option<String>,
    /// The job's arguments, a JSON object [default: {}]
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    args: Option<Value>,
    /// Ticks that no scheduler stored in time: skip, once or backfill:N [default: once]
    #[arg(long, value_name = "POLICY")]
    missed: Option<Missed>,
    /// How long after its tick a job may begin: 500ms, 30s, 5m, 1h [default: 0s]
    #[arg(long, value_name = "TIME")]
    jitter: Option<Span>,
}

/// Arguments of `schedules preview`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millpond schedules preview '17 * * * *' --time-zone Asia/Ho_Chi_Minh
  millpond schedules preview '30 2 * * *' --time-zone Europe/Berlin --count 400")]
pub(crate) struct PreviewArgs {
    /// A cron line of five or six fields
    #[arg(value_name = "LINE", allow_hyphen_values = true)]
    cron: String,
    /// The zone that it is read in
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// How many ticks
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=COUNT_MAX))]
    count: i64,
    /// After this time instead of now, such as 2026-03-28T00:00:00Z
    #[arg(long, value_name = "TIME")]
    after: Option<chrono::DateTime<chrono::Utc>>,
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// Carries the command out.
pub(crate) async fn run(globals: &Globals, command: SchedulesCommand) -> Result<(), CliError> {
    let output = Output::new(globals.json);
    // Nothing is asked of the database, unless for the time.
    if let SchedulesCommand::Preview(PreviewArgs { after: Some(after), .. }) = &command {
        let after = *after;
        return preview(output, &command, after);
    }
    let settings = settings::for_command(globals)?;
    let database = Box::pin(Database::for_command(&settings)).await?;
    let result = act(&settings, &database, output, command).await;
    let closed = database.close().await;
    result.and(closed)
}

async fn act(
    settings: &Settings,
    database: &Database,
    output: Output,
    command: SchedulesCommand,
) -> Result<(), CliError> {
    let pool = &database.pool;
    let asker = || Asker::new(settings, database);
    match command {
        SchedulesCommand::List(watch) => list(pool, output, watch).await,
        SchedulesCommand::Show(ShowArgs { name, count }) => show(pool, output, &name, count).await,
        SchedulesCommand::Run(NameArg { name }) => run_now(pool, output, &asker().await?, &name).await,
        SchedulesCommand::Preview(_) => {
            let mut conn = pool.acquire().await?;
            let now = database_now(&mut conn).await?;
            preview(output, &command, now)
        }
        changing => change(pool, output, &asker().await?, changing).await,
    }
}

async fn list(pool: &Pool, output: Output, watch: WatchArgs) -> Result<(), CliError> {
    watch
        .show(output, async || {
            let mut conn = pool.acquire().await?;
            let schedules = actions::list(&mut conn).await?;
            Ok(View {
                json: schedules.iter().map(render::as_json).collect(),
                text: render::as_table(&schedules),
            })
        })
        .await
}

async fn show(pool: &Pool, output: Output, name: &str, count: i64) -> Result<(), CliError> {
    let mut conn = pool.acquire().await?;
    let (shown, ticks) = actions::show(&mut conn, name, count).await?;
    let now = database_now(&mut conn).await?;
    let next = render::next_ticks(&shown, now, usize::try_from(count).unwrap_or_default());
    let mut json = render::as_json(&shown);
    json["nextTicks"] = next.iter().map(|tick| Value::from(instant(*tick))).collect();
    json["ticks"] = ticks.iter().map(render::tick_as_json).collect();
    output.show(&json, || render::as_text(&shown, &next, &ticks))
}

fn preview(
    output: Output,
    command: &SchedulesCommand,
    after: chrono::DateTime<chrono::Utc>,
) -> Result<(), CliError> {
    let SchedulesCommand::Preview(arguments) = command else { return Ok(()) };
    let count = usize::try_from(arguments.count).unwrap_or_default();
    let preview = actions::preview(&arguments.cron, &arguments.time_zone, after, count)?;
    let ticks: Vec<Value> = preview
        .ticks
        .iter()
        .map(|tick| json!({"local": render::local(*tick, preview.zone), "utc": instant(*tick)}))
        .collect();
    let json = json!({"words": preview.words, "timeZone": preview.zone.name(), "ticks": ticks});
    output.show(&json, || render::preview_as_text(&preview))
}

async fn run_now(pool: &Pool, output: Output, asker: &Asker, name: &str) -> Result<(), CliError> {
    let mut tx = db::begin(pool).await?;
    let run = actions::run_now(&mut tx, jobs::ALL, name, &asker.door()).await?;
    tx.commit().await?;
    let waker = Waker::new();
    waker.wake(run.queue);
    waker.tell_now(pool).await;
    let json = json!({"name": name, "jobId": run.job, "at": instant(run.at)});
    output.show(&json, || format!("{} runs for {name}; `millpond jobs show {0}` says how it ends", run.job))
}

async fn change(
    pool: &Pool,
    output: Output,
    asker: &Asker,
    command: SchedulesCommand,
) -> Result<(), CliError> {
    let door = &asker.door();
    let mut tx = db::begin(pool).await?;
    let (schedule, done) = match command {
        SchedulesCommand::Set(arguments) => {
            let SetArgs { name, cron, time_zone, kind, args, missed, jitter } = arguments;
            // Too long is told with the other faults.
            let jitter_ms = jitter.map(|Span(jitter)| u32::try_from(jitter.as_millis()).unwrap_or(u32::MAX));
            let change = Change { cron, time_zone, kind, args, missed, jitter_ms, enabled: None };
            if change == Change::default() {
                return Err(CliError::Usage(
                    "say what to set: --cron, --time-zone, --kind, --args, --missed or --jitter".to_owned(),
                ));
            }
            (actions::change(&mut tx, jobs::ALL, &name, &change, door).await?, "is set")
        }
        SchedulesCommand::Pause(NameArg { name }) => {
            (actions::pause(&mut tx, jobs::ALL, &name, door).await?, "is paused")
        }
        SchedulesCommand::Resume(NameArg { name }) => {
            (actions::resume(&mut tx, jobs::ALL, &name, door).await?, "goes on")
        }
        SchedulesCommand::Reset(NameArg { name }) => {
            (actions::reset(&mut tx, jobs::ALL, &name, door).await?, "is what the program says again")
        }
        SchedulesCommand::Remove(NameArg { name }) => {
            actions::remove(&mut tx, &name, door).await?;
            tx.commit().await?;
            return output.show(&json!({"name": name, "isRemoved": true}), || format!("{name} is removed"));
        }
        _ => return Ok(()),
    };
    let (shown, _) = actions::show(&mut tx, &schedule.name, 0).await?;
    tx.commit().await?;
    output.show(&render::as_json(&shown), || {
        let words = render::words(&shown);
        let next = schedule.next_at.map_or_else(
            || "it does not tick".to_owned(),
            |next| format!("next at {}", render::local_of(&shown, next)),
        );
        format!("{} {done}: {words}; {next}", schedule.name)
    })
}
