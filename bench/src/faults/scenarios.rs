//! What is done to workers, server and network, each on a stage of its own.

mod batch;
mod blocking;
mod cutting;
mod draining;
mod freezing;
mod idling;
mod killing;
mod poisoning;
mod redriving;
mod restarting;
mod terminating;
mod upgrading;

use futures::future::LocalBoxFuture;

use super::stage::{Report, Stage};

/// One thing that goes wrong, and what must hold all the same.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    play: fn(Stage) -> LocalBoxFuture<'static, anyhow::Result<Report>>,
}

impl Scenario {
    /// Plays it.
    ///
    /// # Errors
    /// When something that must hold does not; what the checker found is in the report.
    pub async fn play(&self, stage: Stage) -> anyhow::Result<Report> {
        (self.play)(stage).await
    }
}

/// A line of the list.
macro_rules! scenario {
    ($module:ident, $about:literal) => {
        Scenario { name: stringify!($module), about: $about, play: |stage| Box::pin($module::play(stage)) }
    };
}

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario!(killing, "kill -9 of random workers under load"),
    scenario!(freezing, "SIGSTOP past the lease, then SIGCONT"),
    scenario!(restarting, "immediate restarts of PostgreSQL under load"),
    scenario!(terminating, "all connections terminated every two seconds"),
    scenario!(cutting, "a network that cuts, falls silent and loses answers"),
    scenario!(poisoning, "jobs that abort their process"),
    scenario!(blocking, "handlers that block their thread or never return"),
    scenario!(idling, "an idle transaction beside a load"),
    scenario!(draining, "SIGTERM under load"),
    scenario!(upgrading, "a worker of the next version beside old ones"),
    scenario!(redriving, "dead jobs redriven in bulk by workers that are killed over it"),
    scenario!(batch, "a batch with failures, cancelled half-way, its workers killed"),
];

/// The one of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
