//! The command line: what can be asked of the binary. Each command's own arguments stand beside its body in
//! `commands`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    audit, config, dead, demo, health, jobs, limits, overview, partners, queues, requests, sandbox,
    schedules, serve, tenants, up, users, worker, workers,
};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  millpond demo         see all of it at work on made-up profiles; nothing to set up
  millpond up           run everything in one process, with a PostgreSQL of its own
  millpond partners create --code acme --name 'Acme Ltd' --subscription premium
                        make a partner and show its key, also while `up` runs
  millpond jobs list --status failed
                        what went wrong; `jobs show ID` says why, `jobs retry ID` tries again

With a PostgreSQL of your own, and each role a process, in any number:
  export DATABASE_URL=postgres://user:password@host/name
  export MILLPOND_ENCRYPTION__KEYS=\"$(millpond config --generate-key)\"
  export MILLPOND_METER__URL=https://… MILLPOND_METER__TOKEN=…
  millpond migrate
  millpond api & millpond worker & millpond scheduler &

Every setting is a variable; `millpond config` shows them all with their values.";

/// Millpond: durable jobs for influencer and partner marketing, on PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "millpond", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where the private PostgreSQL and the encryption keys live [default: see `millpond config`]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, and it is used up at once")]
pub(crate) enum Command {
    /// See the whole path at work: from a list of creators to verified callbacks
    Demo(demo::DemoArgs),
    /// Run API, workers and scheduler in this one process
    Up(up::UpArgs),
    /// Run the HTTP API alone
    Api(serve::ApiArgs),
    /// Run workers alone
    Worker(worker::WorkerArgs),
    /// Run the scheduler alone; any number may run at once
    Scheduler,
    /// Run the fakes of all vendors, and a webhook receiver, alone
    Sandbox(sandbox::SandboxArgs),
    /// Bring the database's schema to this version
    Migrate,
    /// Partners, their API keys and webhook secrets
    #[command(subcommand)]
    Partners(partners::PartnersCommand),
    /// Look at jobs, try them again, call them off
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Look at jobs that failed, in groups; give many of them another life
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Follow one request by its id
    #[command(subcommand)]
    Requests(requests::RequestsCommand),
    /// Look at queues; pause, resume and drain them
    #[command(subcommand)]
    Queues(queues::QueuesCommand),
    /// Ask a process whether it is well; for health checks
    Health(health::HealthArgs),
    /// Look at schedules and their ticks; change, pause and run them
    #[command(subcommand)]
    Schedules(schedules::SchedulesCommand),
    /// Look at limits on what jobs use of others; change and reset them
    #[command(subcommand)]
    Limits(limits::LimitsCommand),
    /// Look at worker processes; quiet, resume and stop them
    #[command(subcommand)]
    Workers(workers::WorkersCommand),
    /// Look at everyone's share of the workers; change it
    #[command(subcommand)]
    Tenants(tenants::TenantsCommand),
    /// See the whole at a glance
    Overview(overview::OverviewArgs),
    /// See who changed what, and check that the log of it is whole
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// People who may sign in, and their roles
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Show the effective settings, secrets masked
    Config(config::ConfigArgs),
}

impl Cli {
    /// Reads the arguments. What is to be shown instead (help, or what is wrong) has been shown when this answers an
    /// exit code.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        Self::try_parse_from(&arguments).map_err(|error| {
            if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") {
                return output::usage_as_json(&error.render().to_string());
            }
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Nobody is left to be told when even this cannot be written.
            let _ = error.print();
            ExitCode::from(code)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_for_all_commands_may_stand_anywhere() {
        for line in ["millpond --json jobs list", "millpond jobs list --json", "millpond jobs --json list"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.globals.json, "{line}");
        }
    }
}
