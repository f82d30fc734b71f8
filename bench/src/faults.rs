//! The engine under fire: real worker processes on a real server, things done to both, and a checker over what was
//! accepted, started, effected and finished.
//!
//! Scenarios are library code in two sizes, so that the suite plays them small and `bench -- faults --long` in full.

pub mod kinds;
pub mod ledger;
mod load;
pub mod process;
mod proxy;
pub mod scenarios;
mod server;
pub mod stage;
pub mod worker;

use std::process::Command;

use anyhow::{Context, ensure};

use process::Launcher;
use scenarios::{ALL, Scenario};
use server::PrivateServer;
use stage::{Report, Size, Stage};

/// `bench faults`: what is played, and in what size.
#[derive(Debug, Clone, clap::Args)]
pub struct FaultsArgs {
    /// Full sizes, each scenario alone, instead of those of the test suite.
    #[arg(long)]
    pub long: bool,
    /// Play these only.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub only: Vec<String>,
}

/// Plays scenarios one after the other, each on a database of its own, and tells what came of them.
///
/// # Errors
/// When something that must hold did not, after all have been played.
pub async fn run(args: &FaultsArgs) -> anyhow::Result<()> {
    for name in &args.only {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        ensure!(
            scenarios::find(name).is_some(),
            "no scenario is called {name}; there are: {}",
            names.join(", ")
        );
    }
    let size = if args.long { Size::Long } else { Size::Suite };
    let program = std::env::current_exe().context("finding this program")?;
    let launcher = Launcher::new(move || {
        let mut command = Command::new(&program);
        command.arg(worker::SUBCOMMAND);
        command
    });
    let server = PrivateServer::start().await?;
    let mut failed = Vec::new();
    for scenario in
        ALL.iter().filter(|one| args.only.is_empty() || args.only.iter().any(|name| name == one.name))
    {
        eprintln!("{}: {}", scenario.name, scenario.about);
        let stage = Stage {
            url: server.create_database(scenario.name).await?,
            launcher: launcher.clone(),
            size,
            sessions: true,
            tells: true,
        };
        if !play(scenario, stage).await {
            failed.push(scenario.name);
        }
    }
    server.stop().await?;
    ensure!(failed.is_empty(), "did not hold: {}", failed.join(", "));
    Ok(())
}

/// Plays one and tells what came of it; answers whether all is well.
async fn play(scenario: &Scenario, stage: Stage) -> bool {
    let began = std::time::Instant::now();
    let played = scenario.play(stage).await;
    let seconds = began.elapsed().as_secs_f64();
    match played {
        Ok(Report { findings, notes }) => {
            eprintln!("{}", findings.table());
            for (what, figure) in notes {
                eprintln!("    {what}: {figure}");
            }
            for example in &findings.examples {
                eprintln!("    {example}");
            }
            eprintln!("  {} in {seconds:.0} s", if findings.is_good() { "holds" } else { "DOES NOT HOLD" });
            findings.is_good()
        }
        Err(error) => {
            eprintln!("  DOES NOT HOLD, after {seconds:.0} s: {error:#}");
            false
        }
    }
}
