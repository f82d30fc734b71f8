//! The demonstration: from a list of creators to verified callbacks, over real HTTP, with a private PostgreSQL and
//! made-up profiles.
//!
//! Guarantees: it uses no database and no vendor that the environment names; what it reports was seen from outside,
//! as a partner sees it; it waits for nothing without a bound; what it started has ended when it ends, and a data
//! folder that nobody asked to keep is gone, also after `kill -9`.

mod checks;
mod list;
mod partner;
mod progress;
mod receiver;
mod report;
mod submit;
mod table;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use api::Listener;
use config::Settings;
use kernel::sealing::Keyring;
use queue::Queue;
use tempfile::TempDir;

use crate::cli::Globals;
use crate::commands::demo::DemoArgs;
use crate::commands::serve;
use crate::error::CliError;
use crate::output::{Output, tell};
use crate::runtime::vendor::free_port;
use crate::runtime::{Database, House, Roles, Schema, Signals, Vendor, settings};

use list::List;
use partner::Partner;
use progress::Progress;
use receiver::Receiver;
use report::{Addresses, Report};

/// Runs it.
pub(crate) async fn run(globals: &Globals, arguments: &DemoArgs) -> Result<(), CliError> {
    let list = List::load(arguments.file.as_deref())?;
    let folder = Folder::of(globals)?;
    let settings = settings(globals, &folder)?;
    let mut signals = Signals::listen()?;
    tell("starting PostgreSQL, the API, workers, the scheduler and the sandbox …");
    let (house, url) = tokio::select! {
        started = Box::pin(start(&settings, folder.is_temporary())) => started?,
        () = signals.asked() => return Err(CliError::Interrupted),
    };
    let played = tokio::select! {
        played = Box::pin(play(&house, &url, &list)) => played,
        failure = house.failure() => Err(failure),
        () = signals.asked() => Err(CliError::Interrupted),
    };
    let mut result = played.and_then(|report| show(&report, Output::new(globals.json)));
    if !arguments.exit && matches!(result, Ok(()) | Err(CliError::Demo(_))) {
        if let Err(error) = &result {
            tell(&format!("error: {error}"));
        }
        tell("Everything keeps running; Ctrl-C ends it.");
        tokio::select! {
            () = signals.asked() => {}
            failure = house.failure() => result = result.and(Err(failure)),
        }
    }
    let stopped = signals.or_impatience(house.stop()).await;
    drop(folder);
    result.and(stopped)
}

/// Where the demonstration keeps its data.
enum Folder {
    /// A folder that stays.
    Kept(PathBuf),
    /// A folder that goes.
    Temporary(TempDir),
}

impl Folder {
    fn of(globals: &Globals) -> Result<Self, CliError> {
        if let Some(path) = &globals.data_dir {
            return Ok(Self::Kept(path.clone()));
        }
        let made = tempfile::Builder::new().prefix("millpond-demo-").tempdir();
        made.map(Self::Temporary).map_err(CliError::file("make a folder in", &std::env::temp_dir()))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Kept(path) => path.clone(),
            Self::Temporary(folder) => folder.path().to_path_buf(),
        }
    }

    fn is_temporary(&self) -> bool {
        matches!(self, Self::Temporary(_))
    }
}

/// The settings of the environment, without the database, vendors and keys that it may name.
fn settings(globals: &Globals, folder: &Folder) -> Result<Settings, CliError> {
    let sources = settings::sources(globals, Some(free_port()))
        .with("data.dir", folder.path().to_string_lossy())
        .with("database.url", "")
        .with("meter.url", "")
        .with("meter.token", "")
        .with("encryption.keys", "");
    let settings = settings::load(&sources)?;
    // The report is what matters here, and the sandbox's faults are on purpose.
    settings::start_going_on(&settings, "error")?;
    Ok(settings)
}

/// Starts the house, and makes its sandbox misbehave a little.
async fn start(settings: &Settings, temporary: bool) -> Result<(House, String), CliError> {
    let database = Box::pin(Database::open(settings, Schema::Migrate, temporary)).await?;
    let prepared = prepare(settings, &database).await;
    let (database, (keyring, vendor, listener, url)) = database.unless_failed(prepared).await?;
    let roles = Roles { api: Some(listener), queues: Queue::ALL.to_vec(), schedules: true };
    Ok((House::start(settings, database, Arc::new(keyring), vendor, roles).await?, url))
}

async fn prepare(
    settings: &Settings,
    database: &Database,
) -> Result<(Keyring, Vendor, Listener, String), CliError> {
    if database.is_attached() {
        return Err(CliError::Refused(format!(
            "another process uses the data folder {}: the demonstration wants one for itself, because its profiles \
             are made up; leave --data-dir out, or name another",
            settings.data.dir.display()
        )));
    }
    let keyring = database.keys(settings).await?;
    let vendor = Vendor::sandbox(settings, &[free_port()]).await?;
    let (listener, url) = serve::listen(settings).await?;
    Ok((keyring, vendor, listener, url))
}

/// The play: a partner asks for every creator and is told of each.
async fn play(house: &House, url: &str, list: &List) -> Result<Report, CliError> {
    let sandbox = house.vendor.sandbox_url().unwrap_or_default();
    let credentials = partner::obtain(house).await?;
    let receiver = Receiver::start(&credentials.webhook_secret).await?;
    let partner = Partner::new(url, &credentials)?;
    trouble::begin(&partner, &sandbox, list).await?;

    let began = Instant::now();
    let mut progress = Progress::new(list.rows.len());
    let asked = submit::submit(&partner, list, &receiver.url(), &progress).await;
    let waited = receiver.wait_for(&asked, &mut progress).await;
    progress.finish();
    let took = began.elapsed();

    let outcomes = submit::outcomes(&partner, asked, &receiver).await;
    let calls = trouble::calls(&partner, &sandbox).await?;
    let faults = checks::faults(&outcomes, waited, receiver.nameless());
    receiver.stop().await;
    let addresses = Addresses::new(url, &sandbox, &credentials);
    Ok(Report { outcomes, faults, calls, took, addresses })
}

fn show(report: &Report, output: Output) -> Result<(), CliError> {
    output.show(&report.as_json(), || report.as_text())?;
    if report.faults.is_empty() { Ok(()) } else { Err(CliError::Demo(report.faults.clone())) }
}
