//! The commands, one file each: its arguments, and its body.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod duration;
mod explain;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod migrate;
pub(crate) mod overview;
pub(crate) mod partners;
pub(crate) mod queues;
pub(crate) mod requests;
pub(crate) mod sandbox;
pub(crate) mod scheduler;
pub(crate) mod schedules;
pub(crate) mod serve;
pub(crate) mod tenants;
pub(crate) mod up;
pub(crate) mod users;
pub(crate) mod watching;
pub(crate) mod worker;
pub(crate) mod workers;

use crate::cli::{Cli, Command};
use crate::error::CliError;

/// Carries out what the command line asks for.
pub(crate) async fn run(cli: Cli) -> Result<(), CliError> {
    let globals = cli.globals;
    match cli.command {
        Command::Demo(arguments) => Box::pin(demo::run(&globals, arguments)).await,
        Command::Up(arguments) => Box::pin(up::run(&globals, arguments)).await,
        Command::Api(arguments) => Box::pin(serve::run(&globals, arguments)).await,
        Command::Worker(arguments) => Box::pin(worker::run(&globals, arguments)).await,
        Command::Scheduler => Box::pin(scheduler::run(&globals)).await,
        Command::Sandbox(arguments) => Box::pin(sandbox::run(&globals, arguments)).await,
        Command::Migrate => Box::pin(migrate::run(&globals)).await,
        Command::Partners(command) => Box::pin(partners::run(&globals, command)).await,
        Command::Queues(command) => Box::pin(queues::run(&globals, command)).await,
        Command::Jobs(command) => Box::pin(jobs::run(&globals, command)).await,
        Command::Requests(command) => Box::pin(requests::run(&globals, command)).await,
        Command::Dead(command) => Box::pin(dead::run(&globals, command)).await,
        Command::Health(arguments) => health::run(&globals, arguments).await,
        Command::Schedules(command) => Box::pin(schedules::run(&globals, command)).await,
        Command::Limits(command) => Box::pin(limits::run(&globals, command)).await,
        Command::Workers(command) => Box::pin(workers::run(&globals, command)).await,
        Command::Tenants(command) => Box::pin(tenants::run(&globals, command)).await,
        Command::Overview(arguments) => Box::pin(overview::run(&globals, arguments)).await,
        Command::Audit(command) => Box::pin(audit::run(&globals, command)).await,
        Command::Users(command) => Box::pin(users::run(&globals, command)).await,
        Command::Config(arguments) => config::run(&globals, &arguments),
    }
}
