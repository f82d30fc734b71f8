//! `millpond sandbox`: the fakes of all vendors, alone, for processes that are tried out separately.

use std::net::SocketAddr;

use clap::Args;
use sandbox::SandboxOptions;

use crate::cli::Globals;
use crate::error::CliError;
use crate::output::{Output, tell};
use crate::runtime::vendor::SANDBOX_LISTEN;
use crate::runtime::{Signals, settings};

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `ready url=http://HOST:PORT` when it serves; GET / there lists what it can do. Its controls have no
authentication: do not let it listen on a network.

Example:
  millpond sandbox --listen 127.0.0.1:8081")]
pub(crate) struct SandboxArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value_t = SANDBOX_LISTEN)]
    listen: SocketAddr,
    /// Where the mail server listens [default: a free port of this machine]
    #[arg(long, value_name = "HOST:PORT")]
    smtp_listen: Option<SocketAddr>,
    /// The bearer token that the fake vendors accept [default: sandbox-token]
    #[arg(long)]
    token: Option<String>,
}

/// Serves the fakes until told to stop.
pub(crate) async fn run(globals: &Globals, arguments: SandboxArgs) -> Result<(), CliError> {
    let _ = settings::for_process(globals, None)?;
    let mut signals = Signals::listen()?;
    let defaults = SandboxOptions::default();
    let token = arguments.token.unwrap_or(defaults.token);
    let options = SandboxOptions {
        listen: arguments.listen,
        smtp_listen: arguments.smtp_listen.unwrap_or(defaults.smtp_listen),
        token: token.clone(),
    };
    let sandbox = sandbox::start(options).await.map_err(|error| CliError::part("the sandbox", error))?;
    tell(&format!(
        "For the other processes:\n  export MILLPOND_METER__URL={}\n  export MILLPOND_METER__TOKEN={token}\n  \
         export MILLPOND_SMTP__URL={}\n  export MILLPOND_WEBHOOKS__ALLOW_LOOPBACK=true",
        sandbox.meter_url(),
        sandbox.smtp_url()
    ));
    Output::new(globals.json).ready(&sandbox.url(), Some(&sandbox.url()));
    signals.asked().await;
    sandbox.shutdown().await;
    Ok(())
}
